"""One attempt from its number and folder through the sandbox to its end (`ending`), whichever process is killed."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from pathlib import Path

from wtsbench.contract.measurements import TrialResult
from wtsbench.errors import ExitCode, ModelError, SandboxError, StoreError, UserError
from wtsbench.execution.ending import end, writable
from wtsbench.execution.external import ISOLATION, take_labels
from wtsbench.execution.heartbeat import beating
from wtsbench.execution.inputs import link_models, write_inputs
from wtsbench.execution.job import Job, Receipt
from wtsbench.execution.known import done_trials
from wtsbench.execution.sealing import read_result
from wtsbench.execution.spool import AttemptFolder, AttemptNote, attempt_folders, require_room, sandbox_folder
from wtsbench.sandbox.base import Sandbox, environment_of
from wtsbench.sandbox.choice import make_sandbox
from wtsbench.sandbox.classify import classify
from wtsbench.sandbox.leftovers import sweep_folders
from wtsbench.sandbox.staging import reclaim
from wtsbench.settings import patience_seconds
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.provenance import environment_lock
from wtsbench.spec.trial import TrialJob
from wtsbench.store.client import Store, open_store
from wtsbench.store.wire import Cancelled, Held

_SWEEP_SECONDS = 30.0
"""How long a sweep may hold a new folder that it took for a leftover."""
_WORKER_END_SECONDS = 10.0
_LOOK_SECONDS = 0.2
"""How long a process may hold a folder's lock just to look at it (`gc`)."""
_sandboxes_lock = threading.Lock()
_sandboxes: dict[tuple[str, str | None, str], Sandbox] = {}
"""One sandbox per process, kind and spool, so that its fork server serves all trials of the worker."""


def supervise(job: Job, cancelled: threading.Event) -> Receipt:
    """Run one attempt of a trial and deliver its records, unless it is cancelled or another run attempts it now.

    Every end of an attempt, good or bad, becomes a row of the store and a receipt.

    Raises:
        UserError: the store cannot be written, so nothing was delivered; the attempt folder is kept for a sweep.
    """
    begun = time.monotonic()
    store = open_store(job.store, wait=patience_seconds())
    require_room(job.spool)
    sandbox = _sandbox(job)
    _require_environment(job, sandbox)
    try:
        attempt = store.begin_attempt(
            job.trial_id, run=job.run, shared_id=job.spec.shared_id, host=platform.node(), lease=True
        )
    except Held as held:
        done = bool(done_trials(store, [job.trial_id]))
        by = None if done else held.by
        return Receipt(trial_id=job.trial_id, attempt=None, failure=None, seconds=0.0, reused=done, held_by=by)
    except Cancelled as refused:
        never_begun = Failure(failure_class=FailureClass.CANCELLED, message=refused.message)
        return Receipt(trial_id=job.trial_id, attempt=None, failure=never_begun, seconds=0.0)
    folder = AttemptFolder.of(job.spool, job.trial_id, attempt)
    with writable(folder), folder.owned(wait=_SWEEP_SECONDS) as owned:
        if not owned:
            raise StoreError(f"another process holds the new attempt folder {folder.path}", remedy="submit again.")
        note = _note(job, attempt, sandbox)
        with beating(store, job, attempt, folder, cancelled) as stop:
            try:
                failure, result = _run(job, folder, note, sandbox, store, stop)
            except KeyboardInterrupt:
                failure = Failure(failure_class=FailureClass.CANCELLED, message="stopped by the user")
                failure, result = _unless_finished(folder, failure)
            ended = end(folder, note, store, failure, result, first=True)
    return Receipt(
        trial_id=job.trial_id,
        attempt=attempt,
        failure=ended.failure,
        seconds=time.monotonic() - begun,
        reused=ended.superseded,
    )


def sweep(spool: Path, store: Store, *, only: AttemptFolder | None = None) -> list[tuple[AttemptNote, Failure | None]]:
    """End every attempt whose supervisor died, or one of them: what was finished is kept, the rest sealed as failed.

    Returns the attempts ended here. Folders of living supervisors are left alone.
    """
    ended = []
    for folder in attempt_folders(spool) if only is None else [only]:
        with folder.owned(wait=_LOOK_SECONDS if only else 0.0) as owned:
            if not owned:
                continue
            note = folder.note()
            if note is None:  # died before the attempt had begun
                folder.remove()
                continue
            with writable(folder):
                reclaim(folder.trial.path)
                result = read_result(folder)
            failure = None if result is not None and result.status == "done" else _abandoned(result)
            last_activity = folder.last_activity(note)
            ended.append((note, end(folder, note, store, failure, result, finished=last_activity).failure))
    tidy_up(spool, wait=0.0)
    return ended


def tidy_up(spool: Path, *, wait: float = _WORKER_END_SECONDS) -> None:
    """Delete folders of containers that are gone.

    Args:
        spool: parent of the attempt folders.
        wait: seconds to wait for workers that are ending, and may have made a container ahead of time.
    """
    place, deadline = sandbox_folder(spool), time.monotonic() + wait
    with contextlib.suppress(OSError):  # they only take disk space; the next sweep tries again
        sweep_folders(place)
        while place.is_dir() and any(path.is_dir() for path in place.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.2)
            sweep_folders(place)


