"""Views of a running submission: live on a terminal, lines on a pipe or in CI, or failures only."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from wtsbench.visible import visible
from wtsbench_cli.tally import Running, Tally
from wtsbench_cli.terminal import clock, console, duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from wtsbench.data.account import Account
    from wtsbench.execution.events import Event, TrialEvent
    from wtsbench.execution.session import Session
    from wtsbench.spec.trial import TrialSpec

_HOW = {"run": "", "kept": " (kept: an earlier submission had finished it)", "elsewhere": " (stored meanwhile)"}
NARROW, LOW = 40, 8
"""Columns and rows below which a live view is one line."""


def hint(trial: TrialSpec) -> str:
    """The command that shows more about a failed trial."""
    return f"wtsbench logs {trial.trial_id[:12]}"


class QuietView:
    """Failures only."""

    def __init__(self) -> None:
        self.tally = Tally({}, set())
        self.grid = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to restore."""

    def take(self, event: Event) -> None:
        """Show an event."""
        from wtsbench.execution.events import LeftOut, Planned, Preparing, SetAside, Stopping, Yielding

        match event:
            case Stopping():
                self.stopping()
            case LeftOut():
                self.remark(f"node {event.node} gets no trials: {event.why}; see `wtsbench doctor --ray`")
            case Preparing():
                self.note(event.text)
            case Yielding():
                self.remark(
                    "starts trials again" if event.to is None else f"waits: run {event.to} has a higher priority"
                )
            case SetAside():
                self.remark(f"node {event.node} gets no more trials: it failed {event.failures} in a row")
            case Planned():
                session = event.session
                self.grid = session.grid.name
                stored = {trial.trial_id for trial in session.report.trials if trial.state == "stored"}
                self.tally = Tally(session.plan.trials, stored)
                self.begin(session)
            case _:
                self.tally.take(event)
                self.show(event)

    def note(self, text: str) -> None:
        """Show a step of the preparation."""

    def remark(self, text: str) -> None:
        """Show something about the run as a whole."""

    def begin(self, session: Session) -> None:
        """Show the plan."""

    def show(self, event: TrialEvent) -> None:
        """Show an event of a trial."""
        from wtsbench.execution.events import Failed

        if isinstance(event, Failed) and not event.again:
            self.line(event)

    def stopping(self) -> None:
        """Show that the submission stops, as the user asked."""
        print("stopping: what is finished is kept; once more to stop at once", file=sys.stderr, flush=True)

    def words(self, event: TrialEvent) -> str:
        """The trial's title and its outcome, on one line whatever its messages contain."""
        from wtsbench.execution.events import Blocked, Done, Failed, Held

        name = self.tally.name(event.trial.trial_id)
        match event:
            case Failed():
                text = f"{name}: {event.failure.failure_class.value}: {event.failure.message}"
            case Done():
                text = f"{name}{_HOW[event.how]}"
            case Blocked():
                text = f"{name}: waits for a trial that failed or was cancelled"
            case Held():
                text = f"{name}: run {event.by} is at it"
            case _:
                text = name
        return visible(text)

    def line(self, event: TrialEvent) -> None:
        """Print an event as a line with a stable prefix."""
        from wtsbench.execution.events import Blocked, Done, Failed, Held, Started

        total = self.tally.total
        place = f"[{self.tally.done:>{len(str(total))}}/{total}]"
        match event:
            case Failed():
                word, more = "retrying" if event.again else "failed", f"; {hint(event.trial)}"
            case Done():
                word, more = "done", f" ({duration(event.seconds)})" if event.seconds else ""
            case Started():
                word, more = "start", ""
            case Held():
                word, more = "waits", ""
            case Blocked():
                word, more = "not run", ""
            case _:
                word, more = "cancelled", ""
        print(f"{place} {word} {self.words(event)}{more}", flush=True)


