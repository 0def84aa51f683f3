"""How an attempt ends: its outbox is claimed, its predictions scored, the attempt sealed and delivered.

Whatever must be true of every attempt, however the trial ended, is written here: its log, its scores against ground
truth, and the terminal `trials` row that makes the attempt visible in the store. Their sequence numbers are fixed, so
that ending the same attempt twice writes the same keys.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, Field

from wtsbench.contract import schemas
from wtsbench.contract.outbox import Outbox, read_batch
from wtsbench.errors import ScorerError, ScorerUnavailable, StoreError
from wtsbench.execution.allowed import forbidden, further_splits
from wtsbench.execution.judging import judged
from wtsbench.execution.spool import AttemptFolder, AttemptNote
from wtsbench.execution.untrusted import read_json
from wtsbench.files import remove_tree, replace
from wtsbench.metrics.score import ScoringError, mean_supervision, score, score_generations
from wtsbench.sandbox import log
from wtsbench.sandbox.staging import reclaim
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.provenance import provenance
from wtsbench.spec.trial import Role, Split, TrialJob
from wtsbench.store.client import Store
from wtsbench.store.courier import deliver
from wtsbench.strategies import registry
from wtsbench.visible import storable

SCORES_SEQUENCE = 900_000
"""Of the first record that is the supervisor's."""
LOG_SEQUENCE = 900_001
METRICS_SEQUENCE = 900_002
SEAL_SEQUENCE = 900_003
LOG_LINES = 2_000
"""Lines of a trial's output that are kept: the last ones."""


class _Measured(BaseModel):
    """What of a trial's measurements has columns of its own."""

    device: str | None = None
    device_name: str | None = None
    dtype: str | None = None
    threads: Annotated[int, Field(strict=True, ge=0, lt=2**31)] | None = None


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an attempt ended, as the store has it."""

    failure: Failure | None
    superseded: bool = False
    """It succeeded, but another attempt of the trial had been done first: that one's rows are the result."""


def end(
    folder: AttemptFolder,
    note: AttemptNote,
    store: Store,
    failure: Failure | None,
    result: dict[str, Any] | None,
    *,
    finished: float | None = None,
) -> Ended:
    """Score, seal, deliver and clear away one attempt. Safe to repeat after a crash at any point.

    Args:
        folder: of the attempt.
        note: of the attempt.
        store: where it is delivered to.
        failure: how it failed; None where it is done.
        result: the trial's own last word, where it left one.
        finished: when it ended, in seconds since the epoch; None is now.
    """
    with writable(folder):
        ended = _seal_and_deliver(folder, note, store, failure, result, finished)
    folder.remove()
    return ended


def _seal_and_deliver(
    folder: AttemptFolder,
    note: AttemptNote,
    store: Store,
    failure: Failure | None,
    result: dict[str, Any] | None,
    finished: float | None,
) -> Ended:
    job = note.job
    result = result if result is not None else {}
    if not store.sealed(job.trial_id, job.attempt):
        failure = _claim(folder, job) or failure
        outbox = Outbox(folder.trial.outbox, trial_id=job.trial_id, attempt=job.attempt)
        written = {file.sequence for file in outbox.pending()}
        if SEAL_SEQUENCE not in written:
            measured = result.setdefault("measurements", {})
            if failure is None:
                failure = _append_scores(outbox, note, store, measured)
            printed = _log_rows(folder, job)
            if printed.num_rows:
                _rewrite(outbox, "logs", printed, LOG_SEQUENCE)
            records = len(outbox.pending()) + 1  # nothing is delivered before the seal is written
            _rewrite(outbox, "trials", seal_row(note, failure, result, records, finished), SEAL_SEQUENCE)
        acks = deliver(folder.trial.outbox, store)
        return Ended(failure=failure, superseded=any(ack.outcome == "superseded" for ack in acks))
    return Ended(failure=failure)


def _claim(folder: AttemptFolder, job: TrialJob) -> Failure | None:
    """From here on the last records are the supervisor's: whatever the trial wrote in their place is no record.

    The mark is outside the trial folder, so no trial can set it; a sweep that finds it trusts what is there. What is no
    whole record, or none that the trial may write, is taken out, and is the trial's failure: it must not stand in the
    way of other trials' records, nor reach a table. That is noted before, so that whoever is killed in between has not
    made the attempt a good one.
    """
    if not folder.claimed.exists():
        replaced = reclaim(folder.trial.path)
        wrong = (
            {folder.trial.outbox: f"{folder.trial.outbox} was no folder any more"} if replaced else _wrong(folder, job)
        )
        if wrong and not folder.verdict.exists():
            replace(folder.verdict, storable(next(iter(wrong.values()))), durable=False)
        for path in wrong:
            remove_tree(path)
        folder.claimed.touch()
    if not folder.verdict.exists():
        return None
    return Failure(failure_class=FailureClass.TRIAL_ERROR, message=folder.verdict.read_text())


def _wrong(folder: AttemptFolder, job: TrialJob) -> dict[Path, str]:
    """What in the outbox is no record of this attempt, or none that the trial may write, and why."""
    wrong: dict[Path, str] = {}
    seen: set[int] = set()
    for path in sorted(folder.trial.outbox.glob("*.arrow")):
        try:
            batch = read_batch(path)
            if (batch.trial_id, batch.attempt) != (job.trial_id, job.attempt) or batch.sequence in seen:
                raise StoreError(f"{path} is no record of this attempt, or not the only one of its number")
            seen.add(batch.sequence)
            if batch.sequence >= SCORES_SEQUENCE:
                raise StoreError(f"{path} has a number of the supervisor's records")
            if (what := forbidden(batch, job.spec)) is not None:
                raise StoreError(f"{path.name} holds {what}")
        except StoreError as error:
            wrong[path] = error.message
    return wrong


