"""Seconds of CPU and memory of planning: a grid of so many trials, and a grid submitted again of which all is stored.

    python -m tests.performance.planning_speed [TRIALS] [--repeats N] [--json]

Names of the planned grid are resolved to made-up digests; nothing is trained. The grid that is submitted again has
1,050 trials of the embedded models, all of them in a store of fake trials; it is submitted as users do it, by
`wtsbench submit --quiet` in a process of its own, start included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.performance.fake_store import put_done
from tests.performance.part import apart, peak_of
from tests.planning.grids import make_grid, make_inputs, planned
from wtsbench.execution.session import Options, prepare
from wtsbench.planning.report import compare
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.folder import DATABASE, FolderStore
from wtsbench.store.lock import locked

STRATEGIES = ["naive", "logconf", "entropy", "product", "adaptconf", "window", "confidence_filter"]
CONTROLS = ["random_labels", "weak_equals_strong"]
PAIRS = [("small", "middle"), ("small", "large"), ("middle", "large")]
TRIALS_OF_A_TASK = 31_000
"""5 weak models and ceilings and 26 students and controls at 1,000 seeds each."""
AGAIN = {
    "apiVersion": "wtsbench/v1",
    "name": "again",
    "tasks": ["safety-mini"],
    "pairs": [{"weak": "nano-1", "strong": "nano-2"}],
    "strategies": ["naive", "logconf", "entropy", "product", "adaptconf"],
    "seeds": list(range(150)),
}


def plan_of(trials: int) -> dict[str, float]:
    """Plan a grid of about so many trials, and hold it against a store that has none of them."""
    grid = make_grid(
        tasks=[f"t{number}" for number in range(-(-trials // TRIALS_OF_A_TASK))],
        pairs=[{"weak": weak, "strong": strong} for weak, strong in PAIRS],
        strategies=STRATEGIES,
        controls=CONTROLS,
        seeds=list(range(1000)),
    )
    begun = time.process_time()
    plan = planned(grid, make_inputs(grid))
    ids = time.process_time()
    assert len(plan.grid_digest) == 64
    report = compare(plan, {})
    return {
        "trials": report.total,
        "cells": len(plan.cells),
        "plan_cpu_s": ids - begun,
        "all_cpu_s": time.process_time() - begun,
        "peak_bytes": peak_of("self"),
    }


def again(repeats: int) -> dict[str, float]:
    """Submit a grid of which all is stored, in a new process each time; the median."""
    with tempfile.TemporaryDirectory(prefix="wtsbench-measure-") as scratch:
        place, file = Path(scratch) / "store", Path(scratch) / "again.yaml"
        file.write_text(json.dumps(AGAIN))
        os.environ["WTSBENCH_CACHE"] = str(Path(scratch) / "cache")
        session = prepare(file, Options(store=str(place), sandbox="process"), note=lambda text: None)
        FolderStore(place).open(create=True)
        rows = {
            trial.trial_id: {
                "role": trial.spec.role.value,
                "task": trial.spec.task,
                "model": trial.spec.model.name,
                "strategy": None if trial.spec.strategy is None else trial.spec.strategy.name,
                "seed": trial.spec.seed,
                "data_digest": trial.spec.data_digest,
                "spec": trial.spec.model_dump_json(),
            }
            for trial in session.report.trials
        }
        with locked(place, shared=False), Engine.open(place / DATABASE, read_only=False) as engine:
            put_done(engine, rows, 1)
        command = [sys.executable, "-m", "wtsbench_cli", "submit", str(file), "--store", str(place), "--quiet"]
        runs = [
            _cpu_seconds([*command, "--sandbox", "process", "--executor", "in-process"]) for _ in range(repeats + 1)
        ]
    return {"trials": len(rows), "again_cpu_s": statistics.median(runs[1:])}  # the first keeps the grid and its items


def _cpu_seconds(command: list[str]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    return used.ru_utime + used.ru_stime


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("trials", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    every: dict[str, Any] = {"plan": apart(plan_of, asked.trials), "again": apart(again, asked.repeats)}
    plan, once_more = every["plan"], every["again"]
    print(
        f"plan of {plan['trials']:,} trials: {plan['plan_cpu_s']:.1f} s of CPU, {plan['all_cpu_s']:.1f} s with digest"
        f" and report, {plan['peak_bytes'] / 2**30:.2f} GiB at most"
    )
    print(f"submitted again, {once_more['trials']:,} trials, all stored: {once_more['again_cpu_s']:.2f} s of CPU")
    if asked.json:
        print(json.dumps(every, indent=2))


if __name__ == "__main__":
    _main()