def close_sandboxes() -> None:
    """Close the sandboxes of this process."""
    for sandbox in _sandboxes.values():
        sandbox.close()
    _sandboxes.clear()


def seal_lost(store: Store, job: Job, attempt: int, failure: Failure) -> None:
    """Seal an attempt whose worker is gone together with its folder, with what it had told of its output.

    If the worker lives after all, its own seal has the same key with other content, and the store refuses it.
    """
    folder = AttemptFolder.of(job.spool, job.trial_id, attempt)
    with folder.owned(wait=_LOOK_SECONDS) as owned:
        if owned and not store.sealed(job.trial_id, attempt):
            known = folder.note()
            note = known or _note(job, attempt, _sandbox(job))
            with writable(folder):
                reclaim(folder.trial.path)
                folder.create(note)
                if known is None:  # the folder is on another node, and its log with it
                    printed = store.printed(job.trial_id, attempt)["text"].to_pylist()
                    folder.trial.log.write_text("".join(f"{line}\n" for line in printed), encoding="utf-8")
            end(folder, note, store, *_unless_finished(folder, failure))


def _sandbox(job: Job) -> Sandbox:
    key = (job.sandbox, job.image, str(job.spool))
    with _sandboxes_lock:
        if key not in _sandboxes:
            place = sandbox_folder(job.spool)
            _sandboxes[key] = make_sandbox(job.sandbox, image=job.image, place=place)
        return _sandboxes[key]


def _require_environment(job: Job, sandbox: Sandbox) -> None:
    """Refuse a node whose libraries or image are not those that the plan names."""
    here = environment_of(sandbox, job.resources)
    if here != job.spec.environment:
        raise SandboxError(
            f"{platform.node()} would run trial {job.trial_id[:12]} in {here}, the plan says {job.spec.environment}",
            remedy="install the same versions on all nodes, or use the docker sandbox.",
        )


def _unless_finished(folder: AttemptFolder, failure: Failure) -> tuple[Failure | None, TrialResult | None]:
    """The failure, or none if the trial had finished before it was stopped or its worker was lost."""
    result = read_result(folder)
    return (None, result) if result is not None and result.status == "done" else (failure, None)


def _note(job: Job, attempt: int, sandbox: Sandbox) -> AttemptNote:
    return AttemptNote(
        job=TrialJob(
            trial_id=job.trial_id,
            attempt=attempt,
            spec=job.spec,
            labels=job.labels,
            threads=job.resources.cpus,
            gpus=job.resources.gpus,
        ),
        run=job.run,
        baselines=job.baselines,
        scorer=job.scorer,
        sandbox=sandbox.name,
        isolation=sandbox.isolation if job.spec.model.trained else ISOLATION,
        image_digest=sandbox.image_digest,
        environment_lock=environment_lock(),
        host=platform.node(),
        started_at=time.time(),
    )


def _run(
    job: Job, folder: AttemptFolder, note: AttemptNote, sandbox: Sandbox, store: Store, cancelled: threading.Event
) -> tuple[Failure | None, TrialResult | None]:
    """Prepare the folder and run the sandbox; errors in preparing are failures of the attempt too."""
    try:
        folder.create(note)
        if not job.spec.model.trained:
            return _take_labels(folder, note, store)
        write_inputs(folder, job.spec, store)
        link_models(folder, job.spec)
        outcome = sandbox.run(
            folder.trial.path,
            job.resources,
            gpus=job.gpu_ids,
            cancelled=cancelled,
            labels={"run": job.run, "trial": job.trial_id, "attempt": str(note.job.attempt)},
        )
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return Failure(failure_class=FailureClass.INFRASTRUCTURE, message=f"{error.strerror or error}{where}"), None
    except UserError as error:
        return Failure(failure_class=FailureClass.INFRASTRUCTURE, message=error.message, detail=str(error)), None
    result = read_result(folder)
    return classify(outcome, result, begun=os.path.lexists(folder.trial.progress)), result


def _take_labels(folder: AttemptFolder, note: AttemptNote, store: Store) -> tuple[Failure | None, TrialResult | None]:
    """Take labels in place of running a trial: missing labels are final, a source that does not answer is retried."""
    try:
        take_labels(folder, note.job, store)
    except ModelError as error:
        unreachable = error.exit_code is ExitCode.UNREACHABLE
        kind = FailureClass.INFRASTRUCTURE if unreachable else FailureClass.TRIAL_ERROR
        return Failure(failure_class=kind, message=error.message, detail=str(error)), None
    return None, read_result(folder)


def _abandoned(result: TrialResult | None) -> Failure:
    if result is not None and result.failure is not None:
        return result.failure
    return Failure(
        failure_class=FailureClass.INFRASTRUCTURE, message="the supervising process was killed during the attempt"
    )
