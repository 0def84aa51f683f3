"""What a killed supervisor left behind is ended by the next submission: finished work kept, the rest a failure."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.planning.grids import plan_of
from wtsbench.contract import schemas
from wtsbench.contract.measurements import Measurements, TrialResult
from wtsbench.contract.outbox import Batch, Outbox, read_batch
from wtsbench.errors import SandboxError
from wtsbench.execution.ending import METRICS_SEQUENCE, SEAL_SEQUENCE, end
from wtsbench.execution.job import Job
from wtsbench.execution.sealing import seal_row
from wtsbench.execution.spool import AttemptFolder, AttemptNote
from wtsbench.execution.supervise import seal_lost, supervise, sweep
from wtsbench.metrics.score import ScoringError, score
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.grid import Resources
from wtsbench.spec.trial import PREDICTED_SPLITS, Role, TrialJob, TrialSpec
from wtsbench.store import courier
from wtsbench.store.client import Store, open_store

LABELS = ("a", "b")


@pytest.fixture
def spec() -> TrialSpec:
    """A weak trial."""
    trials = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"]).trials.values()
    return next(spec for spec in trials if spec.role is Role.WEAK)


@pytest.fixture
def store(tmp_path: Path, spec: TrialSpec) -> Store:
    """A store with two items of each split."""
    store = open_store(str(tmp_path / "store"), create=True)
    names = [f"{split.value}{n}" for split in PREDICTED_SPLITS for n in range(2)]
    items = pa.table(
        {
            "data_digest": [spec.data_digest] * len(names),
            "item_id": names,
            "group_id": names,
            "split": [name[:-1] for name in names],
            "text": names,
            "label": [int(name[-1]) for name in names],
            "target": pa.nulls(len(names), pa.string()),
        }
    ).cast(schemas.ITEMS)
    store.put_dataset(data_digest=spec.data_digest, task="t1", labels=LABELS, metric="accuracy", report={}, items=items)
    return store


def begun(spec: TrialSpec, store: Store, spool: Path) -> tuple[AttemptFolder, AttemptNote, Outbox]:
    """An attempt as its supervisor lays it out."""
    attempt = store.begin_attempt(spec.trial_id, run="r")
    job = TrialJob(trial_id=spec.trial_id, attempt=attempt, spec=spec, labels=LABELS)
    note = AttemptNote(
        job=job, run="r", baselines={}, sandbox="process", isolation="none", image_digest=None,
        environment_lock="x", host=platform.node(), started_at=time.time(),
    )  # fmt: skip
    folder = AttemptFolder.of(spool, spec.trial_id, attempt)
    folder.create(note)
    return folder, note, Outbox(folder.trial.outbox, trial_id=spec.trial_id, attempt=attempt)


def predict(outbox: Outbox, store: Store, spec: TrialSpec) -> pa.Table:
    """Predictions that are right on every item but the test items of class b."""
    rows = [
        {
            "trial_id": spec.trial_id,
            "attempt": outbox.attempt,
            "split": item["split"],
            "item_id": item["item_id"],
            "probabilities": [1.0, 0.0] if item["label"] == 0 or item["split"] == "test" else [0.0, 1.0],
        }
        for item in store.items(spec.data_digest).to_pylist()
    ]
    table = pa.Table.from_pylist(rows, schema=schemas.PREDICTIONS)
    outbox.append("predictions", table)
    return table


def test_finished_work_is_kept(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """A trial that ended well before its supervisor could seal it is scored, sealed and delivered."""
    folder, _, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    folder.trial.result.write_text(json.dumps({"status": "done", "failure": None, "measurements": {"device": "cpu"}}))
    ((note, failure),) = sweep(tmp_path / "spool", store)
    assert failure is None
    assert note.job.trial_id == spec.trial_id
    assert store.trials()["status"].to_pylist() == ["done"]
    accuracy = {m["split"]: m["value"] for m in store.metrics([spec.trial_id]).to_pylist() if m["name"] == "accuracy"}
    assert accuracy == {"transfer": 1.0, "validation": 1.0, "test": 0.5, "ood": 1.0}
    assert not folder.path.exists()
    assert sweep(tmp_path / "spool", store) == []


def test_records_are_read_once_on_their_way_home(
    spec: TrialSpec, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked, scored and sent, each record is read from the disk and its digest computed a single time."""
    read: list[str] = []

    def counted(path: Path) -> Batch:
        read.append(path.name)
        return read_batch(path)

    monkeypatch.setattr(courier, "read_batch", counted)
    folder, _, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    folder.trial.result.write_text(json.dumps({"status": "done", "failure": None, "measurements": {}}))
    sweep(tmp_path / "spool", store)
    assert "000001-predictions.arrow" in read
    assert len(read) == len(set(read)) == store.trials()["records"].to_pylist()[0]


