"""`wtsbench logs` finds a trial by the beginning of its id and says why it failed."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from tests.cli.conftest import Wtsbench
from wtsbench.contract import schemas
from wtsbench.contract.outbox import Outbox
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.store.client import Store, open_store
from wtsbench.store.courier import deliver
from wtsbench.strategies import registry

FAILED, MENDED, BEGUN = "ab" * 32, "ac" * 32, "cd" * 32


def _end(store: Store, folder: Path, trial_id: str, failure: str | None, lines: tuple[str, ...]) -> None:
    """One attempt, ended with these lines in its log."""
    attempt = store.begin_attempt(trial_id, run="test")
    now = datetime.now(UTC)
    call = StrategyCall(name="naive", parameters={"labels": "hard"})
    row = {
        "trial_id": trial_id,
        "attempt": attempt,
        "status": "failed" if failure else "done",
        "failure_class": failure,
        "failure_message": failure and "something broke",
        "failure_detail": failure and "Traceback of the trial\n  line 1\n",
        "role": "student",
        "task": "safety-mini",
        "model": "nano-2",
        "strategy": registry.short_label(call),
        "strategy_json": call.model_dump_json(),
        "seed": 3,
        "data_seed": 7,
        "data_digest": "0" * 64,
        "parents": [],
        "environment": "process:x",
        "baselines": "{}",
        "spec": "{}",
        "wtsbench_version": "0",
        "environment_lock": "x",
        "sandbox": "process",
        "isolation": "none",
        "model_revision": "r",
        "host": "here",
        "started_at": now,
        "finished_at": now,
        "duration_s": 1.5,
        "measurements": "{}",
        "records": 2,
    }
    log = [
        {"trial_id": trial_id, "attempt": attempt, "line": number, "stream": "output", "text": text}
        for number, text in enumerate(lines, 1)
    ]
    outbox = Outbox(folder / f"{trial_id[:4]}-{attempt}", trial_id=trial_id, attempt=attempt)
    outbox.append("logs", pa.Table.from_pylist(log, schema=schemas.LOGS))
    outbox.append("trials", pa.Table.from_pylist([row], schema=schemas.TRIALS))
    deliver(folder / f"{trial_id[:4]}-{attempt}", store)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a trial that failed twice, one that failed and then succeeded, and one that has only begun."""
    folder = tmp_path_factory.mktemp("made")
    opened = open_store(str(folder / "store"), create=True)
    _end(opened, folder, FAILED, "timeout", ("first",))
    _end(opened, folder, FAILED, "diverged", ("step 1", "step 2: loss nan"))
    _end(opened, folder, MENDED, "infrastructure", ("lost",))
    _end(opened, folder, MENDED, None, ("fine",))
    opened.begin_attempt(BEGUN, run="test")
    return folder / "store"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "store")


@pytest.mark.usefixtures("store")
def test_lists_what_has_no_result(wtsbench: Wtsbench) -> None:
    """Without a trial, the last failure of every trial that has no result, and no other."""
    done = wtsbench("logs")
    assert done.returncode == 0, done.stderr
    assert FAILED[:12] in done.stdout
    assert "student safety-mini nano-2 naive(labels=hard) seed 3 data seed 7" in done.stdout
    assert "diverged: something broke" in done.stdout
    assert "timeout" not in done.stdout
    assert MENDED[:12] not in done.stdout
    listed = json.loads(wtsbench("logs", "--json").stdout)
    assert [(row["trial_id"], row["attempt"], row["failure_class"]) for row in listed] == [(FAILED, 2, "diverged")]


@pytest.mark.usefixtures("store")
def test_one_trial(wtsbench: Wtsbench) -> None:
    """The beginning of an id is enough; the last attempt is shown with its failure and its lines."""
    done = wtsbench("logs", "ab")
    assert done.returncode == 0, done.stderr
    assert FAILED in done.stdout
    assert "seed 3 data seed 7, attempt 2 of 2: failed after 1.5 s" in done.stdout
    assert "Traceback of the trial" in done.stdout
    assert done.stdout.endswith("step 1\nstep 2: loss nan\n")


@pytest.mark.usefixtures("store")
def test_the_status_has_the_same_names(wtsbench: Wtsbench) -> None:
    """Trials of several draws of a task's items are told apart."""
    assert "student safety-mini nano-2 naive(labels=hard) seed 3 data seed 7" in wtsbench("status").stdout
    (failure,) = json.loads(wtsbench("status", "--json").stdout)["other_failures"]
    assert (failure["seed"], failure["data_seed"]) == (3, 7)


@pytest.mark.usefixtures("store")
def test_an_earlier_attempt(wtsbench: Wtsbench) -> None:
    """`--attempt` shows another attempt; its JSON has the lines in order."""
    record = json.loads(wtsbench("logs", FAILED[:8], "--attempt", "1", "--json").stdout)
    assert (record["attempt"], record["failure_class"]) == (1, "timeout")
    assert [line["text"] for line in record["lines"]] == ["first"]


def test_a_running_trial(store: Path, wtsbench: Wtsbench) -> None:
    """An attempt that has not ended shows what it printed on this machine so far."""
    from wtsbench.execution.spool import AttemptFolder

    log = AttemptFolder.of(store / "spool", BEGUN, 1).trial.log
    log.parent.mkdir(parents=True)
    log.write_text("still at it\n")
    done = wtsbench("logs", "cd")
    assert "not ended" in done.stdout
    assert done.stdout.endswith("still at it\n")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "2 trials begin with 'a'"),
        (["ff"], "no trial whose id begins with 'ff'"),
        (["ab", "--attempt", "7"], "no attempt 7"),
        (["--attempt", "1"], "needs a trial"),
    ],
)
def test_wrong_trial(arguments: list[str], said: str, wtsbench: Wtsbench) -> None:
    """What does not name one attempt is exit code 2 and says why."""
    done = wtsbench("logs", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_no_store(wtsbench: Wtsbench) -> None:
    """A store that is not there is exit code 5."""
    done = wtsbench("logs")
    assert done.returncode == 5
    assert "there is no store" in done.stderr
