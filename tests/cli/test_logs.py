"""`wtsbench logs` finds a trial by the beginning of its id and says why it failed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from tests.cli.conftest import Wtsbench
from wtsbench.contract import schemas
from wtsbench.contract.operations import RunReport
from wtsbench.contract.outbox import Outbox
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.store.client import Store, open_store
from wtsbench.store.courier import deliver
from wtsbench.strategies import registry

FAILED, MENDED, BEGUN = "ab" * 32, "ac" * 32, "cd" * 32


def _end(
    store: Store, folder: Path, trial_id: str, failure: str | None, lines: tuple[str, ...], attempt: int | None = None
) -> None:
    """One attempt, by default a new one, ended with these lines in its log."""
    attempt = attempt or store.begin_attempt(trial_id, run="test")
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
    opened.begin_attempt(BEGUN, run="small-1", lease=True)
    opened.report_run(RunReport(run="small-1", grid="small"))
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
    """An attempt that has not ended shows what it has printed so far, on whatever machine."""
    open_store(str(store)).renew(BEGUN, 1, share=0.5, lines=["reads items", "still at it"], first=1)
    done = wtsbench("logs", "cd")
    assert "not ended" in done.stdout
    assert done.stdout.endswith("reads items\nstill at it\n")


def test_followed_to_the_end(store: Path, tmp_path: Path) -> None:
    """`--follow` prints each line once, then how it ended; of a run, each line with its trial, until the run ends."""
    opened = open_store(str(store))
    opened.renew(BEGUN, 1, share=None, lines=["step 1"], first=1)
    following = [
        subprocess.Popen(
            [sys.executable, "-m", "wtsbench_cli", "logs", *words, "--follow", "--store", str(store)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for words in ([BEGUN[:12]], ["--run", "small-1"])
    ]
    for process in following:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("step 1\n")
    opened.renew(BEGUN, 1, share=0.5, lines=["step 2"], first=2)
    for process in following:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("step 2\n")
    _end(opened, tmp_path, BEGUN, None, ("step 1", "step 2", "step 3"), attempt=1)
    opened.report_run(RunReport(run="small-1", grid="small", state="done"))
    one, run = (process.communicate(timeout=60)[0] for process in following)
    assert re.fullmatch(r"step 3\ntrial cdcd\w+\n.* attempt 1: done after 1.5 s\n", one), one
    assert run == f"{BEGUN[:8]} step 3\n"
    assert [process.returncode for process in following] == [0, 0]


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
