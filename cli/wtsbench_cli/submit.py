"""`wtsbench submit`: runs those trials of a grid that the store lacks."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from wtsbench.errors import ExitCode
from wtsbench_cli.leaderboard import show
from wtsbench_cli.options import (
    ExecutorName,
    GridArgument,
    MirrorOption,
    RayOption,
    SandboxName,
    SandboxOption,
    StoreOption,
    TrustOption,
    cluster_of,
    store_of,
)
from wtsbench_cli.streams import OutputError, discard
from wtsbench_cli.terminal import count, duration, watched

if TYPE_CHECKING:
    from wtsbench.execution.detach import Detached
    from wtsbench.execution.events import Event
    from wtsbench.execution.run_record import RunName
    from wtsbench.execution.scheduler import Summary
    from wtsbench_cli.views import QuietView

_SHOW_CURSOR = "\x1b[?25h"


def submit(
    grid: GridArgument,
    store: StoreOption = None,
    sandbox: SandboxOption = None,
    ray: RayOption = None,
    executor: Annotated[
        ExecutorName | None,
        typer.Option(
            "--executor",
            metavar="ray|in-process",
            help="Who runs the trials. Default: ray. in-process needs no cluster.",
        ),
    ] = None,
    mirror: MirrorOption = None,
    trust: TrustOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Have the cluster run it, and return at once; needs --ray and a server.")
    ] = False,
    autoscale: Annotated[
        bool, typer.Option("--autoscale", help="The cluster adds nodes where trials wait: give it more than fit now.")
    ] = False,
    priority: Annotated[
        int,
        typer.Option(
            "--priority",
            metavar="NUMBER",
            min=-1000,
            max=1000,
            help="On one cluster, runs of higher priority start their trials first. Default: 0.",
            show_default=False,
        ),
    ] = 0,
    run: Annotated[str | None, typer.Option("--run", hidden=True)] = None,
    resumed: Annotated[int, typer.Option("--resumed", hidden=True)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print failures and the last line only.")] = False,
) -> None:
    """Run what the store lacks of a grid; show its leaderboard.

    Submitting the same file again runs only what is missing. Ctrl-C stops cleanly; what is finished is kept. Trials
    that another submission runs at the same moment are waited for, not run twice.
    """
    import wtsbench
    from wtsbench_cli.views import LineView, LiveView, QuietView

    live = watched() and not quiet
    in_process = executor is ExecutorName.IN_PROCESS
    place = store_of(store)
    if detach:
        detached = wtsbench.detach(
            grid,
            store=place,
            ray=cluster_of(ray),
            sandbox=(sandbox or SandboxName.AUTO).value,
            mirror=mirror,
            trust=trust or (),
            autoscale=autoscale,
            priority=priority,
        )
        _show_detached(detached, place)
        return
    with QuietView() if quiet else LiveView() if live else LineView() as view:
        listener = Shown(view)
        summary = wtsbench.submit(
            grid,
            store=place,
            executor="in-process" if in_process else "ray",
            ray=None if in_process else cluster_of(ray),
            sandbox=(sandbox or SandboxName.AUTO).value,
            mirror=mirror,
            trust=trust or (),
            autoscale=autoscale,
            priority=priority,
            job=job_of(run, resumed),
            on_event=listener,
            on_second_interrupt=partial(end_at_once, live),
        )
    if listener.output_error is not None:
        raise listener.output_error
    for line in last_words(summary, grid, place):
        print(line)
    if not quiet and not summary.cancelled:
        print()
        show(place, grid=view.grid)
        print(f"\nresults: {place}")
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def _show_detached(detached: Detached, place: str) -> None:
    """Name the run, and how to follow it."""
    words = {"new": "submitted", "joined": "is being run already", "resumed": "its job had died, and was started again"}
    where = "" if place == os.environ.get("WTSBENCH_STORE") else f" --store {shlex.quote(place)}"
    print(f"{detached.run}: {words[detached.how]}")
    print(f"follow it: wtsbench attach {detached.run}{where}; or runs, status, logs --follow, cancel")


def job_of(run: str | None, resumed: int) -> RunName | None:
    """The run that this command is the Ray job of; None for a command that somebody waits for."""
    from wtsbench.execution.run_record import RunName

    return None if run is None else RunName.of_job(run, resumed)


class Shown:
    """Shows events. If output cannot be written any more, the submission stops as at Ctrl-C."""

    def __init__(self, view: QuietView) -> None:
        self._view = view
        self.output_error: OutputError | None = None
        """Why output cannot be written; None while it can, and for a broken pipe."""

    def __call__(self, event: Event) -> None:
        """Something happened."""
        try:
            self._view.take(event)
        except (BrokenPipeError, OutputError) as error:
            self.output_error = error if isinstance(error, OutputError) else self.output_error
            discard()
            raise KeyboardInterrupt from error


def end_at_once(terminal: bool) -> NoReturn:
    """End the process from a signal handler, without blocking. Trials end once nobody renews their lease.

    Args:
        terminal: whether a live display may have hidden the cursor.
    """
    os.write(2, f"{_SHOW_CURSOR * terminal}\nstopped at once; what was stored is kept\n".encode())
    os._exit(ExitCode.INTERRUPTED)


def _cost(summary: Summary) -> str:
    """What all attempts took together, and what was expected."""
    failed = f", {duration(summary.failed_seconds)} of it in attempts that failed" if summary.failed_seconds else ""
    expected = "" if summary.expected_seconds is None else f"; expected: {duration(summary.expected_seconds)}"
    return f"trials took {duration(summary.trial_seconds)} together{failed}{expected}"


def last_words(summary: Summary, grid: str, store: str) -> list[str]:
    """How the submission ended, and what to do next."""
    stored = summary.stored + summary.done
    again = f"wtsbench submit {shlex.quote(grid)} --store {shlex.quote(store)}"
    if summary.cancelled:
        return [f"stopped: {stored:,} of {count(summary.total, 'trial')} are stored and kept", f"go on with: {again}"]
    if not summary.done and not summary.failed and not summary.blocked:
        return [f"done: all {count(summary.total, 'trial')} were stored already"]
    ran = f"{summary.done:,} run in {duration(summary.seconds)}, {summary.stored:,} stored before"
    if not summary.failed and not summary.blocked:
        return [f"done: {count(summary.total, 'trial')}, {ran}", _cost(summary)]
    lines = [f"ended: {stored:,} of {count(summary.total, 'trial')} stored, {ran}"]
    classes = Counter(failure.failure_class.value for _, failure in summary.failures)
    counts = ", ".join(f"{number} {name}" for name, number in sorted(classes.items()))
    lines.append(f"{summary.failed:,} failed ({counts}), {summary.blocked:,} not run because of them")
    lines.append(_cost(summary))
    lines.append(f"why: wtsbench logs --store {shlex.quote(store)}; try again with: {again}")
    return lines
