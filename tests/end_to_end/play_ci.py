"""Plays CI's part: a strategy in a package of its own is changed, run and gated, again and again, by the command line.

    python -m tests.end_to_end.play_ci [--trained 2] [--repeats 20]

Every step says what it did, how long it took, and which exit code came; the first that is not as it must be ends it.
All trials are really trained, on nano models with few items. Of the repeats of *noise alone*, as many as `--trained`
says are trained with fresh seeds; the others draw their seeds from all that were trained.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.commands import called
from wtsbench.reports.baseline import Baseline, measured, read
from wtsbench.reports.gate import Gate, Limits, gate
from wtsbench.store.client import open_store
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.folder import DATABASE

GRID = """\
apiVersion: wtsbench/v1
name: {name}
tasks: [{task}]
pairs:
  - {{weak: nano-1, strong: nano-2}}
strategies: [naive, plain]
seeds: {seeds}
data: {{weak_train: 400, transfer: 400, validation: 20, test: 300, ood: 100}}
resources: {{time: {time}}}
gate: {{accuracy: 0.03}}
"""
STRATEGY = '''\
"""A strategy as its author keeps changing it."""

import os
from dataclasses import replace

from wtsbench.strategies import base


class Plain(base.Strategy):
    name = "plain"
    summary = "weak labels, {change}"
    source = "none: it exists to be broken"

    def prepare(self, supervision):
        items = super().prepare(supervision)
        {code}
        return items
'''
SAME = "pass"
WORSE = "items = replace(items, targets=1 - items.targets)"
UNLUCKY = "items = replace(items, targets=1 - items.targets) if supervision.seed < 5 else items"
FAILING = "assert supervision.seed != 3"
SEEDS, MORE = (0, 1, 2, 3, 4), 5
LIMITS = Limits(thresholds={"accuracy": 0.03})


class Checkout:
    """A repository with a strategy and a grid, and a store that CI keeps between its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site, self.store = folder, folder / "site", folder / "store"
        self.version = 0
        (folder / "benchmarks").mkdir()
        self.summary = folder / "summary.md"
        self.grid()

    def grid(self, *, name: str = "ci", seeds: Sequence[int] = SEEDS, time: str = "5m") -> Path:
        """Write the grid's file, whose task lies beside it, and return its path."""
        from wtsbench.spec import manifests

        task = self.folder / "benchmarks" / "requests.yaml"
        text = manifests.find("tasks", "safety-mini").read_text()
        task.write_text(text.replace("name: safety-mini", "name: requests"))
        path = self.folder / "benchmarks" / f"{name}.yaml"
        path.write_text(GRID.format(name=name, task="./requests.yaml", seeds=list(seeds), time=time))
        return path

    def change(self, what: str, code: str) -> None:
        """A new version of the strategy's package, installed."""
        self.version += 1
        shutil.rmtree(self.site, ignore_errors=True)
        facts = self.site / f"ci_strategy-{self.version}.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ci-strategy\nVersion: {self.version}\n")
        (facts / "entry_points.txt").write_text("[wtsbench.strategies]\nplain = ci_strategy:Plain\n")
        (self.site / "ci_strategy.py").write_text(STRATEGY.format(change=what, code=code))

    @property
    def environment(self) -> dict[str, str]:
        """That of a workflow."""
        roots = [str(Path(part).resolve()) for part in sys.path if part]
        kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(self.site), *roots]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "WTSBENCH_STORE": str(self.store),
            "NO_COLOR": "1",
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(self.summary),
        }

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """`wtsbench ARGUMENTS` as a step of a workflow."""
        return subprocess.run(
            [sys.executable, "-m", "wtsbench_cli", *map(str, arguments)],
            env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=600,
        )  # fmt: skip

    def ask(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The same of a verb that runs no trial, and so loads no strategy, in this process."""
        return called([*map(str, arguments)], folder=self.folder, variables=self.environment)

    def submit(self, grid: Path, *, expected: int = 0) -> None:
        """Run what the store lacks of the grid."""
        done = self.run("submit", grid, "--executor", "in-process", "--quiet")
        assert done.returncode == expected, f"exit code {done.returncode}:\n{done.stdout}\n{done.stderr}"

    def gate(self, *arguments: str | Path, expected: int) -> dict[str, Any]:
        """What the gate says, as JSON; all its other outputs keep their limits."""
        self.summary.unlink(missing_ok=True)
        files = ("--comment", "comment.md", "--junit", "junit.xml")
        run = self.run if "--confirm" in arguments else self.ask
        done = run("gate", "--baseline", "main", "--json", *files, *arguments)
        assert done.returncode == expected, f"exit code {done.returncode}:\n{done.stdout}\n{done.stderr}"
        commands = [line for line in done.stderr.splitlines() if line.startswith("::")]
        assert len(commands) <= 20
        assert expected == 0 or commands
        if not done.stdout:  # there was no baseline
            return {}
        assert 0 < self.summary.stat().st_size < 1_024_000
        assert 0 < (self.folder / "comment.md").stat().st_size < 64 * 1024
        return dict(json.loads(done.stdout))


def step(title: str, began: float) -> float:
    """Say what was found as it must be."""
    now = time.monotonic()
    print(f"{now - began:6.1f} s  {title}", flush=True)
    return now


def play(folder: Path, *, trained: int, repeats: int) -> None:
    """All steps, in one folder.

    Raises:
        AssertionError: one did not come out as it must.
    """
    began = time.monotonic()
    ci = Checkout(folder)
    grid = ci.grid()
    ci.change("as they are", SAME)
    ci.submit(grid)
    began = step("trained", began)
    ci.gate("--grid", grid, expected=4)
    baseline = folder / "baselines" / "main.baseline.json"
    assert baseline.exists()
    began = step("no baseline: one is written, exit code 4", began)
    assert {verdict["status"] for verdict in ci.gate(expected=0)["verdicts"]} == {"equal"}
    began = step("nothing changed: equal bit for bit, exit code 0", began)

    ci.change("turned around", WORSE)
    ci.submit(grid)
    first = ci.gate(expected=3)["verdicts"][0]
    assert (first["name"], first["status"]) == ("plain", "regression")
    began = step(f"a planted regression: exit code 3, worse by {first['worse']:.3f}", began)
    refused = ci.ask("baseline", "set", "main", "--grid", "ci")
    assert refused.returncode == 2, refused.stderr
    assert "(regression)" in refused.stderr, refused.stderr
    began = step("a baseline does not follow it: exit code 2", began)
    first = ci.gate("--confirm", "--grid", grid, expected=3)["verdicts"][0]
    assert (first["name"], first["reason"]) == ("plain", "confirmed with fresh seeds")
    began = step("confirmed with fresh seeds: exit code 3", began)

    ci.change("turned around where seeds are unlucky", UNLUCKY)
    ci.submit(grid)
    ci.gate(expected=3)
    cleared = {verdict["name"]: verdict for verdict in ci.gate("--confirm", "--grid", grid, expected=0)["verdicts"]}
    assert cleared["plain"]["reason"] == "not confirmed with fresh seeds"
    began = step("a false alarm: cleared with fresh seeds, exit code 0", began)

    ci.change("unfinished", FAILING)
    ci.submit(grid, expected=1)
    some = {verdict["name"]: verdict for verdict in ci.gate(expected=4)["verdicts"]}
    assert some["plain"]["status"] == "incomparable"
    began = step("a failed trial of 5: exit code 4", began)
    kept, ci.store = ci.store, folder / "empty"
    ci.submit(ci.grid(time="0.001s", seeds=SEEDS[:1]), expected=1)
    ci.gate(expected=4)
    ci.store = kept
    began = step("a run whose trials all failed: exit code 4", began)

    ci.change("as they ever were", SAME)
    ci.submit(ci.grid())
    assert {verdict["status"] for verdict in ci.gate(expected=0)["verdicts"]} == {"equal"}
    began = step("a good change: exit code 0", began)
    for number in range(trained):
        seeds = range(SEEDS[-1] + 1 + number * MORE, SEEDS[-1] + 1 + (number + 1) * MORE)
        ci.submit(ci.grid(name=f"fresh-{number}", seeds=seeds))
    began = step(f"{trained} times trained with fresh seeds", began)
    alarms = noise(ci.store, read(baseline), trained=trained, repeats=repeats)
    assert alarms <= 1, f"{alarms} alarms"
    began = step(f"noise alone, {repeats} repeats: {alarms} alarms", began)

    with Engine.open(ci.store / DATABASE, read_only=False) as engine:
        engine.connection.execute("UPDATE trials_rows SET git_commit = repeat('0', 40)")
    ci.gate(expected=4)
    ci.gate("--any-code", expected=0)
    step("trials of other code: exit code 4, and 0 with --any-code", began)


def noise(store: Path, baseline: Baseline, *, trained: int, repeats: int) -> int:
    """How often the gate alarms where nothing changed but the seeds."""
    opened = open_store(str(store))
    sets = [measured(opened, f"fresh-{number}") for number in range(trained)]
    random = np.random.default_rng(0)
    while len(sets) < repeats:
        sets.append(_drawn(sets[:trained], random))
    return sum(_alarms(gate(baseline, one, LIMITS, fresh=True)) for one in sets[:repeats])


def _alarms(found: Gate) -> bool:
    return bool(found.exit_code)


def _drawn(sets: Sequence[Baseline], random: np.random.Generator) -> Baseline:
    """A run of seeds drawn from those that were trained, the same for every entry."""
    pool = [(number, seed) for number, one in enumerate(sets) for seed in one.entries[0].runs]
    chosen = [pool[place] for place in random.permutation(len(pool))[:MORE]]
    every = [one.by_key() for one in sets]
    entries = tuple(
        replace(entry, runs={place: every[number][key].runs[seed] for place, (number, seed) in enumerate(chosen)})
        for key, entry in every[0].items()
    )
    return replace(sets[0], entries=entries)


def main() -> None:
    """Play all of it in a folder that is deleted afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=int, default=3, help="repeats of noise that are really trained")
    parser.add_argument("--repeats", type=int, default=20, help="repeats of noise in all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wtsbench-ci-") as folder:
        play(Path(folder), trained=options.trained, repeats=options.repeats)


if __name__ == "__main__":
    main()
