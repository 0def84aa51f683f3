"""`wtsbench import`: brings in predictions and scores of other code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from wtsbench_cli.options import JsonOption, MirrorOption, StoreOption, expanded, store_of
from wtsbench_cli.terminal import count, print_json, print_table, say

if TYPE_CHECKING:
    from wtsbench.execution.importing import Imported

_T = TypeVar("_T")
_DIGITS = 3


def _option(name: str, metavar: str, told: str = "Where no column says so.") -> Any:
    return typer.Option(name, metavar=metavar, help=told)


def import_(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="Predictions, or scores, as .csv, .tsv, .jsonl or .parquet.", callback=expanded
        ),
    ] = None,
    task: Annotated[str | None, _option("--task", "NAME", "Task of the predictions.")] = None,
    grid: Annotated[str | None, _option("--grid", "NAME", "Grid that tables show them in.")] = None,
    role: Annotated[str | None, _option("--role", "weak|ceiling|student|control")] = None,
    model: Annotated[str | None, _option("--model", "NAME")] = None,
    strategy: Annotated[
        str | None, _option("--strategy", "NAME", "Of students and controls, where no column says so.")
    ] = None,
    weak: Annotated[str | None, _option("--weak", "MODEL", "Supervisor of students, where there are several.")] = None,
    seed: Annotated[str | None, _option("--seed", "NUMBER")] = None,
    column: Annotated[
        list[str] | None, _option("--column", "MEANING=NAME", "What the file calls a column; may be repeated.")
    ] = None,
    like: Annotated[
        str | None,
        _option("--like", "GRID", "Take the items that this grid's `data` asks for. Default: all of the task."),
    ] = None,
    items_to: Annotated[
        Path | None, _option("--items-to", "FILE", "Write the task's items as JSONL, and import nothing.")
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="The file has scores of seeds: print PGRs from them, and store nothing.")
    ] = False,
    store: StoreOption = None,
    mirror: MirrorOption = None,
    json: JsonOption = False,
) -> None:
    """Bring in predictions that other code made.

    Predictions cover the task's test sets, each item once for every model and seed. They become trials of origin
    `external`, scored, compared and reported like all others; tables mark their strategies so. With --scores it prints
    PGRs of scores of seeds, and stores nothing. docs/import.md has the columns.
    """
    columns = _columns(column or [])
    if scores:
        _print_scores(_required(file, "FILE"), columns, json=json)
        return
    from wtsbench.execution import importing
    from wtsbench.reports.files import write
    from wtsbench.settings import data_mirror

    named, place = _required(task, "--task"), mirror or data_mirror()
    if items_to is not None:
        _, tasks = importing.items_of(named, like, mirror=place)
        (data,) = tasks.datasets.values()
        write(items_to, importing.item_lines(data).encode())
        say(f"{items_to}: {count(data.items.num_rows, 'item')} of {data.task}, data {data.data_digest[:12]}")
        return
    options = {"role": role, "model": model, "strategy": strategy, "weak": weak, "seed": seed}
    imported = importing.import_predictions(
        _required(file, "FILE"),
        task=named,
        grid=_required(grid, "--grid"),
        store=store_of(store),
        given={name: value for name, value in options.items() if value is not None},
        columns=columns,
        like=like,
        mirror=place,
    )
    _print(imported, json=json)
    if imported.failures:
        from wtsbench.errors import ExitCode

        raise typer.Exit(ExitCode.TRIALS_FAILED)


def _required(value: _T | None, name: str) -> _T:
    if value is None:
        raise typer.BadParameter("is required for this", param_hint=name)
    return value


def _columns(options: list[str]) -> dict[str, str]:
    columns = {}
    for option in options:
        meaning, _, name = option.partition("=")
        if not meaning or not name:
            raise typer.BadParameter(f"{option!r} is not MEANING=NAME", param_hint="--column")
        columns[meaning] = name
    return columns


def _print(imported: Imported, *, json: bool) -> None:
    if json:
        failures = {trial_id: failure.message for trial_id, failure in imported.failures.items()}
        print_json(vars(imported) | {"failures": failures, "origin": "external"})
        return
    for trial_id, title in imported.trials.items():
        failed = imported.failures.get(trial_id)
        say(f"{trial_id[:12]}  {title}" + ("" if failed is None else f"  failed: {failed.message}"))
    say(f"{count(len(imported.trials), 'external trial')}, {imported.there} of them stored before")
    if imported.left_out:
        say(f"left out: {count(imported.left_out, 'row')} of items outside the test sets")
    for title in imported.waiting:
        say(f"not shown yet: {title} has no ceiling of its model and seed")
    say(f"grid {imported.grid} shows {count(imported.cells, 'cell')}: wtsbench leaderboard --grid {imported.grid}")


def _print_scores(file: Path, columns: dict[str, str], *, json: bool) -> None:
    from wtsbench.execution.imported_file import read_columns
    from wtsbench.reports.seed_scores import NOTE, seed_scores

    rows = seed_scores(read_columns(file, columns), file.name)
    if json:
        print_json([vars(row) for row in rows])
        return
    numbers = ("seeds", "weak", "student", "ceiling", "PGR", "low, seeds only", "high, seeds only")
    lines = [
        (
            row.task,
            row.strategy,
            f"{len(row.seeds)}/{len(row.seeds) + row.left_out}",
            *(
                "NA" if value is None else f"{value:.{_DIGITS}f}"
                for value in (row.weak, row.student, row.ceiling, row.pgr, row.pgr_low, row.pgr_high)
            ),
        )
        for row in rows
    ]
    print_table(("task", "strategy", *numbers), lines, right=numbers)
    say(f"PGR is the mean gain over the mean gap, each seed with its own baselines; 95% intervals {NOTE}.")
    for reason in dict.fromkeys(row.reason for row in rows if row.reason):
        say(f"NA: {reason}")
    say("Nothing was stored.")
