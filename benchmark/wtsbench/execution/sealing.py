"""How an attempt ended: the trial's own last word, and the terminal `trials` row that its supervisor writes of it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pyarrow as pa

from wtsbench.contract import schemas
from wtsbench.contract.measurements import Measurements, TrialResult
from wtsbench.execution.spool import AttemptFolder, AttemptNote
from wtsbench.execution.untrusted import read_json
from wtsbench.spec.failure import Failure
from wtsbench.spec.provenance import provenance
from wtsbench.strategies import registry


def seal_row(
    note: AttemptNote,
    failure: Failure | None,
    measured: Measurements,
    records: int,
    finished: float | None = None,
) -> pa.Table:
    """The terminal record: what ran, how it ended, and everything that says where its numbers come from.

    Args:
        note: of the attempt.
        failure: how it failed; None where it is done.
        measured: what the trial said of itself, and what its supervisor adds.
        records: how many records the attempt has, this one included.
        finished: when it ended, in seconds since the epoch; None is now.
    """
    spec = note.job.spec
    finished = time.time() if finished is None else finished
    row = {
        "trial_id": note.job.trial_id,
        "attempt": note.job.attempt,
        "status": "done" if failure is None else "failed",
        "failure_class": None if failure is None else failure.failure_class.value,
        "failure_message": None if failure is None else failure.message,
        "failure_detail": None if failure is None else failure.detail,
        "role": spec.role.value,
        "task": spec.task,
        "model": spec.model.name,
        "strategy": None if spec.strategy is None else registry.short_label(spec.strategy),
        "strategy_json": None if spec.strategy is None else spec.strategy.model_dump_json(),
        "seed": spec.seed,
        "data_seed": spec.data_seed,
        "data_digest": spec.data_digest,
        "parents": list(spec.parents),
        "environment": spec.environment,
        "baselines": json.dumps(note.baselines, sort_keys=True),
        "spec": spec.model_dump_json(),
        **provenance(),
        "environment_lock": note.environment_lock,
        "sandbox": note.sandbox,
        "isolation": note.isolation,
        "image_digest": note.image_digest,
        "model_revision": spec.model.revision,
        "device": measured.device,
        "device_name": measured.device_name,
        "dtype": measured.dtype,
        "threads": measured.threads,
        "batch_size": spec.training.batch_size,
        "host": note.host,
        "started_at": datetime.fromtimestamp(note.started_at, UTC),
        "finished_at": datetime.fromtimestamp(finished, UTC),
        "duration_s": finished - note.started_at,
        "measurements": json.dumps(measured.stored(), sort_keys=True),
        "records": records,
    }
    return pa.Table.from_pylist([row], schema=schemas.TRIALS)


def read_result(folder: AttemptFolder) -> TrialResult | None:
    """The trial's own last word, or None where it left none that can be trusted."""
    try:
        return TrialResult.model_validate(read_json(folder.trial.result))
    except ValueError:  # a ValidationError is a ValueError: such a result is not to be trusted
        return None
