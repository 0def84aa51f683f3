"""Whatever a trial puts into its folder is its own failure: it stops, reaches and outlives nobody else."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from tests.execution.test_sweep import begun, predict, spec, store  # noqa: F401  # fixtures
from wtsbench.contract import schemas
from wtsbench.contract.outbox import Outbox
from wtsbench.execution.job import Job
from wtsbench.execution.progress import share_of
from wtsbench.execution.spool import AttemptFolder
from wtsbench.execution.supervise import sweep
from wtsbench.spec.trial import TrialSpec
from wtsbench.store.client import Store


def done(folder: AttemptFolder, measurements: Any = None) -> None:
    """The last word of a trial that ended well."""
    folder.trial.result.write_text(json.dumps({"status": "done", "failure": None, "measurements": measurements}))


def metrics(folder: Path, trial_id: str, attempt: int, sequence: int) -> Path:
    """A whole record, made elsewhere."""
    row = {"trial_id": trial_id, "attempt": attempt, "name": "x", "split": "test", "step": None, "value": 1.0}
    rows = pa.Table.from_pylist([row], schema=schemas.METRICS)
    Outbox(folder, trial_id=trial_id, attempt=attempt).append("metrics", rows, sequence=sequence)
    return folder / f"{sequence:06d}-metrics.arrow"


def in_time(call: Callable[[], Any]) -> Any:
    """What a call returns; a failure, and not a test that hangs, where it waits for somebody."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(call()), daemon=True)
    thread.start()
    thread.join(20)
    assert got, "it hangs, or has failed"
    return got[0]


@pytest.mark.parametrize("what", ["folder", "pipe", "zeros", "deep", "list", "threads", "steps", "name"])
def test_a_result_that_is_none_is_a_failure(
    what: str,
    spec: TrialSpec,  # noqa: F811
    store: Store,  # noqa: F811
    tmp_path: Path,
) -> None:
    """A folder, a pipe, a link to a device, JSON too deep or of another shape are no result, and end no submission."""
    folder, _, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    make: dict[str, Callable[[], object]] = {
        "folder": folder.trial.result.mkdir,
        "pipe": lambda: os.mkfifo(folder.trial.result),
        "zeros": lambda: folder.trial.result.symlink_to("/dev/zero"),
        "deep": lambda: folder.trial.result.write_text("[" * 200_000),
        "list": lambda: done(folder, [1]),
        "threads": lambda: done(folder, {"threads": "many"}),
        "steps": lambda: done(folder, {"steps": "many"}),
        "name": lambda: folder.trial.result.write_text(
            '{"status": "done", "measurements": {"device_name": "\\ud800"}}'
        ),
    }
    make[what]()
    ((_, failure),) = in_time(lambda: sweep(tmp_path / "spool", store))
    assert failure is not None
    assert store.trials()["status"].to_pylist() == ["failed"]
    assert not folder.path.exists()


@pytest.mark.parametrize("what", ["folder", "foreign", "twice"])
def test_a_record_of_somebody_else_is_a_failure(
    what: str,
    spec: TrialSpec,  # noqa: F811
    store: Store,  # noqa: F811
    tmp_path: Path,
) -> None:
    """What cannot be delivered is taken out of the outbox, and the attempt sealed as failed."""
    folder, _, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    done(folder)
    if what == "folder":
        (folder.trial.outbox / "000005-metrics.arrow" / "more").mkdir(parents=True)
    elif what == "foreign":
        metrics(tmp_path / "x", "f" * 64, 7, 5).rename(folder.trial.outbox / "000005-metrics.arrow")
    else:
        metrics(tmp_path / "x", spec.trial_id, outbox.attempt, 1).rename(folder.trial.outbox / "000001-metrics.arrow")
    ((_, failure),) = sweep(tmp_path / "spool", store)
    assert failure is not None
    assert failure.failure_class == "trial_error"
    assert not folder.path.exists()


def test_links_in_an_outbox_lead_nobody_out_of_it(
    spec: TrialSpec,  # noqa: F811
    store: Store,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The supervisor's own records are written under names that a trial cannot guess, and through no link."""
    folder, _, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    done(folder)
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    for name in ("900002-metrics", "900003-trials"):
        (folder.trial.outbox / f".{name}.arrow.{os.getpid()}").symlink_to(precious)
    ((_, failure),) = sweep(tmp_path / "spool", store)
    assert failure is None
    assert precious.read_text() == "as it was"


def test_progress_is_not_waited_for(spec: TrialSpec, store: Store, tmp_path: Path) -> None:  # noqa: F811
    """A pipe in the place of the file of progress does not stop the driver, nor does a number beyond all others."""
    folder, _, _ = begun(spec, store, tmp_path / "spool")
    job = cast(Job, SimpleNamespace(spool=tmp_path / "spool", trial_id=spec.trial_id))
    os.mkfifo(folder.trial.progress)
    assert in_time(lambda: [share_of(job)]) == [None]
    folder.trial.progress.unlink()
    folder.trial.progress.write_text(f'{{"done": 1{"0" * 400}, "total": 1}}')
    assert share_of(job) is None
