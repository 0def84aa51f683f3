"""A submission in one call: prepared, run, shown, and stopped by an interruption."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import NoReturn

from tqdm.auto import tqdm

from wtsbench.execution.events import Done, Event, Failed, LeftOut, Listener, Planned, Preparing, Started, Stopping
from wtsbench.execution.interruption import Interruption
from wtsbench.execution.scheduler import Summary
from wtsbench.execution.session import Session, submit
from wtsbench.planning.report import title


def watched(
    make: Callable[[Callable[[str], None]], Session],
    on_event: Listener | None,
    on_second_interrupt: Callable[[], NoReturn] | None = None,
) -> Summary:
    """As `api.submit`, of what is made by a function that is given one to say what it does."""
    with nullcontext() if on_event is not None else Bar() as bar:
        listener = bar.take if bar is not None else on_event
        assert listener is not None
        stopping = Stopping()
        with Interruption(lambda: listener(stopping), at_once=on_second_interrupt or _interrupted) as interruption:

            def tell(event: Event) -> None:
                interruption.claim()
                try:
                    listener(event)
                except KeyboardInterrupt:
                    interruption.stop.set()

            session = make(lambda text: listener(Preparing(text=text)))
            listener(Planned(session=session))
            interruption.stop_cleanly()
            return submit(session, listener=tell, stop=interruption.stop)


def _interrupted() -> NoReturn:
    raise KeyboardInterrupt


class Bar:
    """A progress bar of trials, and a line for each that failed; in a terminal and in a notebook."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] = tqdm(unit="trial", dynamic_ncols=True)
        self._failed = 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def take(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Preparing():
                self._bar.set_description_str(event.text)
            case Planned():
                report = event.session.report
                self._bar.reset(total=report.total)
                self._bar.update(report.stored)
                self._bar.set_description_str(event.session.grid.name)
            case LeftOut():
                self._bar.write(f"node {event.node} gets no trials: {event.why}")
            case Started():
                self._bar.set_description_str(title(event.trial))
            case Done():
                self._bar.update()
            case Failed():
                self._failed += not event.again
                what, failure = "retrying" if event.again else "failed", event.failure
                self._bar.write(f"{what} {title(event.trial)}: {failure.failure_class.value}: {failure.message}")
                self._bar.set_postfix(failed=self._failed)
            case Stopping():  # in a signal handler: the bar shows it at its next refresh
                self._bar.desc = "stopping: what is finished is kept; once more to stop at once"
