"""`wtsbench reproduce`: stored trials once more, and whether they come out as they did."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wtsbench_cli.options import JsonOption, SandboxOption, StoreOption, expanded, store_of
from wtsbench_cli.terminal import count, print_json, print_table, watched

if TYPE_CHECKING:
    from wtsbench.execution.reproduction import Reproduction
    from wtsbench.reports.reproduced import Agreement


def reproduce(
    name: Annotated[
        str, typer.Argument(metavar="GRID|TRIAL", help="A grid of the store, or the beginning of a trial's id.")
    ],
    task: Annotated[str | None, typer.Option("--task", metavar="NAME", help="Of the grid, only this task.")] = None,
    pair: Annotated[str | None, typer.Option("--pair", metavar="WEAK:STRONG", help="Only this pair.")] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", metavar="LABEL", help="Only this strategy or control.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="NUMBER", help="Only this seed.")] = None,
    within: Annotated[
        float, typer.Option("--within", metavar="NUMBER", min=0, help="Largest difference of a number that passes.")
    ] = 0.0,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Run it though code, image or hardware are others here.")
    ] = False,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="New store to keep the repetition in.", callback=expanded),
    ] = None,
    sandbox: SandboxOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Run stored trials again, and compare.

    Predictions, final metrics and ranks then and now: equal bit for bit, or within what. With a trial run all that it
    comes from; with a grid, its cells. Exit code 0: they agree; 3: they do not; 1: some failed.
    """
    from wtsbench.errors import ExitCode, SpecError
    from wtsbench.execution.reproduction import CannotReproduce, reproduction
    from wtsbench.execution.watching import watched as run
    from wtsbench.planning.stored import Wanted
    from wtsbench.reports.reproduced import agreement
    from wtsbench.store.client import open_store
    from wtsbench_cli.submit import Shown, end_at_once
    from wtsbench_cli.views import LineView, LiveView, QuietView

    opened = open_store(store_of(store))
    wanted = Wanted(name=name, task=task, pair=pair, strategy=strategy, seed=seed)
    with ExitStack() as stack:
        if keep is not None and keep.exists():
            raise SpecError(f"{keep} exists", remedy="name a folder that does not, for a store of its own.")
        into = str(keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="wtsbench-reproduce-")))
        planned = reproduction(opened, wanted, into=into, sandbox=sandbox)
        if planned.reasons and not anyway:
            raise CannotReproduce(
                "equal results cannot be expected here:\n  " + "\n  ".join(planned.reasons),
                remedy="go where it ran, or pass --anyway to see how far it agrees.",
            )
        live = watched() and not json
        listener = Shown(stack.enter_context(QuietView() if json else LiveView() if live else LineView()))
        summary = run(lambda note: planned.session, listener, partial(end_at_once, live))
        if listener.output_error is not None:
            raise listener.output_error
        if summary.exit_code:
            raise typer.Exit(summary.exit_code)
        found = agreement(opened, open_store(into), planned.ids, planned.submission)
        if json:
            print_json({**found.record(within), "reasons": list(planned.reasons)})
        else:
            _show(found, planned, within)
    if not found.agrees(within):
        raise typer.Exit(ExitCode.REGRESSION)


def _show(found: Agreement, planned: Reproduction, within: float) -> None:
    from wtsbench.planning.report import title

    specs = planned.session.plan.trials
    lines = []
    for each in found.trials:
        metrics = max(map(abs, each.metrics.values()), default=0.0)
        outputs = "equal bit for bit" if not each.other and not each.largest else f"within {each.largest:.2g}"
        lines.append((
            each.trial_id[:12], title(specs[each.now]), f"{each.outputs:,}",
            f"{outputs}, {each.other:,} others" if each.other else outputs,
            f"within {metrics:.2g}" if metrics else "equal",
        ))  # fmt: skip
    print_table(("trial", "what", "outputs", "then and now", "metrics"), lines, right=("outputs",))
    for reason in planned.reasons:
        print(f"not the same here: {reason}")
    if found.ranks:
        told = (
            (name.replace("|", " "), str(before or "-"), str(now or "-")) for name, (before, now) in found.ranks.items()
        )
        print_table(("rank of", "then", "now"), told)
    elif found.entries:
        print(f"ranks: the same, of {count(found.entries, 'entry', 'entries')}")
    largest = max((each.difference for each in found.trials), default=0.0)
    if found.agrees(0.0):
        print(f"reproduced: {count(len(found.trials), 'trial')}, equal bit for bit")
    else:
        verdict = "reproduced" if found.agrees(within) else "not reproduced"
        print(f"{verdict}: the largest difference is {largest:.3g}, and {within:g} was asked for")
