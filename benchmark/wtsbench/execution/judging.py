"""Scoring of generated texts: a plan names the scorer, and the end of an attempt loads and applies it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pyarrow as pa

from wtsbench.contract.schemas import SCORES
from wtsbench.errors import ScorerError
from wtsbench.scoring.base import Scorer
from wtsbench.scoring.resolve import resolve
from wtsbench.spec.frozen import Frozen
from wtsbench.spec.trial import TrialSpec


class ScorerPlace(Frozen):
    """Where a task's scorer is found. A trial's identity holds the scorer's digest, not this."""

    name: str
    """A name in manifests/scorers, the path of such a manifest, or a folder with a trained scorer."""
    base: str
    """Folder that relative paths start from."""
    mirror: str | None
    """Folder of the data mirror, if there is one."""


@cache
def scorer_at(place: ScorerPlace) -> Scorer:
    """The scorer, loaded once per process.

    Raises:
        ScorerError: it cannot be loaded or trained.
        SpecError: its manifest is wrong.
    """
    return resolve(place.name, base=Path(place.base), mirror=None if place.mirror is None else Path(place.mirror))


def judged(generations: pa.Table, spec: TrialSpec, place: ScorerPlace) -> tuple[pa.Table, Scorer]:
    """The score of every generation, as rows of the `scores` table, and the scorer.

    Args:
        generations: rows of the `generations` table of one attempt.
        spec: the trial; it says which scorer was planned.
        place: where that scorer is.

    Raises:
        ScorerUnavailable: the scorer does not answer now.
        ScorerError: it cannot score, or is not the one that was planned.
    """
    scorer = scorer_at(place)
    if scorer.digest != spec.scorer:
        raise ScorerError(
            f"scorer {place.name} is {scorer.digest[:12]} here, and the plan says {str(spec.scorer)[:12]}",
            remedy="use the same data mirror and versions on all nodes, or submit again to plan with this one.",
        )
    values = scorer.score(generations["text"].to_pylist())
    columns = {name: generations[name] for name in ("trial_id", "attempt", "split", "item_id", "sample")}
    columns |= {"scorer": pa.repeat(scorer.digest, len(values)), "value": pa.array(values, pa.float64())}
    return pa.table([columns[name] for name in SCORES.names], schema=SCORES), scorer
