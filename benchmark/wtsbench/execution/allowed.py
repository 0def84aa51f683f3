"""The closed list of records that a trial may write, checked when its outbox is collected.

predictions     on the splits that every trial of its role predicts, and on those that its recipe adds
generations     in place of predictions, for generative tasks
metrics         points of training curves (`spec.trial.CURVES`) on the split that it trains on

The supervisor writes everything else: final scores, scores of texts, logs, and how the attempt ended. A trial that
writes such a record does not run the planned code, so it fails, and none of its records counts.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.contract.outbox import Batch
from wtsbench.contract.schemas import MADE_TABLES
from wtsbench.spec.trial import CURVES, TRAIN_SPLIT, Split, TrialSpec
from wtsbench.strategies import recipes


def further_splits(spec: TrialSpec) -> tuple[str, ...]:
    """The splits that a trial predicts because of its recipe, beyond those of every trial of its role."""
    recipe = None if spec.recipe is None or spec.form == "generation" else recipes.parse(spec.recipe)
    if isinstance(recipe, recipes.Asked):
        asked = (Split.TRANSFER.value, Split.VALIDATION.value)
        return tuple(f"{split}~{number}" for number, _ in enumerate(recipe.frames, start=1) for split in asked)
    known = recipes.Boosted | recipes.Reserved | recipes.Prior
    return (Split.WEAK_TRAIN.value,) if isinstance(recipe, known) else ()


def forbidden(batch: Batch, spec: TrialSpec) -> str | None:
    """What a record holds that a trial of this specification may not write; None if it may write all of it."""
    own_table = MADE_TABLES[spec.form]
    if batch.table == "metrics":
        return _no_curve(batch.data, TRAIN_SPLIT[spec.role])
    if batch.table != own_table:
        return f"a record of {batch.table}, which a trial does not write"
    allowed = {*(split.value for split in spec.predicted_splits), *further_splits(spec)}
    forbidden_splits = sorted({*pc.unique(batch.data["split"]).to_pylist()} - allowed)
    return (
        f"{own_table} on {', '.join(forbidden_splits)}, which a trial like this does not predict"
        if forbidden_splits
        else None
    )


def _no_curve(rows: pa.RecordBatch, split: Split) -> str | None:
    """Why metrics are not points of a training curve with one step each; None if they are."""
    names = sorted({*pc.unique(rows["name"]).to_pylist()} - {*CURVES})
    if names or {*pc.unique(rows["split"]).to_pylist()} - {split.value} or rows["step"].null_count:
        described = ", ".join(names) or "other splits or without a step"
        return (
            f"metrics ({described}), of which a trial writes {', '.join(CURVES)} over the steps on {split.value} only"
        )
    steps = pa.Table.from_batches([rows]).group_by(["name", "step"]).aggregate([])
    return None if steps.num_rows == rows.num_rows else "two points of a training curve at one step"
