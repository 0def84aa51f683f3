"""Does the quickstart show what it is to show whatever data are drawn? `python -m tests.end_to_end.twenty_draws`

Draws the rows of its made tasks again with other seeds, runs one strategy with the quickstart's own settings and five
seeds, and counts the draws in which the leaderboard claims what docs/tasks.md says: a gap, a gain and a PGR of `naive`
on `talk-mini` and of `best_of_n` on `toxicity-mini`, a gap and no gain of `naive` on `safety-mini`. It ends with 1
where fewer than 19 in 20 show it. A store that is named is gone on with, so that the script may be stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

import wtsbench
from wtsbench.reports.findings import gain_verdict
from wtsbench.reports.rows import Row
from wtsbench.spec import manifests

SHARE = 0.95
SHOWN = {"talk-mini": ("naive", "better"), "safety-mini": ("naive", None), "toxicity-mini": ("best_of_n", "better")}
"""The strategy, and what of its gain is to be claimed."""


def grid_of(task: str, draw: int, folder: Path) -> dict[str, Any]:
    """The quickstart with one strategy, on one task whose rows are drawn with another seed."""
    found: dict[str, Any] = yaml.safe_load(manifests.find("tasks", task).read_text())
    found["source"]["seed"] = draw
    found.pop("ood", None)
    path = folder / f"{task}-{draw}.yaml"
    found["name"] = path.stem
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    grid: dict[str, Any] = yaml.safe_load(manifests.find("grids", "quickstart").read_text())
    grid |= {"name": path.stem, "tasks": [str(path)], "strategies": [SHOWN[task][0]], "controls": []}
    if "generation" not in found:
        grid.pop("generation")
    grid["data"] = grid["data"]["tasks"].get(task, {})
    grid["training"] |= grid["training"].pop("tasks").get(task, {})
    return grid


def line(task: str, draw: int, row: Row) -> tuple[bool, str]:
    """Whether a draw shows what it is to show, and its numbers."""
    shown = row.pgr is not None and (gain_verdict(row) == "better") == (SHOWN[task][1] == "better")
    numbers = (row.weak_score, row.student_score, row.ceiling_score, row.gain, row.gain_low, row.gain_high)
    scores = "{:.3f} {:.3f} {:.3f}  gain {:+.3f} [{:+.3f}, {:+.3f}]".format(*numbers)
    pgr = "NA" if row.pgr is None else f"{row.pgr:.2f} [{row.pgr_low:.2f}, {row.pgr_high:.2f}]"
    return shown, f"{task:<14}{draw:>4}  {scores}  PGR {pgr:<20} {'shown' if shown else 'NOT SHOWN'}"


def main() -> int:
    """Run the draws and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--first", type=int, default=101, help="seed of the first draw")
    parser.add_argument("--tasks", nargs="+", choices=SHOWN, default=[*SHOWN])
    parser.add_argument("--store", help="by default a folder that is removed afterwards")
    asked = parser.parse_args()
    enough = True
    print("task          draw  weak  student ceiling", flush=True)
    with tempfile.TemporaryDirectory() as name:
        store = asked.store or str(Path(name) / "store")
        for task in asked.tasks:
            found = []
            for draw in range(asked.first, asked.first + asked.draws):
                grid = grid_of(task, draw, Path(name))
                wtsbench.submit(grid, store=store, executor="in-process", sandbox="process", on_event=lambda _: None)
                (row,) = [row for row in wtsbench.leaderboard(store, grid["name"]).rows if row.split == "test"]
                if not row.complete:
                    sys.exit(f"{task} {draw}: {row.seeds_done} of {row.seeds_total} seeds; run it again")
                shown, text = line(task, draw, row)
                found.append(shown)
                print(text, flush=True)
            print(f"{task}: shown in {sum(found)} of {len(found)} draws", flush=True)
            enough &= sum(found) >= SHARE * len(found)
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
