"""Supervisors that wtsbench does not train: their labels are taken outside the sandbox, in place of a trial's run."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.execution.spool import AttemptFolder
from wtsbench.models import external
from wtsbench.spec.trial import PREDICTED_SPLITS, TrialJob
from wtsbench.store.client import Store
from wtsbench.store.outbox import Outbox
from wtsbench.store.schemas import PREDICTIONS

ISOLATION = "none: labels were taken from elsewhere, nothing was run"


def take_labels(folder: AttemptFolder, job: TrialJob, store: Store) -> None:
    """Write what the supervisor says of every item that is to be predicted, and a result, as a trial would.

    Raises:
        ModelError: it has no label for some items, is not what was planned, or cannot be asked.
    """
    items = store.items(job.spec.data_digest).select(["item_id", "split", "text"])
    items = items.filter(pc.field("split").isin([split.value for split in PREDICTED_SPLITS]))
    said, statistics = external.predict(job.spec.model, items, job.labels)
    columns = {
        "trial_id": pa.repeat(job.trial_id, said.num_rows),
        "attempt": pa.repeat(job.attempt, said.num_rows).cast(pa.int32()),
        **{name: said[name] for name in ("split", "item_id", "probabilities")},
    }
    outbox = Outbox(folder.outbox, trial_id=job.trial_id, attempt=job.attempt)
    outbox.append("predictions", pa.table([columns[name] for name in PREDICTIONS.names], schema=PREDICTIONS))
    result = {"status": "done", "failure": None, "measurements": {"supervisor": statistics}}
    folder.result.write_text(json.dumps(result, sort_keys=True))