def _rewrite(outbox: Outbox, table: str, rows: pa.Table, sequence: int) -> None:
    """Write a record that an earlier, unfinished ending may have written with other times or a longer log."""
    for file in outbox.pending():
        if file.sequence == sequence:
            file.path.unlink()
    outbox.append(table, rows, sequence=sequence)


def _append_scores(outbox: Outbox, note: AttemptNote, store: Store, measured: dict[str, Any]) -> Failure | None:
    """Judge and score what the trial made; what is wrong with it is the attempt's failure."""
    job = note.job
    try:
        if job.spec.form == "generation":
            metrics = _scored_generations(outbox, note, store, measured)
        else:
            metrics = _scored_predictions(outbox, job, store)
    except ScoringError as error:
        return Failure(
            failure_class=FailureClass.DIVERGED if error.diverged else FailureClass.TRIAL_ERROR, message=str(error)
        )
    except ScorerUnavailable as error:
        return Failure(failure_class=FailureClass.INFRASTRUCTURE, message=error.message, detail=str(error))
    except ScorerError as error:
        return Failure(failure_class=FailureClass.TRIAL_ERROR, message=error.message, detail=str(error))
    _rewrite(outbox, "metrics", metrics, METRICS_SEQUENCE)
    return None


def _scored_predictions(outbox: Outbox, job: TrialJob, store: Store) -> pa.Table:
    spec, supervision = job.spec, None
    if spec.role is Role.STUDENT and Split.TRANSFER in spec.predicted_splits:
        supervision = mean_supervision(store.predictions(spec.parents, splits=["transfer"]))
    items = store.items(spec.data_digest)
    made = _written(outbox, "predictions")
    splits, further = spec.predicted_splits, further_splits(spec)
    return score(job.trial_id, job.attempt, made, items, job.labels, supervision, splits=splits, further=further)


def _scored_generations(outbox: Outbox, note: AttemptNote, store: Store, measured: dict[str, Any]) -> pa.Table:
    job = note.job
    assert note.scorer is not None, "a generative task's job says what judges its texts"
    assert job.spec.generation is not None, "a generative task's trial says how texts are drawn"
    made = _written(outbox, "generations")
    scores, scorer = judged(made, job.spec, note.scorer)
    measured["scorer"] = {"name": scorer.name, **scorer.identity()}
    _rewrite(outbox, "scores", scores, SCORES_SEQUENCE)
    items = store.items(job.spec.data_digest)
    return score_generations(
        job.trial_id, job.attempt, made, scores, items, job.spec.generation, job.spec.predicted_splits
    )


def _written(outbox: Outbox, table: str) -> pa.Table:
    """What the trial itself wrote of a table."""
    parts = [pa.Table.from_batches([read_batch(file.path).data]) for file in outbox.pending() if file.table == table]
    return pa.concat_tables(parts or [schemas.RECORD_TABLES[table].empty_table()])


def _log_rows(folder: AttemptFolder, job: TrialJob) -> pa.Table:
    kept = list(enumerate(log.lines(folder.trial.log), 1))[-LOG_LINES:]
    return pa.Table.from_pylist(
        [
            {"trial_id": job.trial_id, "attempt": job.attempt, "line": number, "stream": "output", "text": text}
            for number, text in kept
        ],
        schema=schemas.LOGS,
    )


def seal_row(
    note: AttemptNote,
    failure: Failure | None,
    result: dict[str, Any] | None,
    records: int,
    finished: float | None = None,
) -> pa.Table:
    """The terminal record: what ran, how it ended, and everything that says where its numbers come from.

    Args:
        note: of the attempt.
        failure: how it failed; None where it is done.
        result: the trial's own last word, where it left one.
        records: how many records the attempt has, this one included.
        finished: when it ended, in seconds since the epoch; None is now.
    """
    spec = note.job.spec
    measured = (result or {}).get("measurements") or {}
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
        "device": measured.get("device"),
        "device_name": measured.get("device_name"),
        "dtype": measured.get("dtype"),
        "threads": measured.get("threads"),
        "batch_size": spec.training.batch_size,
        "host": note.host,
        "started_at": datetime.fromtimestamp(note.started_at, UTC),
        "finished_at": datetime.fromtimestamp(finished, UTC),
        "duration_s": finished - note.started_at,
        "measurements": json.dumps(measured, sort_keys=True),
        "records": records,
    }
    return pa.Table.from_pylist([row], schema=schemas.TRIALS)


def read_result(folder: AttemptFolder) -> dict[str, Any] | None:
    """The trial's own last word, or None where it left none that can be trusted."""
    try:
        result = read_json(folder.trial.result)
        if not isinstance(result, dict) or result.get("status") not in ("done", "failed"):
            return None
        if result.get("failure") is not None:
            Failure.model_validate(result["failure"])
        result["measurements"] = result.get("measurements") or {}
        _Measured.model_validate(result["measurements"])
    except ValueError:  # a ValidationError is a ValueError: such a result is not to be trusted
        return None
    return dict(result)


@contextmanager
def writable(folder: AttemptFolder) -> Iterator[None]:
    """Where even the record of a failure cannot be written, the submission has to end: nothing could be kept."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"records cannot be written to {folder.path}: {error.strerror or error}",
            remedy="free some space there and submit again: what was acknowledged is kept, the rest runs again.",
        ) from error
