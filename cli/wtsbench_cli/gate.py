"""`wtsbench gate`: fails if a grid became worse than its baseline, or if something was not measured."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wtsbench_cli.options import BaselineFolderOption, JsonOption, StoreOption, expanded, path_of_baseline, store_of
from wtsbench_cli.terminal import console, count, say

if TYPE_CHECKING:
    from wtsbench.reports.gate import Gate, Limits
    from wtsbench.store.client import Store


def gate(
    baseline: Annotated[str, typer.Option("--baseline", metavar="NAME|FILE", help="What to compare with.")],
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            metavar="NAME|FILE",
            help="Grid of the store; by its file where its paths are relative. Default: the baseline's.",
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="METRIC=LOSS",
            help="Smallest loss that counts, such as accuracy=0.02. Default: the grid's `gate`, else 0.01.",
        ),
    ] = None,
    time: Annotated[
        float | None,
        typer.Option("--max-time", metavar="RATIO", help="Fail over this ratio to the baseline's time.", min=0),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option("--max-memory", metavar="RATIO", help="Fail over this ratio to the baseline's memory.", min=0),
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Run suspicious cells again with fresh seeds before saying so.")
    ] = False,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Accept trials that other versions of wtsbench ran.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML as well.", callback=expanded)
    ] = None,
    comment: Annotated[
        Path | None,
        typer.Option("--comment", metavar="FILE", help="Write Markdown of at most 64 KiB as well.", callback=expanded),
    ] = None,
    folder: BaselineFolderOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Fail where a grid became worse than its baseline.

    A regression takes effect and significance: a loss of at least the threshold, on equal items and seeds, at a
    p-value of 5% corrected over all entries. Exit code 3: something became worse; 4: something was not measured, or
    there was no baseline, which is then written for review; 0: neither. In GitHub Actions it annotates, and writes the
    step summary.
    """
    from wtsbench.errors import ExitCode
    from wtsbench.reports import outcome
    from wtsbench.reports.files import write as write_file
    from wtsbench.reports.gate import without_code

    path = path_of_baseline(baseline, folder)
    grid, base = _grid_and_folder(grid)
    if not path.exists():
        if grid is None:
            raise typer.BadParameter(f"{path} does not exist; name the grid to write it from", param_hint="--grid")
        write_first(path, store, grid)
        raise typer.Exit(ExitCode.INCOMPLETE)
    found, stale = compared(path, store, grid, threshold, time, memory)
    refused = bool(stale) and not any_code
    if refused:
        found = without_code(found, stale)
    elif confirm and found.regressions:
        found = _confirmed(found, path, store, grid or found.grid, base, threshold)
    commands = _commands(baseline, grid or found.grid, store, folder, other_code=refused) if found.exit_code else []
    print_gate(found, commands, json=json)
    if junit is not None:
        write_file(junit, outcome.junit(found).encode())
    if comment is not None:
        write_file(comment, outcome.limited(found, commands, outcome.COMMENT_BYTES).encode())
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in outcome.workflow_commands(found):
            say(line)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with Path(summary).open("a", encoding="utf-8") as file:
                room = max(0, outcome.SUMMARY_BYTES - file.tell())  # others of the step may have written there
                file.write(outcome.limited(found, commands, room))
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def write_first(path: Path, store: str | None, grid: str) -> None:
    """Write the baseline of a grid that had none. It must be complete, as unfinished entries would never be gated.

    Raises:
        SpecError: some of its entries lack seeds, or it has no entries.
    """
    from wtsbench.reports.baseline import measured, require_whole, write
    from wtsbench.store.client import open_store

    now = measured(open_store(store_of(store)), grid)
    require_whole(now)
    write(now, path)
    said = f"there was no baseline: {path} is written; review and commit it"
    say(f"::warning title=no baseline::{said}" if os.environ.get("GITHUB_ACTIONS") == "true" else said)


def _grid_and_folder(grid: str | None) -> tuple[str | None, Path | None]:
    """A grid's name, and the folder of its file if it was given by path."""
    from wtsbench.spec import manifests
    from wtsbench.spec.grid import load_grid

    if grid is None or not manifests.is_path(grid):
        return grid, None
    return load_grid(Path(grid)).name, Path(grid).parent