class LineView(QuietView):
    """One line for each event: for pipes, files and CI."""

    def note(self, text: str) -> None:
        """Show a step of the preparation."""
        print(text, flush=True)

    def remark(self, text: str) -> None:
        """Print a line about the run."""
        print(visible(text), flush=True)

    def begin(self, session: Session) -> None:
        """Print the header, one fact per line."""
        for name, text in header(session):
            print(f"{name}: {text}", flush=True)
        if session.sandbox.notice:
            print(session.sandbox.notice, flush=True)

    def show(self, event: TrialEvent) -> None:
        """Print an event of a trial, except progress."""
        from wtsbench.execution.events import Progressed

        if not isinstance(event, Progressed):
            self.line(event)


class LiveView(QuietView):
    """A bar for the whole, a line for each running trial, failures above them; a single line on small terminals."""

    def __init__(self) -> None:
        from wtsbench_cli.region import Region

        super().__init__()
        self._region = Region(console(), self._drawn)
        self._doing = ""
        self._since = time.monotonic()
        self._stopping = False
        self._widest = 0

    def __enter__(self) -> Self:
        self._region.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._region.__exit__()

    def note(self, text: str) -> None:
        """Show a step of the preparation until the next one."""
        self._doing, self._since = text, time.monotonic()

    def remark(self, text: str) -> None:
        """Print a line about the run, above the lines that change."""
        self._print((visible(text), "yellow"))

    def begin(self, session: Session) -> None:
        """Print the header, above the lines that change."""
        self._doing = ""
        lines = [((f"{name:<9}", "bold"), (f"{text}\n", "")) for name, text in header(session)]
        notice = [(f"{session.sandbox.notice}\n", "yellow")] if session.sandbox.notice else []
        self._print(*(part for line in lines for part in line), *notice)

    def show(self, event: TrialEvent) -> None:
        """Show an event of a trial."""
        from wtsbench.execution.events import Blocked, Failed, Held, Started

        match event:
            case Started():
                self._doing = ""
            case Held():
                self._print(("waits   ", "dim"), (self.words(event), ""))
            case Failed(again=True):
                self._print(("again   ", "yellow"), (self.words(event), ""))
            case Failed():
                more = f"\n        {hint(event.trial)}"
                self._print(("failed  ", "bold red"), (self.words(event), ""), (more, "dim"))
            case Blocked():
                self._print(("not run ", "yellow"), (self.words(event), ""))

    def stopping(self) -> None:
        """Have the display show it, since a signal handler must not print into it."""
        self._stopping = True

    def _print(self, *parts: tuple[str, str]) -> None:
        from rich.text import Text

        self._region.print(Text.assemble(*parts))

    def _drawn(self, width: int, height: int) -> RenderableType:
        """The lines at the bottom of the terminal."""
        from rich.console import Group
        from rich.text import Text

        notice = Text("stopping: what is finished is kept; Ctrl-C once more to stop at once", style="yellow")
        notice.truncate(width, overflow="ellipsis")
        if width < NARROW or height < LOW:
            return notice if self._stopping else self._line(width)
        lines: list[RenderableType] = []
        if self.tally.total and not self._doing:
            running = self.tally.running()
            room = height - 6
            lines += [self._overall(width), self._each(running[:room], width)] if running else [self._overall(width)]
            if len(running) > room:
                lines.append(Text(f"  and {len(running) - room} more", style="dim"))
        elif self._doing:
            lines.append(self._line(width))
        return Group(*lines, notice) if self._stopping else Group(*lines)

    def _line(self, width: int) -> Text:
        """The most important facts on one line."""
        from rich.text import Text

        if not self._doing:
            text = Text(f"{self.tally.done}/{self.tally.total} trials {self._times()}" if self.tally.total else "")
            text.truncate(width, overflow="ellipsis")
            return text
        passed = f" … {clock(time.monotonic() - self._since)}"
        text = Text(self._doing, style="dim")
        text.truncate(max(1, width - len(passed)), overflow="ellipsis")
        return text.append(passed)

    def _times(self) -> str:
        left = self.tally.seconds_left()
        passed = clock(self.tally.elapsed)
        return f"in {passed}" if left is None else f"in {passed}, about {clock(left)} left"

    def _overall(self, width: int) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally = self.tally
        part = tally.done + sum(running.share or 0.0 for running in tally.running())
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        text = Text(f"{tally.done}/{tally.total} {self._times()}")
        if tally.failed:
            text.append(f", {tally.failed} failed", style="red")
        bar = ProgressBar(total=tally.total, completed=part, width=max(4, min(40, width - 8 - text.cell_len)))
        table.add_row(Text("trials", style="bold"), bar, text)
        return table

    def _each(self, running: list[Running], width: int) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        names = [f"  {self.tally.name(item.trial_id)}" for item in running]
        self._widest = max(self._widest, *map(len, names), 0)  # never gets narrower, so that bars do not jump
        room = max(20, width - 18)  # without percent, time, blanks, and an echoed ^C
        bar = min(12, max(4, room - self._widest))
        table.add_column(no_wrap=True, overflow="ellipsis", width=min(self._widest, room - bar))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right", width=4)
        table.add_column(no_wrap=True, justify="right", width=7, style="dim")
        for name, item in zip(names, running, strict=True):
            share = item.share
            percent = "" if share is None else f"{share:.0%}"
            progress = ProgressBar(total=1.0, completed=share or 0.0, width=bar)
            table.add_row(name, progress, percent, clock(self.tally.seconds_of(item)))
        return table


