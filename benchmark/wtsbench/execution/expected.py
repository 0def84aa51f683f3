"""About how long a grid's trials take: as trials like them took in the store, else by their operations (`models.work`).

Trials are alike if they differ in their seeds and parents alone: same items, model, settings and strategy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wtsbench.execution.known import stored_spec
from wtsbench.models import work
from wtsbench.models.work import Size
from wtsbench.spec.trial import Split, TrialSpec
from wtsbench.store.client import Store

WITHIN = 2.0
"""The interval of a computed time: from its half to its double."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """About how long trials take, one after the other."""

    seconds: Mapping[str, float]
    """Of each, by trial id; none where nothing is known."""
    low: float
    """Seconds of all that are counted, if each is as quick as the quickest like it ..."""
    high: float
    """... and as slow as the slowest."""
    measured: int
    """Trials whose time is taken from trials like them in the store; the others' is computed."""
    unknown: tuple[str, ...]
    """Models whose size nothing here knows; their trials are not counted."""
    device: str
    """`core` or `GPU`: what each runs on."""

    def __str__(self) -> str:
        computed = len(self.seconds) - self.measured
        by = [f"{self.measured:,} by how long trials like them took here"] if self.measured else []
        by += [f"{computed:,} by their operations, half to twice"] if computed else []
        low, high = _in_words(self.low), _in_words(self.high)
        took = f"about {low}" if low == high else f"{low} to {high}"
        text = f"{took} of one {self.device}, one trial after the other: {'; '.join(by) or 'nothing is known'}"
        return text + (f"; without those of {', '.join(self.unknown)}" if self.unknown else "")

    def record(self) -> dict[str, Any]:
        """As JSON values, seconds together."""
        known = {"trials": len(self.seconds), "seconds": sum(self.seconds.values()), "low": self.low, "high": self.high}
        return {**known, "measured": self.measured, "unknown": list(self.unknown), "device": self.device}


def expected(
    store: Store | None, trials: Mapping[str, TrialSpec], sizes: Mapping[str, Mapping[Split, Size]], *, gpus: float
) -> Estimate:
    """About how long trials take.

    Args:
        store: with trials that ran before; None if there is none yet.
        trials: by id. Those whose predictions come from elsewhere take no time.
        sizes: how much there is of every split of each data set, by digest.
        gpus: of one trial; a part of one counts as a whole one, which trials then share.
    """
    trials = {trial_id: spec for trial_id, spec in trials.items() if spec.model.trained}
    history = {} if store is None else _history(store, trials.values())
    seconds: dict[str, float] = {}
    low = high = 0.0
    measured, unknown = 0, dict[str, None]()
    for trial_id, spec in trials.items():
        took = history.get(_kind(spec), []) if history else []
        computed = None if took else work.seconds(spec, sizes[spec.data_digest], gpus=gpus)
        if took:
            measured += 1
            least, seconds[trial_id], most = min(took), sum(took) / len(took), max(took)
        elif computed is not None:
            least, seconds[trial_id], most = computed / WITHIN, computed, computed * WITHIN
        else:
            unknown[spec.model.name] = None
            continue
        low, high = low + least, high + most
    return Estimate(
        seconds=seconds, low=low, high=high, measured=measured, unknown=tuple(unknown), device="GPU" if gpus else "core"
    )


def _history(store: Store, specs: Iterable[TrialSpec]) -> dict[str, list[float]]:
    """Seconds that trials on the same items took, by what they were."""
    digests = sorted({spec.data_digest for spec in specs})
    found: dict[str, list[float]] = {}
    for row in store.trials(data_digests=digests, columns=["status", "spec", "duration_s"]).to_pylist():
        spec = stored_spec(row["spec"]) if row["status"] == "done" else None
        if spec is not None and row["duration_s"] is not None:
            found.setdefault(_kind(spec), []).append(row["duration_s"])
    return found


def _kind(spec: TrialSpec) -> str:
    """All of a specification but its seeds, its parents, whose it is, and the code and libraries that run it."""
    other = {"seed", "data_seed", "parents", "grid", "environment"}
    return json.dumps(spec.model_dump(mode="json", exclude=other), sort_keys=True)


def _in_words(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.2g} hours" if hours >= 1 else f"{math.ceil(seconds / 60)} min"
