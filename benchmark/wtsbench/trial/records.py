"""What a trial says of itself, as rows of the store's tables."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from wtsbench.contract import schemas
from wtsbench.contract.outbox import Outbox
from wtsbench.spec.trial import Split, TrialJob
from wtsbench.strategies.base import Floats
from wtsbench.trial.drafts import Draft
from wtsbench.trial.train import Curve

_ROWS = 20_000
"""Rows of one record batch at most."""


def write_predictions(outbox: Outbox, job: TrialJob, split: str, item_ids: tuple[str, ...], values: Floats) -> None:
    """Append probabilities [N, C], aligned with the item ids; `split` may be a wording such as `transfer~1`."""
    for start in range(0, len(item_ids), _ROWS):
        ids = item_ids[start : start + _ROWS]
        columns = {
            "trial_id": pa.repeat(job.trial_id, len(ids)),
            "attempt": pa.repeat(job.attempt, len(ids)),
            "split": pa.repeat(split, len(ids)),
            "item_id": pa.array(ids, pa.string()),
            "probabilities": pa.array(values[start : start + _ROWS].tolist(), pa.list_(pa.float64())),
        }
        outbox.append("predictions", _table(columns, schemas.PREDICTIONS))


def write_generations(outbox: Outbox, job: TrialJob, split: str, drafts: Sequence[Draft]) -> None:
    """Append continuations; `split` may be a wording such as `transfer~1`."""
    for start in range(0, len(drafts), _ROWS):
        some = drafts[start : start + _ROWS]
        columns = {
            "trial_id": pa.repeat(job.trial_id, len(some)),
            "attempt": pa.repeat(job.attempt, len(some)),
            "split": pa.repeat(split, len(some)),
            "item_id": pa.array([draft.item_id for draft in some], pa.string()),
            "sample": pa.array([draft.sample for draft in some], pa.int32()),
            "text": pa.array([draft.text for draft in some], pa.string()),
            "tokens": pa.array([len(draft.row.continuation) for draft in some], pa.int32()),
            "finished": pa.array([draft.finished for draft in some], pa.bool_()),
            "logprobs": pa.array([draft.logprobs for draft in some], pa.list_(pa.float64())),
            "base_logprobs": pa.array([draft.base_logprobs for draft in some], pa.list_(pa.float64())),
            "reference_nll": pa.array([draft.reference_nll for draft in some], pa.float64()),
            "reference_tokens": pa.array([draft.reference_tokens for draft in some], pa.int32()),
        }
        outbox.append("generations", _table(columns, schemas.GENERATIONS))


def write_curve(outbox: Outbox, job: TrialJob, split: Split, curve: Curve) -> None:
    """Append the training loss over the steps, as metric `loss` of the split trained on."""
    if not curve.steps:
        return
    size = len(curve.steps)
    columns = {
        "trial_id": pa.repeat(job.trial_id, size),
        "attempt": pa.repeat(job.attempt, size),
        "name": pa.repeat("loss", size),
        "split": pa.repeat(split.value, size),
        "step": pa.array(curve.steps, pa.int64()),
        "value": pa.array(curve.losses, pa.float64()),
    }
    outbox.append("metrics", _table(columns, schemas.METRICS))


def _table(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    return pa.table([columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema)