def compared(
    path: Path,
    store: str | None,
    grid: str | None,
    threshold: list[str] | None,
    time: float | None,
    memory: float | None,
) -> tuple[Gate, list[str]]:
    """The gate of a store's grid, and the versions of wtsbench, other than this one, that ran its trials."""
    from wtsbench.reports.baseline import code_of, measured, read
    from wtsbench.reports.gate import gate as decide
    from wtsbench.spec.provenance import provenance
    from wtsbench.store.client import open_store

    opened, expected = open_store(store_of(store)), read(path)
    name = grid or expected.grid
    now = measured(opened, name)
    ranking = sorted({entry.metric for entry in expected.entries})
    for metric in (each.partition("=")[0] for each in threshold or ()):
        if metric not in ranking:
            message = f"no entry of {path} is measured by {metric!r}; they are by {', '.join(ranking)}"
            raise typer.BadParameter(message, param_hint="--threshold")
    found = decide(expected, now, limits_of(opened, name, threshold, time, memory))
    return found, sorted(set(now.code) - {code_of(provenance())})


def limits_of(store: Store, grid: str, threshold: list[str] | None, time: float | None, memory: float | None) -> Limits:
    """What counts as worse: by options, else the grid's `gate`, else the default."""
    from wtsbench.planning.stored import stored_grid
    from wtsbench.reports.gate import Limits

    thresholds = dict(stored_grid(store, grid).gate)
    for each in threshold or ():
        metric, _, points = each.partition("=")
        if not re.fullmatch(r"\d*\.?\d+", points):
            raise typer.BadParameter(f"{each!r} is not METRIC=LOSS", param_hint="--threshold")
        if float(points) >= 1:
            message = f"{each!r} would let every loss pass: {metric} goes from 0 to 1"
            raise typer.BadParameter(message, param_hint="--threshold")
        thresholds[metric] = float(points)
    return Limits(thresholds=thresholds, time=time, memory=memory)


def print_gate(
    found: Gate, commands: list[str], *, json: bool, against: str = "the baseline", title: str | None = None
) -> None:
    """The gate on standard output; `against` and `title` as of `outcome.document`."""
    from wtsbench.reports import outcome, text

    if json:
        sys.stdout.write(outcome.json_text(found))
        return
    document = outcome.document(found, commands, against=against, title=title)
    if sys.stdout.isatty():
        sys.stdout.write(text.terminal(document, width=console().width, color=not os.environ.get("NO_COLOR")))
    else:
        sys.stdout.write(text.plain(document))


def _confirmed(
    found: Gate, path: Path, store: str | None, grid: str, base: Path | None, threshold: list[str] | None
) -> Gate:
    """The gate with only those regressions that fresh seeds show too.

    Raises:
        SpecError: the grid names files by relative paths, which start from a folder that is not this one.
    """
    from wtsbench.api import submit
    from wtsbench.errors import SpecError
    from wtsbench.planning.check import GivenGrid, as_yaml
    from wtsbench.planning.stored import again, stored_grid
    from wtsbench.reports.baseline import measured, read
    from wtsbench.reports.gate import gate as decide
    from wtsbench.reports.gate import with_confirmation
    from wtsbench.spec.faults import SpecFaults
    from wtsbench.store.client import open_store

    uri = store_of(store)
    opened, expected = open_store(uri), read(path)
    entries = [verdict.entry for verdict in found.regressions]
    part = again(
        stored_grid(opened, grid),
        tasks={entry.task for entry in entries},
        pairs={(entry.weak, entry.strong) for entry in entries},
        entries={entry.name for entry in entries},
    )
    say(f"running {count(len(entries), 'suspicious entry', 'suspicious entries')} again with fresh seeds")
    given = GivenGrid(grid=part, yaml=as_yaml(part), base=base or Path.cwd(), source=f"grid {part.name}")
    try:
        submit(given, store=uri)
    except SpecFaults as error:
        raise SpecError(
            f"grid {grid} cannot be run again from {given.base.resolve()}: {error.message}",
            remedy="if it names files by relative paths, pass --grid with its file.",
        ) from None
    limits = limits_of(opened, grid, threshold, None, None)
    return with_confirmation(found, decide(expected, measured(opened, part.name), limits, fresh=True))


def _commands(baseline: str, grid: str, store: str | None, folder: Path | None, *, other_code: bool) -> list[str]:
    """What to run next; a baseline of trials that another commit ran would say nothing of this code either."""
    at = f" --store {shlex.quote(store_of(store))}"
    within = "" if folder is None else f" --folder {shlex.quote(str(folder))}"
    evidence = f"the evidence: wtsbench baseline diff {shlex.quote(baseline)}{within} --grid {grid}{at}"
    if other_code:
        return [evidence, "to measure this code: submit the grid into a store of its own; or pass --any-code"]
    return [
        evidence,
        f"as a page: wtsbench report --grid {grid}{at}",
        f"to accept the change: wtsbench baseline set {shlex.quote(baseline)}{within} --grid {grid}{at} --accept",
    ]
