"""A submission in one call: prepared, run, its progress shown, and stopped by an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn

from tqdm.auto import tqdm

from wtsbench.execution.interruption import Interruption
from wtsbench.execution.scheduler import Event, Summary
from wtsbench.execution.session import Options, Session, prepare, submit
from wtsbench.planning.check import GridSource


def watched(
    grid: GridSource,
    store: str,
    executor: Literal["ray", "in-process"],
    ray: str | None,
    sandbox: str,
    mirror: Path | None,
    on_event: Callable[[Event], None] | None,
) -> Summary:
    """As `api.submit`, with every default filled in."""
    options = Options(store=store, sandbox=sandbox, ray=ray, executor=executor, mirror=mirror)
    with Bar(shown=on_event is None) as bar, Interruption(bar.stopping, at_once=_interrupted) as interruption:
        session = prepare(grid, options, note=bar.note)
        bar.begin(session)

        def listen(event: Event) -> None:
            interruption.claim()
            bar.take(event)
            if on_event is not None:
                on_event(event)

        interruption.stop_cleanly()
        return submit(session, listener=listen, stop=interruption.stop)


def _interrupted() -> NoReturn:
    raise KeyboardInterrupt


class Bar:
    """A bar of the trials that have ended, and a line for each that failed; in a terminal and in a notebook."""

    def __init__(self, *, shown: bool) -> None:
        self._bar: tqdm[NoReturn] = tqdm(disable=not shown, unit="trial", dynamic_ncols=True)
        self._failed = 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def note(self, text: str) -> None:
        """What is being done, until the next note."""
        self._bar.set_description_str(text)

    def begin(self, session: Session) -> None:
        """The plan is known."""
        self._bar.reset(total=session.report.total)
        self._bar.update(session.report.stored)
        self.note(session.grid.name)

    def take(self, event: Event) -> None:
        """Something happened."""
        if event.kind == "done":
            self._bar.update()
        elif event.kind in ("preparing", "started"):
            self.note(event.message)
        elif event.kind in ("failed", "retrying") and event.failure is not None:
            self._failed += event.kind == "failed"
            failure = event.failure
            self._bar.write(f"{event.kind} {event.message}: {failure.failure_class.value}: {failure.message}")
            self._bar.set_postfix(failed=self._failed)

    def stopping(self) -> None:
        """Told in a signal's handler, so by the bar's next refresh."""
        self._bar.desc = "stopping: what is finished is kept; once more to stop at once"
