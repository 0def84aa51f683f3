"""A run of thousands of fake trials on a cluster of hundreds of slots: what it costs the driver and the store.

    python -m tests.performance.cluster_scale [--trials 10000] [--slots 200] [--seconds 10] [--json FILE]

Real are the server (a process of its own), the plan, `submit` with its scheduler and its record of the run (in this
process), and all that a supervisor asks of the store: it takes the trial, renews the lease, and has its records
delivered. Fake are the trials, which compute nothing and last SECONDS, a tenth more or less, and the cluster: a few
processes with many slots each in place of Ray, whose own work is not measured. `--reads` also reads items and parents'
predictions for each trial, as a supervisor does that has none of them yet.

Beside the run, once every `--look` seconds, commands that people use are run, each a process of its own.

The ideal schedule starts a trial as soon as a slot is free and its parents are done, the longest chains first, and
loses no time between trials.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil

from tests.performance.cluster_nodes import Setting, Tally, seconds_of
from tests.performance.fake_cluster import FakeCluster
from tests.store.servers import Process, asking_with, token_in, with_roots
from wtsbench.errors import StoreError
from wtsbench.execution import session as sessions
from wtsbench.execution.events import Done, Event, Started
from wtsbench.execution.session import Options, Session, prepare, submit
from wtsbench.spec.provenance import cpu_name
from wtsbench.spec.trial import TrialSpec

PAIRS = [("nano-1", "nano-2"), ("nano-1", "nano-3"), ("nano-2", "nano-3")]
STRATEGIES = ["naive", "logconf", "entropy", "product", "adaptconf", "window", "confidence_filter"]
TRIALS_OF_A_SEED = 25
"""Weak models and ceilings 2 each, and 7 students of each pair."""
LOOKS = {"status": ["status", "--json"], "runs": ["runs", "--json"], "leaderboard": ["leaderboard", "--json"]}
"""Commands beside the run."""
_MARKS = (0.1, 0.5, 1.0)
"""Shares of the run at which the driver's memory is read."""


@dataclass
class Watch:
    """The listener of the run: counts, and reads the driver's memory on the way."""

    total: int
    done: int = 0
    started_cpu_s: float | None = None
    """CPU seconds of the driver when the first trial was started."""
    rss_bytes: dict[str, int] = field(default_factory=dict)
    """Of the driver, by share of the trials that are done."""

    def __call__(self, event: Event) -> None:
        """Something happened."""
        if isinstance(event, Started) and self.started_cpu_s is None:
            self.started_cpu_s = time.process_time()
        if isinstance(event, Done):
            self.done += 1
            for mark in _MARKS:
                if self.done == max(1, int(mark * self.total)):
                    self.rss_bytes[f"{mark:.0%}"] = psutil.Process().memory_info().rss


def grid_of(trials: int) -> dict[str, Any]:
    """A grid of about so many trials of the smallest task."""
    return {
        "apiVersion": "wtsbench/v1",
        "name": "scale",
        "tasks": ["safety-mini"],
        "pairs": [{"weak": weak, "strong": strong} for weak, strong in PAIRS],
        "strategies": STRATEGIES,
        "seeds": list(range(max(1, round(trials / TRIALS_OF_A_SEED)))),
    }


def ideal_seconds(specs: Sequence[TrialSpec], seconds: Mapping[str, float], slots: int) -> float:
    """The length of the ideal schedule.

    Args:
        specs: parents before their children.
        seconds: of each trial.
        slots: trials at once.
    """
    chain = dict(seconds)
    for spec in reversed(specs):
        for parent in spec.parents:
            chain[parent] = max(chain[parent], seconds[parent] + chain[spec.trial_id])
    children: dict[str, list[str]] = {spec.trial_id: [] for spec in specs}
    missing = {spec.trial_id: len(set(spec.parents)) for spec in specs}
    for spec in specs:
        for parent in set(spec.parents):
            children[parent].append(spec.trial_id)
    ready = [(-chain[key], key) for key, count in missing.items() if not count]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            key = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + seconds[key], key))
        now, ended = heapq.heappop(running)
        for child in children[ended]:
            missing[child] -= 1
            if not missing[child]:
                heapq.heappush(ready, (-chain[child], child))
    return now


@contextmanager
def _looking(every: float) -> Iterator[dict[str, list[dict[str, float]]]]:
    """Run the commands of LOOKS again and again while the block runs; their seconds of clock and CPU."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in LOOKS}
    over = threading.Event()

    def look() -> None:
        while not over.wait(every):
            for name, words in LOOKS.items():
                found[name].append(_look(words))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def _look(words: Sequence[str]) -> dict[str, float]:
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "wtsbench_cli", *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise StoreError(f"`wtsbench {' '.join(words)}` ended with {process.returncode}")
    return {"clock_s": time.monotonic() - begun, "cpu_s": used.ru_utime + used.ru_stime}


def measure(trials: int, slots: int, seconds: float, *, look: float, reads: bool = False) -> dict[str, Any]:
    """Plan and run a grid, and say what it took.

    Args:
        trials: about so many.
        slots: trials at once.
        seconds: how long one computes.
        look: seconds between two looks of people.
        reads: whether supervisors read items and parents' predictions.
    """
    with tempfile.TemporaryDirectory(prefix="wtsbench-measure-") as scratch, _spool() as spool:
        folder = Path(scratch) / "store"
        folder.mkdir()
        token = token_in(folder, "append")
        server = Process(folder)
        environment = {"WTSBENCH_CACHE": f"{scratch}/cache", "WTSBENCH_SPOOL": f"{scratch}/spool"}
        environment |= {"WTSBENCH_STORE": server.listen, "PYTHONPATH": with_roots()["PYTHONPATH"]}
        try:
            with asking_with(token), mock.patch.dict(os.environ, environment):
                grid = Path(scratch) / "scale.yaml"
                grid.write_text(json.dumps(grid_of(trials)))
                setting = Setting(seconds=seconds, spool=spool, reads=reads)
                assert server.process is not None
                return _run(grid, server.listen, slots, setting, psutil.Process(server.process.pid), look)
        finally:
            server.stop(signal.SIGTERM)


@contextmanager
def _spool() -> Iterator[str]:
    """Where nodes have their outboxes: in memory if possible, because nodes do not share a disk with the server."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="wtsbench-measure-", dir=memory if os.access(memory, os.W_OK) else None
    ) as folder:
        yield folder


