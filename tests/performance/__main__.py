"""How fast this version is on this machine: one table, and the same as JSON to be compared with.

    python -m tests.performance [--only PART,PART] [--quick | --large] [--json FILE] [--against FILE]

Each figure is a ratio of two things that were measured in the same run, so that what else the machine is, or does at
the moment, counts little. `--quick` takes two minutes on two free cores, the usual size ten. `--against` names an
earlier JSON of the same size and hardware, and ends with 1 where a figure is worse than its tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.performance.part import Asked, Missing, Part

FORMAT = "wtsbench/speed/v1"
SAME = ("cpu", "cores", "memory_gib", "gpu")
"""Of the hardware, what must be equal where two runs are compared; load and versions are shown."""
_console = Console(width=150)


def parts() -> dict[str, Part]:
    """Every part by its name, in the order in which they run."""
    from tests.performance.compute_speed import measure_compute
    from tests.performance.generation_speed import measure_generation
    from tests.performance.leaderboard_speed import measure_leaderboard
    from tests.performance.sandbox_overhead import measure_sandboxes
    from tests.performance.store_rates import measure_store
    from tests.performance.submission import measure_first_result, measure_grid, measure_memory

    return {
        "compute": measure_compute,
        "grid": measure_grid,
        "sandbox": measure_sandboxes,
        "first": measure_first_result,
        "generation": measure_generation,
        "store": measure_store,
        "leaderboard": measure_leaderboard,
        "memory": measure_memory,
    }


def hardware() -> dict[str, Any]:
    """What this is measured on, with the load at this moment."""
    import torch

    from wtsbench.spec.provenance import cpu_name, provenance

    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": provenance()["git_commit"],
    }


def measure(names: list[str], asked: Asked) -> dict[str, Any]:
    """The parts' figures as JSON has them."""
    known = parts()
    found: dict[str, Any] = {"format": FORMAT, "size": asked.size, "hardware": hardware(), "parts": {}}
    for name in names:
        _console.print(f"measuring {name}", style="dim", highlight=False)
        begun = time.monotonic()
        told = list(known[name](asked))
        found["parts"][name] = {
            "seconds": round(time.monotonic() - begun, 1),
            "figures": [asdict(one) for one in told if not isinstance(one, Missing)],
            "missing": [asdict(one) for one in told if isinstance(one, Missing)],
        }
    return found


def refused(now: Mapping[str, Any], before: Mapping[str, Any]) -> str | None:
    """Why two runs cannot be compared; None where they can, as far as size, parts and hardware tell."""
    if before.get("format") != FORMAT:
        return f"it is no JSON of this command ({FORMAT})"
    if before["size"] != now["size"]:
        return f"its size is {before['size']}, and {now['size']} was asked for"
    if lacking := [name for name in now["parts"] if name not in before["parts"]]:
        return f"it has no part {', '.join(lacking)}; choose others with --only"
    for name in SAME:
        mine, theirs = now["hardware"][name], before["hardware"][name]
        if mine != theirs:
            return f"it was measured on other hardware: {name} is {theirs} there, and {mine} here"
    return None


def worse(now: Mapping[str, Any], before: Mapping[str, Any], tolerance: float) -> list[str]:
    """What became worse by more than a tolerance, or is not measured any more, in the parts that were measured now."""
    found = []
    for name, part in now["parts"].items():
        mine = {figure["name"]: figure for figure in part["figures"]}
        for old in before["parts"][name]["figures"]:
            figure = mine.get(old["name"])
            if figure is None:
                found.append(f"{name}, {old['name']}: not measured any more")
            elif _times_worse(figure, old) > 1 + tolerance:
                found.append(f"{name}, {old['name']}: {old['value']:.3g} before, {figure['value']:.3g} now")
    return found


def _times_worse(now: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    pair = (now["value"], before["value"]) if now["better"] == "lower" else (before["value"], now["value"])
    return float(pair[0] / pair[1])


def show(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """Print the table."""
    table = Table("part", "figure", "ratio", "of what", "made of")
    table.caption = ", ".join(f"{name} {value}" for name, value in now["hardware"].items())
    if before is not None:
        table.add_column("now / before")
    for name, part in now["parts"].items():
        old = {} if before is None else {one["name"]: one["value"] for one in before["parts"][name]["figures"]}
        for figure in part["figures"]:
            made = ", ".join(f"{key} {value:.4g}" for key, value in figure["details"].items())
            ratio = [f"{figure['value'] / old[figure['name']]:.2f}"] if figure["name"] in old else []
            mark = "↑" if figure["better"] == "higher" else "↓"
            table.add_row(name, figure["name"], f"{figure['value']:.3g} {mark}", figure["what"], made, *ratio)
        for one in part["missing"]:
            table.add_row(name, one["name"], "-", f"skipped: {one['why']}")
    _console.print(table)


def _read(path: str) -> dict[str, Any]:
    try:
        return dict(json.loads(Path(path).read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error}") from error


def main(arguments: list[str]) -> int:
    """Measure, print, write; 1 where something is worse than before, 2 where that cannot be said."""
    names = list(parts())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(names), metavar="PARTS", help=f"of {', '.join(names)}")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", default="usual")
    size.add_argument("--large", dest="size", action="store_const", const="large", help="as docs/performance.md")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--against", type=_read, metavar="FILE", help="an earlier JSON")
    parser.add_argument("--tolerance", type=float, default=0.25, help="0.25: 1.25 times as bad is still the same")
    parser.add_argument("--mlflow", metavar="PYTHON", help="interpreter that has MLflow, to measure its stores as well")
    given = parser.parse_args(arguments)
    chosen = given.only.split(",")
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"{unknown[0]!r} is none of {', '.join(names)}")
    if given.json is not None and not given.json.parent.is_dir():
        parser.error(f"--json: there is no folder {given.json.parent}")
    before = given.against
    if before is not None and (why := refused({"size": given.size, "hardware": hardware(), "parts": chosen}, before)):
        parser.error(f"cannot compare with the earlier JSON: {why}")
    with tempfile.TemporaryDirectory(prefix="wtsbench-measure-") as scratch:
        now = measure(chosen, Asked(size=given.size, scratch=Path(scratch), mlflow=given.mlflow))
    show(now, before)
    if given.json is not None:
        given.json.write_text(json.dumps(now, indent=2) + "\n")
    if before is None:
        return 0
    bad = worse(now, before, given.tolerance)
    good = f"nothing is more than {1 + given.tolerance:g} times as bad as before"
    _console.print(*(bad or [good]), sep="\n", highlight=False)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