def header(session: Session) -> list[tuple[str, str]]:
    """What is about to run, as pairs of name and text."""
    from wtsbench_cli.terminal import count

    grid, report = session.grid, session.report
    shape = " x ".join(
        (
            count(len(grid.tasks), "task"),
            count(len(grid.pairs), "pair"),
            count(len(grid.strategies), "strategy", "strategies"),
            *([count(len(grid.data.seeds), "draw")] if grid.data.seeds else []),
            count(len(grid.seeds), "seed"),
        )
    )
    return [
        ("grid", f"{grid.name} ({shape})"),
        ("store", session.options.store),
        ("sandbox", session.sandbox.name),
        ("trials", f"{report.total:,}: {report.stored:,} stored, {report.to_run:,} to run"),
        *(("data", account.line) for account in accounts(session)),
        *warnings(session),
    ]


def warnings(session: Session) -> list[tuple[str, str]]:
    """Warnings before trials run, as pairs of subject and text."""
    return [
        *(("data", warning) for warning in data_warnings(session)),
        *(("memory", warning) for warning in memory_warnings(session)),
    ]


def accounts(session: Session) -> list[Account]:
    """What became of the rows of each task."""
    from wtsbench.data.account import account_of

    first = {dataset.task: dataset for dataset in reversed(session.datasets.values())}  # of the draws of a task
    return [account_of(dataset) for dataset in reversed(first.values())]


def data_warnings(session: Session) -> list[str]:
    """What of the tasks' data speaks against taking scores at their word, and texts that will be cut off."""
    from wtsbench.data.account import cut_off

    room: dict[str, int] = {}
    for trial in session.report.trials:
        room[trial.spec.task] = min(room.get(trial.spec.task, 2**31), trial.spec.training.max_length)
    cut = (cut_off(dataset, room[dataset.task]) for dataset in session.datasets.values() if dataset.task in room)
    return [warning for account in accounts(session) for warning in account.warnings] + [text for text in cut if text]


def memory_warnings(session: Session) -> list[str]:
    """Models whose trials clearly need more memory than the grid gives them, or than this machine's GPU has.

    `wtsbench doctor --ray` tells which GPUs a cluster's nodes have.
    """
    from wtsbench.models.memory import warnings
    from wtsbench_cli.checks import gpu_bytes

    resources = session.grid.resources
    to_run = [trial.spec for trial in session.report.trials if trial.state != "stored"]
    here = resources.gpus and session.options.ray is None
    return warnings(to_run, resources, gpu_bytes=gpu_bytes() if here else None)
