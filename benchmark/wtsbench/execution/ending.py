"""How an attempt ends: its outbox is claimed, its predictions scored, the attempt sealed and delivered.

Whatever must be true of every attempt, however the trial ended, is written here: its log, its scores against ground
truth, and the terminal `trials` row that makes the attempt visible in the store. Their sequence numbers are fixed, so
that ending the same attempt twice writes the same keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from wtsbench.contract import schemas
from wtsbench.contract.measurements import Measurements, TrialResult
from wtsbench.contract.outbox import Outbox
from wtsbench.errors import ScorerError, ScorerUnavailable, StoreError
from wtsbench.execution.allowed import forbidden, further_splits
from wtsbench.execution.inputs import items_of
from wtsbench.execution.judging import judged
from wtsbench.execution.sealing import seal_row
from wtsbench.execution.spool import AttemptFolder, AttemptNote
from wtsbench.files import remove_tree, replace
from wtsbench.metrics.score import ScoringError, mean_supervision, score, score_generations
from wtsbench.sandbox import log
from wtsbench.sandbox.staging import reclaim
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.trial import Role, Split, TrialJob
from wtsbench.store.arrival import StoreConflict
from wtsbench.store.client import Store
from wtsbench.store.courier import Records, deliver
from wtsbench.visible import storable

SCORES_SEQUENCE = 900_000
"""Of the first record that is the supervisor's."""
LOG_SEQUENCE = 900_001
METRICS_SEQUENCE = 900_002
SEAL_SEQUENCE = 900_003
LOG_LINES = 2_000
"""Lines of a trial's output that are kept: the last ones."""


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
    result: TrialResult | None,
    *,
    finished: float | None = None,
    first: bool = False,
) -> Ended:
    """Score, seal, deliver and clear away one attempt. Safe to repeat after a crash at any point.

    Args:
        folder: of the attempt.
        note: of the attempt.
        store: where it is delivered to.
        failure: how it failed; None where it is done.
        result: the trial's own last word, where it left one.
        finished: when it ended, in seconds since the epoch; None is now.
        first: whether nobody has tried to end it before. Else the store is asked whether it has the attempt already.
    """
    with writable(folder):
        ended = _seal_and_deliver(folder, note, store, failure, result, finished, first)
    folder.remove()
    return ended


def _seal_and_deliver(
    folder: AttemptFolder,
    note: AttemptNote,
    store: Store,
    failure: Failure | None,
    result: TrialResult | None,
    finished: float | None,
    first: bool,
) -> Ended:
    job = note.job
    if not first and store.sealed(job.trial_id, job.attempt):
        return Ended(failure=failure)
    records = Records()
    failure = _claim(folder, job, records) or failure
    outbox = Outbox(folder.trial.outbox, trial_id=job.trial_id, attempt=job.attempt)
    written = {file.sequence for file in outbox.pending()}
    if SEAL_SEQUENCE not in written:
        measured = [] if result is None else [result.measurements]
        if failure is None:
            failure = _append_scores(outbox, records, note, store, measured)
        printed = _log_rows(folder, job)
        if printed.num_rows:
            _rewrite(outbox, "logs", printed, LOG_SEQUENCE)
        count = len(outbox.pending()) + 1  # nothing is delivered before the seal is written
        sealed = seal_row(note, failure, Measurements.together(measured), count, finished)
        _rewrite(outbox, "trials", sealed, SEAL_SEQUENCE)
    try:
        acks = deliver(folder.trial.outbox, store, records=records)
    except StoreConflict:
        if not store.sealed(job.trial_id, job.attempt):
            raise
        return Ended(failure=failure)  # the run had taken this supervisor for lost, and sealed the attempt itself
    return Ended(failure=failure, superseded=any(ack.outcome == "superseded" for ack in acks))


def _claim(folder: AttemptFolder, job: TrialJob, records: Records) -> Failure | None:
    """From here on the last records are the supervisor's: whatever the trial wrote in their place is no record.

    The mark is outside the trial folder, so no trial can set it; a sweep that finds it trusts what is there. What is no
    whole record, or none that the trial may write, is taken out, and is the trial's failure: it must not stand in the
    way of other trials' records, nor reach a table. That is noted before, so that whoever is killed in between has not
    made the attempt a good one.
    """
    if not folder.claimed.exists():
        replaced = reclaim(folder.trial.path)
        gone = {folder.trial.outbox: f"{folder.trial.outbox} was no folder any more"}
        wrong = gone if replaced else _wrong(folder, job, records)
        if wrong and not folder.verdict.exists():
            replace(folder.verdict, storable(next(iter(wrong.values()))), durable=False)
        for path in wrong:
            records.forget(path)
            remove_tree(path)
        folder.claimed.touch()
    if not folder.verdict.exists():
        return None
    return Failure(failure_class=FailureClass.TRIAL_ERROR, message=folder.verdict.read_text())


def _wrong(folder: AttemptFolder, job: TrialJob, records: Records) -> dict[Path, str]:
    """What in the outbox is no record of this attempt, or none that the trial may write, and why."""
    wrong: dict[Path, str] = {}
    seen: set[int] = set()
    for path in sorted(folder.trial.outbox.glob("*.arrow")):
        try:
            batch = records.read(path)
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


def _append_scores(
    outbox: Outbox, records: Records, note: AttemptNote, store: Store, measured: list[Measurements]
) -> Failure | None:
    """Judge and score what the trial made; what is wrong with it is the attempt's failure."""
    job = note.job
    try:
        if job.spec.form == "generation":
            metrics = _scored_generations(outbox, records, note, store, measured)
        else:
            metrics = _scored_predictions(outbox, records, job, store)
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


def _scored_predictions(outbox: Outbox, records: Records, job: TrialJob, store: Store) -> pa.Table:
    spec, supervision = job.spec, None
    if spec.role is Role.STUDENT and Split.TRANSFER in spec.predicted_splits:
        supervision = mean_supervision(store.predictions(spec.parents, splits=[Split.TRANSFER.value]))
    items = items_of(store, spec.data_digest)
    made = _written(outbox, records, "predictions")
    splits, further = spec.predicted_splits, further_splits(spec)
    return score(job.trial_id, job.attempt, made, items, job.labels, supervision, splits=splits, further=further)


def _scored_generations(
    outbox: Outbox, records: Records, note: AttemptNote, store: Store, measured: list[Measurements]
) -> pa.Table:
    job = note.job
    assert note.scorer is not None, "a generative task's job says what judges its texts"
    made = _written(outbox, records, "generations")
    scores, scorer = judged(made, job.spec, note.scorer)
    measured.append(Measurements(scorer={"name": scorer.name, **scorer.identity()}))
    _rewrite(outbox, "scores", scores, SCORES_SEQUENCE)
    items = items_of(store, job.spec.data_digest)
    return score_generations(job.trial_id, job.attempt, made, scores, items, job.spec.drawn, job.spec.predicted_splits)


def _written(outbox: Outbox, records: Records, table: str) -> pa.Table:
    """What the trial itself wrote of a table."""
    parts = [pa.Table.from_batches([records.read(file.path).data]) for file in outbox.pending() if file.table == table]
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
