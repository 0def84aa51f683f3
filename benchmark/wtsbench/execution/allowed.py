"""The closed list of what a trial may write, checked where its records come home.

predictions     on the splits that the trial owes, and on those that its recipe says besides
generations     in place of predictions, for generative tasks
metrics         points of training curves (`spec.trial.CURVES`) on the split that it trains on

All else is the supervisor's: final scores, judgements of texts, logs, and how the attempt ended. A trial that writes
such a record is not the code that was planned, so it fails, and none of its records counts.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.contract.outbox import Batch
from wtsbench.spec.trial import CURVES, TRAIN_SPLIT, Split, TrialSpec
from wtsbench.strategies import recipes


def further_splits(spec: TrialSpec) -> tuple[str, ...]:
    """The splits that a trial predicts beside those that every trial of its form owes, as its recipe says."""
    recipe = None if spec.recipe is None or spec.form == "generation" else recipes.parse(spec.recipe)
    if isinstance(recipe, recipes.Asked):
        asked = (Split.TRANSFER.value, Split.VALIDATION.value)
        return tuple(f"{split}~{number}" for number, _ in enumerate(recipe.frames, start=1) for split in asked)
    known = recipes.Boosted | recipes.Reserved | recipes.Prior
    return (Split.WEAK_TRAIN.value,) if isinstance(recipe, known) else ()


def forbidden(batch: Batch, spec: TrialSpec) -> str | None:
    """What a record holds that a trial of this specification may not write; None where it may write all of it."""
    made = "generations" if spec.form == "generation" else "predictions"
    if batch.table == "metrics":
        return _no_curve(batch.data, TRAIN_SPLIT[spec.role])
    if batch.table != made:
        return f"a record of {batch.table}, which a trial does not write"
    owed = {*(split.value for split in spec.predicted_splits), *further_splits(spec)}
    others = sorted({*pc.unique(batch.data["split"]).to_pylist()} - owed)
    return f"{made} on {', '.join(others)}, which a trial like this does not predict" if others else None


def _no_curve(rows: pa.RecordBatch, split: Split) -> str | None:
    """Why metrics are not points of a training curve, each of its own step."""
    names = sorted({*pc.unique(rows["name"]).to_pylist()} - {*CURVES})
    if names or {*pc.unique(rows["split"]).to_pylist()} - {split.value} or rows["step"].null_count:
        what = ", ".join(names) or "other splits or without a step"
        return f"metrics ({what}), of which a trial writes {', '.join(CURVES)} over the steps on {split.value} only"
    steps = pa.Table.from_batches([rows]).group_by(["name", "step"]).aggregate([])
    return None if steps.num_rows == rows.num_rows else "two points of a training curve at one step"