def test_unfinished_work_is_a_failure(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """An attempt without a result becomes a row of class infrastructure."""
    begun(spec, store, tmp_path / "spool")
    ((_, failure),) = sweep(tmp_path / "spool", store)
    assert failure is not None
    (row,) = store.trials().to_pylist()
    assert (row["status"], row["failure_class"]) == ("failed", "infrastructure")


def test_an_attempt_ended_when_its_trial_was_last_seen(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """Who is found dead a day later has not computed for a day; and a trial cannot say that it ended tomorrow."""
    folder, note, _ = begun(spec, store, tmp_path / "spool")
    late, other, _ = begun(spec, store, tmp_path / "spool")
    started = time.time() - 86_400
    for one, its in ((folder, note), (late, other)):
        noted = its.model_copy(update={"started_at": started})
        (one.path / "attempt.json").write_text(noted.model_dump_json())
    (folder.trial.path / "lease").touch()
    os.utime(folder.trial.path / "lease", (started + 60, started + 60))
    (late.path / "trial" / "log.txt").touch()
    os.utime(late.trial.log, (started + 10**9, started + 10**9))
    sweep(tmp_path / "spool", store)
    first, second = sorted(store.trials().to_pylist(), key=lambda row: row["attempt"])
    assert first["duration_s"] == pytest.approx(60, abs=0.1)
    assert (first["finished_at"] - first["started_at"]).total_seconds() == pytest.approx(60, abs=0.1)
    assert second["duration_s"] == pytest.approx(86_400, abs=60)


def test_a_trial_cannot_seal_itself(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """A `trials` record that the trial wrote into its outbox is no record: the attempt is sealed as what it was."""
    _, note, outbox = begun(spec, store, tmp_path / "spool")
    outbox.append("trials", seal_row(note, None, Measurements(), 1), sequence=SEAL_SEQUENCE)
    sweep(tmp_path / "spool", store)
    (row,) = store.trials().to_pylist()
    assert row["status"] == "failed"


def test_a_living_supervisor_is_left_alone(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """A folder whose owner lives is not swept."""
    folder, _, _ = begun(spec, store, tmp_path / "spool")
    with folder.owned() as owned:
        assert owned
        assert sweep(tmp_path / "spool", store) == []
    assert folder.path.exists()


def test_scoring_refuses_gaps(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """Predictions that leave out an item are no result."""
    _, _, outbox = begun(spec, store, tmp_path / "spool")
    table = predict(outbox, store, spec)
    with pytest.raises(ScoringError, match="not its 2 items"):
        score(spec.trial_id, 1, table.slice(1), store.items(spec.data_digest), ("no", "yes"))


def test_what_is_no_record_is_the_trials_failure(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """A stray or torn file in an outbox fails its own trial and nobody else's."""
    folder, _, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    (folder.trial.outbox / "mine.arrow").write_bytes(b"not a record")
    folder.trial.result.write_text(json.dumps({"status": "done", "failure": None, "measurements": {}}))
    ((_, failure),) = sweep(tmp_path / "spool", store)
    assert failure is not None
    (row,) = store.trials().to_pylist()
    assert (row["status"], row["failure_class"]) == ("failed", "trial_error")
    assert "mine.arrow" in row["failure_message"]


def _metric(name: str, split: str, step: int | None, value: float = 0.999) -> list[dict[str, Any]]:
    return [{"name": name, "split": split, "step": step, "value": value}]


@pytest.mark.parametrize(
    ("table", "rows", "sequence"),
    [
        ("metrics", _metric("accuracy", "test", None), None),
        ("metrics", _metric("accuracy", "test", None), METRICS_SEQUENCE),
        ("metrics", _metric("loss", "weak_train", None), None),
        ("metrics", _metric("accuracy", "weak_train", 1), None),
        ("metrics", _metric("loss", "test", 1), None),
        ("metrics", _metric("loss", "weak_train", 1) * 2, None),
        ("predictions", [{"split": "transfer~1", "item_id": "transfer0", "probabilities": [1.0, 0.0]}], None),
        ("predictions", [{"split": "weak_train", "item_id": "x", "probabilities": [1.0, 0.0]}], None),
        ("predictions", [{"split": "test", "item_id": "test0", "probabilities": [1.0, 0.0]}], None),
        ("predictions", [{"split": "test", "item_id": "other", "probabilities": [1.0, 0.0]}], None),
        ("generations", [], None),
        ("scores", [], None),
        ("logs", [{"line": 1, "stream": "output", "text": "mine"}], None),
    ],
)
def test_what_a_trial_may_not_write_is_its_failure(
    spec: TrialSpec, store: Store, tmp_path: Path, table: str, rows: list[dict[str, Any]], sequence: int | None
) -> None:
    """A score of its own, an item twice, a split that is not its own: the attempt fails, and no such row is stored."""
    folder, _, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    whole = [{"trial_id": spec.trial_id, "attempt": outbox.attempt, **row} for row in rows]
    outbox.append(table, pa.Table.from_pylist(whole, schema=schemas.RECORD_TABLES[table]), sequence=sequence)
    folder.trial.result.write_text(json.dumps({"status": "done", "failure": None, "measurements": {}}))
    sweep(tmp_path / "spool", store)
    (row,) = store.trials().to_pylist()
    assert (row["status"], row["failure_class"]) == ("failed", "trial_error")
    assert store.metrics([spec.trial_id]).num_rows == 0
    assert store.scores([spec.trial_id]).num_rows == 0
    assert not store.logs(spec.trial_id).num_rows


def test_a_training_curve_comes_home(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """Beside its predictions a trial writes its loss over the steps; every final metric is there once."""
    folder, _, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    points = [_metric("loss", "weak_train", step, 0.5)[0] for step in (1, 2)]
    whole = [{"trial_id": spec.trial_id, "attempt": outbox.attempt, **row} for row in points]
    outbox.append("metrics", pa.Table.from_pylist(whole, schema=schemas.METRICS))
    folder.trial.result.write_text(json.dumps({"status": "done", "failure": None, "measurements": {}}))
    sweep(tmp_path / "spool", store)
    found = store.metrics([spec.trial_id]).to_pylist()
    assert [row["step"] for row in found if row["name"] == "loss"] == [1, 2]
    final = [(row["split"], row["name"]) for row in found if row["step"] is None]
    assert ("test", "accuracy") in final
    assert len(final) == len({*final})


DYING = """
import os, signal, sys
from pathlib import Path
from wtsbench.execution import ending
from wtsbench.execution.supervise import sweep
from wtsbench.store.client import open_store
setattr(ending, sys.argv[1], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
sweep(Path(sys.argv[2]), open_store(sys.argv[3]))
"""


@pytest.mark.parametrize("step", ["remove_tree", "_log_rows", "deliver"])
def test_who_is_killed_over_a_bad_record_makes_no_good_attempt(
    spec: TrialSpec, store: Store, tmp_path: Path, step: str
) -> None:
    """The one that ends the attempt after it comes to the same verdict, though the bad record may be gone."""
    folder, _, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    (folder.trial.outbox / "mine.arrow").write_bytes(b"not a record")
    folder.trial.result.write_text(json.dumps({"status": "done", "failure": None, "measurements": {}}))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", DYING, step, tmp_path / "spool", store.uri], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert store.trials().num_rows == 0

    ((_, failure),) = sweep(tmp_path / "spool", store)

    (row,) = store.trials().to_pylist()
    assert (row["status"], row["failure_class"]) == ("failed", "trial_error")
    assert "mine.arrow" in row["failure_message"]
    assert failure is not None


def test_a_lost_workers_finished_trial_is_kept(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """A worker that dies between the trial's end and its seal costs nothing."""
    folder, note, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    folder.trial.result.write_text(json.dumps({"status": "done", "failure": None, "measurements": {}}))
    job = Job(
        spec=spec, labels=LABELS, store=store.uri, named_spool=str(tmp_path / "spool"), sandbox="process", image=None,
        resources=Resources(), run="r",
    )  # fmt: skip
    lost = Failure(failure_class=FailureClass.INFRASTRUCTURE, message="lost its worker")
    seal_lost(store, job, note.job.attempt, lost)
    assert store.trials()["status"].to_pylist() == ["done"]


def test_what_a_lost_node_had_printed_is_kept(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """Its log is gone with it, but not what its heartbeats brought to the store."""
    attempt = store.begin_attempt(spec.trial_id, run="r", lease=True)
    store.renew(spec.trial_id, attempt, share=None, lines=["epoch 1", "\u2603 epoch 2"], first=1)
    job = Job(
        spec=spec, labels=LABELS, store=store.uri, named_spool=str(tmp_path / "spool"), sandbox="process", image=None,
        resources=Resources(), run="r",
    )  # fmt: skip
    lost = Failure(failure_class=FailureClass.INFRASTRUCTURE, message="lost its worker")
    seal_lost(store, job, attempt, lost)
    assert store.trials()["failure_message"].to_pylist() == ["lost its worker"]
    assert store.printed(spec.trial_id, attempt).num_rows == 0
    assert store.logs(spec.trial_id)["text"].to_pylist() == ["epoch 1", "\u2603 epoch 2"]


def test_a_supervisor_that_was_taken_for_lost_changes_nothing(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """Its run has sealed the attempt meanwhile, from another node: that stands, and it ends without an error."""
    folder, note, outbox = begun(spec, store, tmp_path / "spool")
    predict(outbox, store, spec)
    elsewhere = AttemptFolder.of(tmp_path / "elsewhere", spec.trial_id, note.job.attempt)
    elsewhere.create(note)
    lost = Failure(failure_class=FailureClass.INFRASTRUCTURE, message="lost its worker")
    end(elsewhere, note, store, lost, None)
    end(folder, note, store, None, TrialResult(status="done"), first=True)
    assert store.trials()["failure_message"].to_pylist() == ["lost its worker"]
    assert not folder.path.exists()


def test_another_environment_is_refused(spec: TrialSpec, store: Store, tmp_path: Path) -> None:
    """A node with other libraries than the plan's runs no trial under the plan's id."""
    job = Job(
        spec=spec, labels=LABELS, store=store.uri, named_spool=str(tmp_path / "spool"), sandbox="process", image=None,
        resources=Resources(), run="r",
    )  # fmt: skip
    with pytest.raises(SandboxError, match="the plan says process:0"):
        supervise(job, threading.Event())
    assert store.attempts().num_rows == 0
