"""`wtsbench compare`: strategies held against each other."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from wtsbench_cli.options import JsonOption, StoreOption, SubmissionOption


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[GRID | A B]", help="Only this grid of the store; or two runs. Default: all."),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="NAME", help="Only this task.")] = None,
    pair: Annotated[str | None, typer.Option("--pair", metavar="WEAK:STRONG", help="Only this pair.")] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME", help="Any metric of the tasks. Default: the one that ranks."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="test|ood", help="Only this test set. Default: both.")
    ] = None,
    submission: SubmissionOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Compare strategies pair by pair.

    For each task, pair of models and test set: the difference of every two strategies, and of every strategy and
    control, with its 95% interval, p-value, p-value corrected for many comparisons (Holm), and verdict.

    Of A and B: every entry of A beside the same one of B, paired by item and seed, and what only one of them has. Each
    is a baseline file, or a store or export, with #GRID where it holds several, and @SUBMISSION, or @COMMIT for the
    newest that this commit ran.
    """
    from wtsbench import api
    from wtsbench.reports import comparison

    if names and len(names) > 2:
        raise typer.BadParameter("give the name of a grid, or two runs", param_hint="GRID | A B")
    if names and len(names) == 2:
        from wtsbench.reports.gate import Limits, gate
        from wtsbench.reports.sides import side
        from wtsbench_cli.gate import print_gate

        options = {
            "--task": task, "--pair": pair, "--metric": metric, "--split": split, "--submission": submission,
            "--store": store,
        }  # fmt: skip
        if unused := [name for name, given in options.items() if given is not None]:
            raise typer.BadParameter("two runs are compared whole, as A and B name them", param_hint=unused)
        first, second = map(side, names)
        found = gate(first, second, Limits(thresholds={}))
        print_gate(found, [], json=json, against=names[0], title=f"{names[1]} after {names[0]}")
        return
    grid = names[0] if names else None
    pairs = api.compare(store, grid, submission=submission, task=task, pair=pair, metric=metric, split=split)
    sys.stdout.write(comparison.json_text(pairs) if json else comparison.text(pairs))
