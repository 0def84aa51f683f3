"""About how long trials take: as the store's trials of the same kind took, else by their operations (`models.work`)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from wtsbench.models.work import Size, expected_seconds
from wtsbench.spec.trial import Split, TrialSpec
from wtsbench.store.client import Store
from wtsbench.strategies import registry

_COLUMNS = ["status", "task", "role", "model", "strategy", "duration_s"]


def expected(
    store: Store, specs: Sequence[TrialSpec], sizes: Mapping[str, Mapping[Split, Size]], *, gpus: float
) -> dict[str, float]:
    """Seconds by trial id, for the order in which trials are started; none where nothing is known.

    Args:
        store: with trials that ran before.
        specs: the trials.
        sizes: how much there is of every split of each data set, by digest.
        gpus: of one trial.
    """
    history = _means(store.trials(tasks=sorted({spec.task for spec in specs}), columns=_COLUMNS).to_pylist())
    seconds = expected_seconds(specs, sizes, gpus=gpus)
    for spec in specs:
        strategy = None if spec.strategy is None else registry.short_label(spec.strategy)
        for kind in _kinds(spec.task, spec.role.value, spec.model.name, strategy):
            if kind in history:
                seconds[spec.trial_id] = history[kind]
                break
    return seconds


def _means(rows: Iterable[Mapping[str, object]]) -> dict[Hashable, float]:
    taken: dict[Hashable, list[float]] = {}
    for row in rows:
        seconds = row["duration_s"]
        if row["status"] == "done" and isinstance(seconds, float):
            for kind in _kinds(row["task"], row["role"], row["model"], row["strategy"]):
                taken.setdefault(kind, []).append(seconds)
    return {kind: sum(seconds) / len(seconds) for kind, seconds in taken.items()}


def _kinds(*about: object) -> Iterator[Hashable]:
    """Groups of trials that take about as long, the narrowest first."""
    yield about
    yield about[:3]