def _run(grid: Path, store: str, slots: int, setting: Setting, server: psutil.Process, look: float) -> dict[str, Any]:
    cpu = time.process_time()
    session = prepare(grid, Options(store=store, sandbox="process", ray="fake"), note=lambda text: None)
    prepared = time.process_time() - cpu
    specs = list(session.plan.trials.values())
    durations = {spec.trial_id: seconds_of(spec.trial_id, setting.seconds) for spec in specs}
    cluster = FakeCluster(slots, setting)
    watch = Watch(len(specs))
    server_before, cpu = _cpu(server), time.process_time()

    def executor(session: Session, listener: Callable[[Event], None]) -> FakeCluster:
        return cluster

    with _looking(look) as looks, mock.patch.object(sessions, "_executor", executor):
        summary = submit(session, listener=watch, stop=threading.Event())
        ended = time.process_time()
        server_used = _cpu(server) - server_before
    if (summary.done, summary.failed, summary.blocked) != (len(specs), 0, 0):
        raise StoreError(f"not all trials were done: {summary}")
    begun = watch.started_cpu_s or ended
    ideal = ideal_seconds(specs, durations, slots)
    return {
        "trials": len(specs),
        "cells": len(session.plan.cells),
        "slots": slots,
        "seconds": setting.seconds,
        "reads": setting.reads,
        "wall_s": summary.seconds,
        "ideal_s": ideal,
        "bound_s": max(max(durations.values()), sum(durations.values()) / slots),
        "over_ideal": summary.seconds / ideal - 1,
        "prepare_cpu_s": prepared,
        "start_cpu_s": begun - cpu,
        "driver_cpu_ms": 1000 * (ended - begun) / len(specs),
        "driver_rss_bytes": watch.rss_bytes,
        "server_cpu_ms": 1000 * server_used / len(specs),
        "server_rss_bytes": server.memory_info().rss,
        "nodes_cpu_ms": 1000 * sum(tally.cpu_seconds for tally in cluster.tallies) / len(specs),
        "requests": _requests(cluster.tallies),
        "looks": looks,
        "load": os.getloadavg()[0],
    }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _requests(tallies: Sequence[Tally]) -> dict[str, dict[str, float]]:
    """How many requests of each kind, and how long they took."""
    found = {}
    for kind in sorted({kind for tally in tallies for kind in tally.waits}):
        waits = 1000 * np.concatenate([tally.waits.get(kind, []) for tally in tallies])
        found[kind] = {
            "requests": len(waits),
            "p50_ms": float(np.percentile(waits, 50)),
            "p99_ms": float(np.percentile(waits, 99)),
        }
    return found


def _show(found: Mapping[str, Any]) -> None:
    rss = ", ".join(f"{size / 2**20:.0f} at {mark}" for mark, size in found["driver_rss_bytes"].items())
    print(
        f"{found['trials']:,} trials of {found['seconds']:g} s on {found['slots']} slots: {found['wall_s']:.1f} s,"
        f" ideal {found['ideal_s']:.1f} s, {found['over_ideal']:+.1%}; load {found['load']:.1f}\n"
        f"CPU a trial: driver {found['driver_cpu_ms']:.2f} ms, server {found['server_cpu_ms']:.1f} ms, nodes"
        f" {found['nodes_cpu_ms']:.1f} ms; before the first, {found['prepare_cpu_s']:.1f} s to prepare and"
        f" {found['start_cpu_s']:.1f} s to begin\n"
        f"driver's memory in MiB: {rss}; server's {found['server_rss_bytes'] / 2**20:.0f}"
    )
    for kind, one in found["requests"].items():
        print(f"{kind:8} {one['requests']:7,.0f} requests  p50 {one['p50_ms']:7.1f} ms  p99 {one['p99_ms']:7.1f} ms")
    for name, looks in found["looks"].items():
        if looks:
            print(f"`wtsbench {name} --json`: " + ", ".join(f"{x['clock_s']:.1f} s ({x['cpu_s']:.1f})" for x in looks))


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--look", type=float, default=60.0, help="seconds between two looks of people")
    parser.add_argument("--reads", action="store_true", help="read items and parents' predictions for each trial")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    found = measure(asked.trials, asked.slots, asked.seconds, look=asked.look, reads=asked.reads)
    found["hardware"] = f"{cpu_name()}, {os.cpu_count()} cores"
    _show(found)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    _main()
