"""`wtsbench gc` as a user runs it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Wtsbench


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """An old interrupted write in the cache."""
    path = tmp_path / "cache" / "reports" / ".table-x"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(2048))
    os.utime(path, (1, 1))
    return path


def test_it_lists_and_only_clears_when_told(wtsbench: Wtsbench, left: Path, tmp_path: Path) -> None:
    """A dry run is the default and removes nothing; `--force` removes and says what; then nothing is left."""
    places = {name: str(tmp_path / "cache") for name in ("WTSBENCH_CACHE", "TMPDIR")}  # what others left is theirs
    places["DOCKER_HOST"] = f"unix://{tmp_path}/none.sock"
    for arguments in ((), ("--dry-run",)):
        listed = wtsbench("gc", *arguments, **places)
        assert listed.returncode == 0, listed.stderr
        assert str(left) in listed.stdout
        assert "2.0 KiB" in listed.stdout
        assert "wtsbench gc --force" in listed.stdout
        assert "no Docker engine" in listed.stderr
    told = json.loads(wtsbench("gc", "--json", **places).stdout)
    [found] = told["leftovers"]
    assert (found["kind"], found["name"], found["bytes"], found["action"]) == (
        "temporary file",
        str(left),
        2048,
        "remove",
    )
    assert not found["cleared"]
    assert left.exists()
    done = wtsbench("gc", "--force", **places)
    assert done.returncode == 0, done.stderr
    assert f"removed: temporary file {left}" in done.stdout
    assert not left.exists()
    assert wtsbench("gc", **places).stdout == "nothing is left over\n"


def test_what_could_not_be_cleared_is_told(wtsbench: Wtsbench, tmp_path: Path) -> None:
    """Work whose store is gone stays, and the exit code says that the command is not complete."""
    folder = tmp_path / "store" / "spool" / f"{'0' * 16}-1"
    folder.mkdir(parents=True)
    (folder / "attempt.json").write_text(_note())
    places = {name: str(tmp_path / "cache") for name in ("WTSBENCH_CACHE", "TMPDIR")}  # what others left is theirs
    places["DOCKER_HOST"] = f"unix://{tmp_path}/none.sock"
    done = wtsbench("gc", "--force", "--json", **places)
    assert done.returncode == 4
    leftovers = json.loads(done.stdout)["leftovers"]
    assert [found["name"] for found in leftovers] == [str(folder)]
    [found] = leftovers
    assert found["action"] == "deliver"
    assert "no store" in found["problem"]
    assert folder.exists()
    assert wtsbench("gc", "--cache-budget", "lots", **places).returncode == 2


def _note() -> str:
    """Of an attempt on this machine."""
    from tests.planning.grids import plan_of
    from wtsbench.execution.spool import AttemptNote
    from wtsbench.spec.trial import TrialJob

    spec = next(iter(plan_of(tasks=["t1"], seeds=[0], strategies=["naive"]).trials.values()))
    job = TrialJob(trial_id=spec.trial_id, attempt=1, spec=spec, labels=("a", "b"))
    note = AttemptNote(
        job=job, run="r", baselines={}, sandbox="process", isolation="none", image_digest=None,
        environment_lock="x", host=os.uname().nodename, started_at=0.0,
    )  # fmt: skip
    return note.model_dump_json()
