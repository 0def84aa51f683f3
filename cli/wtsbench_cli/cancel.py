"""`wtsbench cancel`: ends a run, or some of its trials, from any machine."""

from __future__ import annotations

from typing import Annotated

import typer

from wtsbench_cli.options import StoreOption, store_of
from wtsbench_cli.runs import RunArgument
from wtsbench_cli.terminal import count


def cancel(
    run: RunArgument,
    task: Annotated[
        list[str] | None, typer.Option("--task", metavar="NAME", help="Only students of this task; may be repeated.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="Only students of this strong model; may be repeated."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", metavar="NAME", help="Only students of this strategy; may be repeated."),
    ] = None,
    store: StoreOption = None,
) -> None:
    """End a run, or some of its trials.

    The run hears of it within some ten seconds, wherever it is. What is finished is kept; trials that wait for a
    cancelled one are not run. Submitting the grid again goes on.
    """
    from wtsbench.errors import SpecError
    from wtsbench.execution.runs import cancel_run, students_of
    from wtsbench.store.client import open_store

    opened = open_store(store_of(store))
    chosen = None
    if task or model or strategy:
        chosen = students_of(opened, run, tasks=task or (), models=model or (), strategies=strategy or ())
        if not chosen:
            raise SpecError("no student of the run's grid fits", remedy="`wtsbench plan --verbose GRID` lists them.")
    cancelled = cancel_run(opened, run, chosen)
    what = "" if chosen is None else f"{count(len(chosen), 'trial')} of "
    print(f"{what}{cancelled.run}: cancelled; what is finished is kept")
