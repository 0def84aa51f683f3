"""`wtsbench baseline`: what a grid is expected to score, as files that can be committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wtsbench_cli.options import BaselineFolderOption, JsonOption, StoreOption, path_of_baseline, store_of
from wtsbench_cli.terminal import count, print_json, print_table, size

if TYPE_CHECKING:
    from wtsbench.reports.baseline import Baseline

app = typer.Typer(help="Keep what a grid scores, for `wtsbench gate`.", rich_markup_mode=None, no_args_is_help=True)
NameOfBaseline = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A name in the folder, or a file.")]


@app.command("set")
def set_baseline(
    name: NameOfBaseline,
    grid: Annotated[str, typer.Option("--grid", metavar="NAME", help="Which grid of the store.")],
    accept: Annotated[
        bool, typer.Option("--accept", help="Replace a baseline though scores changed, or may have.")
    ] = False,
    folder: BaselineFolderOption = None,
    store: StoreOption = None,
) -> None:
    """Write what a grid of the store scores now.

    An existing baseline is only replaced if all its entries are equal bit for bit: one that followed every small loss
    would drift. `--accept` says that the change is intended.
    """
    from wtsbench.errors import SpecError
    from wtsbench.reports.baseline import measured, read, require_whole, write
    from wtsbench.reports.gate import gate, moves_nothing
    from wtsbench.store.client import open_store
    from wtsbench_cli.gate import limits_of

    opened = open_store(store_of(store))
    current = measured(opened, grid)
    require_whole(current, partly=accept)
    path = path_of_baseline(name, folder)
    if path.exists() and not accept:
        limits = limits_of(opened, grid, None, None, None)
        moved = [verdict for verdict in gate(read(path), current, limits).verdicts if not moves_nothing(verdict)]
        if moved:
            raise SpecError(
                f"{path} is kept: {count(len(moved), 'entry', 'entries')} may differ, such as {moved[0].entry.title}"
                f" ({moved[0].status})",
                remedy=f"`wtsbench baseline diff {name} --grid {grid}` shows them; --accept replaces it in any case.",
            )
    write(current, path)
    print(
        f"{path}: {count(len(current.entries), 'entry', 'entries')}, {size(path.stat().st_size)}; review and commit it"
    )


@app.command("list")
def list_baselines(folder: BaselineFolderOption = None, json: JsonOption = False) -> None:
    """List the baselines of a folder."""
    from wtsbench.reports.baseline import FOLDER, listed, read

    baselines = [(name, path, read(path)) for name, path in listed(folder or FOLDER)]
    if json:
        print_json([{"name": name, "path": str(path), **_facts(baseline)} for name, path, baseline in baselines])
        return
    rows = [
        (name, baseline.grid, str(len(baseline.entries)), ", ".join(baseline.code)) for name, _, baseline in baselines
    ]
    print_table(("NAME", "GRID", "ENTRIES", "CODE"), rows, right=("ENTRIES",))


@app.command("show")
def show(name: NameOfBaseline, folder: BaselineFolderOption = None, json: JsonOption = False) -> None:
    """Show the scores of a baseline."""
    from wtsbench.reports.baseline import read

    baseline = read(path_of_baseline(name, folder))
    if json:
        print_json({**_facts(baseline), "entries": [_entry(entry) for entry in baseline.entries]})
        return
    rows = [
        (entry.title, entry.metric, f"{record['score']:.3f}", f"{len(entry.runs)}/{entry.asked}")
        for entry in baseline.entries
        for record in [_entry(entry)]
    ]
    print_table(("ENTRY", "METRIC", "SCORE", "SEEDS"), rows, right=("SCORE", "SEEDS"))


@app.command("diff")
def diff(
    name: NameOfBaseline,
    grid: Annotated[
        str | None, typer.Option("--grid", metavar="NAME", help="Grid of the store. Default: the baseline's.")
    ] = None,
    folder: BaselineFolderOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show how a grid of the store differs from a baseline; the exit code does not depend on it."""
    from wtsbench_cli.gate import compared, print_gate

    result, _ = compared(path_of_baseline(name, folder), store, grid, None, None, None)
    print_gate(result, [], json=json, title=f"Grid {result.grid} and baseline {name}")


def _facts(baseline: Baseline) -> dict[str, object]:
    return {"grid": baseline.grid, "code": list(baseline.code), "science_version": baseline.science_version}


def _entry(entry: object) -> dict[str, object]:
    from statistics import fmean

    from wtsbench.reports.baseline import Entry

    assert isinstance(entry, Entry)
    plain = {name: value for name, value in vars(entry).items() if name != "runs"}
    scores = {str(seed): run.score for seed, run in sorted(entry.runs.items())}
    return {**plain, "score": round(fmean(scores.values()), 6), "scores": scores}
