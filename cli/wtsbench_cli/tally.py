"""Progress of a submission, from its events: counts, running trials, and the time left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wtsbench.execution.events import TrialEvent
    from wtsbench.spec.trial import TrialSpec

ENOUGH = 0.2
"""Share of a trial after which its own pace is used to estimate its duration."""


@dataclass
class Running:
    """A trial that runs now."""

    trial_id: str
    since: float
    share: float | None = None


class Tally:
    """Counts events; safe to read from the thread that draws while another one counts.

    Args:
        trials: every trial of the plan, parents first.
        stored: ids of trials whose results were in the store before.
        clock: seconds, monotonic.
    """

    def __init__(
        self, trials: Mapping[str, TrialSpec], stored: set[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._trials = trials
        self._clock = clock
        self._begun = clock()
        self._lock = threading.Lock()
        self._done = set(stored)
        self._not_to_run: set[str] = set()
        self._running: dict[str, Running] = {}
        self._samples: dict[Hashable, list[float]] = {}
        self._most_at_once = 1
        self._names: dict[str, str] = {}
        self.failed = 0

    @property
    def total(self) -> int:
        """Trials of the plan."""
        return len(self._trials)

    @property
    def done(self) -> int:
        """Trials whose results are in the store by now."""
        return len(self._done)

    @property
    def elapsed(self) -> float:
        """Seconds since the tally was made."""
        return self._clock() - self._begun

    def take(self, event: TrialEvent) -> None:
        """Count one event."""
        from wtsbench.execution.events import Done, Failed, Held, Progressed, Started

        key = event.trial.trial_id
        with self._lock:
            match event:
                case Started():
                    self._running[key] = Running(key, self._clock())
                    self._most_at_once = max(self._most_at_once, len(self._running))
                    return
                case Progressed():
                    if key in self._running:
                        self._running[key].share = event.share
                    return
                case Done():
                    self._done.add(key)
                    if event.attempt is not None and event.seconds is not None:
                        for kind in _kinds(event.trial):
                            self._samples.setdefault(kind, []).append(event.seconds)
                case Failed(again=True) | Held():
                    pass
                case _:
                    self._not_to_run.add(key)
                    self.failed += isinstance(event, Failed)
            self._running.pop(key, None)

    def running(self) -> list[Running]:
        """The running trials, the longest-running first."""
        with self._lock:
            return [Running(item.trial_id, item.since, item.share) for item in self._running.values()]

    def name(self, trial_id: str) -> str:
        """A trial's title."""
        if trial_id not in self._names:
            from wtsbench.planning.report import title

            self._names[trial_id] = title(self._trials[trial_id])
        return self._names[trial_id]

    def seconds_of(self, running: Running) -> float:
        """For how long a trial has been running."""
        return self._clock() - running.since

    def seconds_left(self) -> float | None:
        """Estimate of the time until everything has run; None before anything is known.

        The remaining work, by the mean duration of the most similar finished trials, divided by the largest number of
        trials seen side by side; but at least the longest chain of trials that wait for one another.
        """
        with self._lock:
            left: dict[str, float] = {}
            now = self._clock()
            samples = self._with_running(now)
            for key in self._waiting():
                guess = _mean(samples, self._trials[key])
                if guess is None:
                    return None
                running = self._running.get(key)
                left[key] = guess if running is None else _rest(running, guess, now)
            chain: dict[str, float] = {}
            for key, seconds in left.items():  # parents come first in a plan
                parents = self._trials[key].parents
                chain[key] = seconds + max((chain.get(parent, 0.0) for parent in parents), default=0.0)
            return max(sum(left.values()) / self._most_at_once, max(chain.values(), default=0.0))

    def _waiting(self) -> Iterator[str]:
        return (key for key in self._trials if key not in self._done and key not in self._not_to_run)

    def _with_running(self, now: float) -> Mapping[Hashable, list[float]]:
        """Durations of finished trials, and for kinds without any, extrapolations from running ones."""
        samples = dict(self._samples)
        for running in self._running.values():
            if running.share is not None and running.share >= ENOUGH:
                extrapolated = (now - running.since) / running.share
                for kind in _kinds(self._trials[running.trial_id]):
                    if kind not in self._samples:
                        samples[kind] = [*samples.get(kind, []), extrapolated]
        return samples


def _kinds(spec: TrialSpec) -> tuple[Hashable, ...]:
    """Groups of trials with similar durations, the most similar first."""
    role, model = spec.role.value, spec.model.name
    return ((spec.task, role, model), (role, model), model, None)


def _mean(samples: Mapping[Hashable, list[float]], spec: TrialSpec) -> float | None:
    for kind in _kinds(spec):
        if kind in samples:
            return sum(samples[kind]) / len(samples[kind])
    return None


def _rest(running: Running, guess: float, now: float) -> float:
    passed = now - running.since
    if running.share is not None and running.share >= ENOUGH:
        return passed / running.share * (1 - running.share)
    return max(0.0, guess - passed)
