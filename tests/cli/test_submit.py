"""`wtsbench submit`, and what the reading verbs say before, after and without it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Wtsbench

LEADERBOARD_KEYS = {
    "task",
    "weak",
    "strong",
    "strategy",
    "metric",
    "weak_score",
    "student_score",
    "student_low",
    "student_high",
    "ceiling_score",
    "pgr",
    "pgr_low",
    "pgr_high",
    "pgr_reason",
    "seeds_done",
    "seeds_total",
    "rank",
}
SUBMIT = ("submit", "--sandbox", "process", "--executor", "in-process")


def test_plan(grid: Path, wtsbench: Wtsbench) -> None:
    """`plan` counts trials by role, task and model, says why they would run, and leaves no store behind."""
    done = wtsbench("plan", grid, "--sandbox", "process", "--verbose")
    assert done.returncode == 0, done.stderr
    assert "4 trials" in done.stdout
    assert re.search(r"student +safety-mini +nano-2 +2 +0 +0 +2", done.stdout)
    assert "student safety-mini nano-2 logconf seed 0" in done.stdout
    said = json.loads(wtsbench("plan", grid, "--sandbox", "process", "--json").stdout)
    assert (said["total"], said["shared"], said["stored"], said["to_run"]) == (4, 2, 0, 4)
    assert [trial["role"] for trial in said["trials"]] == ["weak", "ceiling", "student", "student"]
    assert {trial["state"] for trial in said["trials"]} == {"new"}
    assert not (grid.parent / "store").exists()


@pytest.mark.parametrize("verb", ["status", "leaderboard", "logs"])
def test_no_store_yet(verb: str, wtsbench: Wtsbench) -> None:
    """Without a store the verbs that read it are exit code 5 and say which one was meant."""
    done = wtsbench(verb)
    assert done.returncode == 5
    assert "store" in done.stderr
    assert "Traceback" not in done.stderr


def test_central_stores_are_not_there_yet(grid: Path, wtsbench: Wtsbench) -> None:
    """An address of a central store is refused by every verb, not taken for a folder."""
    for arguments in (("status",), ("leaderboard",), ("plan", grid), (*SUBMIT, grid)):
        done = wtsbench(*arguments, "--store", "grpc+tls://somewhere:1")
        assert done.returncode == 5, arguments
        assert "grpc+tls://somewhere:1" in done.stderr
    assert not list(grid.parent.glob("grpc*"))


def test_unwritable_store(grid: Path, tmp_path: Path, wtsbench: Wtsbench) -> None:
    """A store that cannot be made is exit code 5, with its place and a remedy, and nothing runs."""
    (tmp_path / "file").write_text("")
    done = wtsbench(*SUBMIT, grid, "--store", tmp_path / "file" / "store")
    assert done.returncode == 5
    assert str(tmp_path / "file") in done.stderr
    assert "--store" in done.stderr
    assert "Traceback" not in done.stderr


def test_full_disk(grid: Path, wtsbench: Wtsbench) -> None:
    """A pipe to a full disk ends with code 5 and no traceback."""
    done = wtsbench("validate", grid)
    assert done.returncode == 0
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "wtsbench_cli", "validate", str(grid)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 5
    assert done.stderr.startswith("error: standard output cannot be written: No space left on device")
    assert "Traceback" not in done.stderr


def test_typo_in_a_strategy(grid: Path, wtsbench: Wtsbench) -> None:
    """A typo stops a submission before anything runs or is written."""
    grid.write_text(grid.read_text().replace("logconf", "logcnf"))
    done = wtsbench(*SUBMIT, grid)
    assert done.returncode == 2
    assert "did you mean 'logconf'?" in done.stderr
    assert not (grid.parent / "store").exists()


def test_missing_mirror(grid: Path, tmp_path: Path, wtsbench: Wtsbench) -> None:
    """A mirror folder that is not there is exit code 2."""
    done = wtsbench("plan", grid, "--mirror", tmp_path / "absent")
    assert done.returncode == 2
    assert "--mirror" in done.stderr


@pytest.mark.slow
def test_from_grid_to_leaderboard(grid: Path, wtsbench: Wtsbench, wtsbench_process: Wtsbench) -> None:
    """Submitting prints a line for each event, the leaderboard and where results are; again, it runs nothing."""
    first = wtsbench_process(*SUBMIT, grid)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "\x1b" not in first.stdout
    assert len(re.findall(r"^\[\d/4\] start ", first.stdout, re.MULTILINE)) == 4
    assert re.search(r"^\[4/4\] done student safety-mini nano-2 \w+ seed 0 \(\d+\.\d s\)$", first.stdout, re.MULTILINE)
    assert "done: 4 trials, 4 run in" in first.stdout
    assert first.stdout.rstrip().endswith(f"results: {grid.parent / 'store'}")

    again = wtsbench(*SUBMIT, grid)
    assert again.returncode == 0
    assert "all 4 trials were stored already" in again.stdout
    assert "start " not in again.stdout

    assert json.loads(wtsbench("plan", grid, "--sandbox", "process", "--json").stdout)["to_run"] == 0
    grid.write_text(grid.read_text().replace("epochs: 1", "epochs: 2"))
    changed = wtsbench("plan", grid, "--sandbox", "process")
    assert re.search(r"differs from the stored trial in .*training.epochs: 1(\.0)? -> 2(\.0)?", changed.stdout)

    status = json.loads(wtsbench("status", "--json").stdout)
    assert [(one["grid"], one["cells_done"], one["cells_total"]) for one in status["grids"]] == [("small", 2, 2)]
    assert re.search(r"small +2/2 +4 +4 +0 +0 +0", wtsbench("status").stdout)

    rows = json.loads(wtsbench("leaderboard", "--json").stdout)
    assert sorted((row["split"], row["strategy"]) for row in rows) == [
        *(("ood", "logconf"), ("ood", "naive")),
        *(("test", "logconf"), ("test", "naive")),
    ]
    assert all(row.keys() >= LEADERBOARD_KEYS for row in rows)
    assert wtsbench("leaderboard", "--format", "json").stdout == wtsbench("leaderboard", "--json").stdout
    for form in ("table", "markdown", "csv"):
        shown = wtsbench("leaderboard", "--format", form)
        assert shown.returncode == 0, shown.stderr
        assert "logconf" in shown.stdout
    assert wtsbench("leaderboard", "--format", "csv", "--json").returncode == 2
    assert wtsbench("leaderboard", "--grid", "smal").returncode == 2

    ceiling = rows[0]["trials"][0]["ceiling"]
    once_more = wtsbench("reproduce", ceiling[:12], "--anyway", "--json")  # anyway: the checkout may have changes
    assert once_more.returncode == 0, once_more.stderr
    found = json.loads(once_more.stdout)
    assert found["agrees"]
    (trial,) = found["trials"]
    assert (trial["trial_id"], trial["now"], trial["largest"]) == (ceiling, ceiling, 0.0)
    assert trial["outputs"] > 100


@pytest.mark.slow
def test_stopped(grid: Path, environment: dict[str, str], wtsbench: Wtsbench) -> None:
    """SIGTERM stops as cleanly as Ctrl-C: exit code 130, what is kept, how to go on; going on finishes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wtsbench_cli", *SUBMIT, str(grid)],
        env={**environment, "PYTHONUNBUFFERED": "1"},
        cwd=grid.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if " start " in line:
            break
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "stopping" in err
    assert "Traceback" not in err
    assert re.search(r"stopped: \d of 4 trials are stored and kept\ngo on with: wtsbench submit ", out)
    again = wtsbench(*SUBMIT, grid, "--quiet")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.startswith("done: 4 trials")


def test_two_models_of_one_name(grid: Path, wtsbench: Wtsbench) -> None:
    """Tables know a model by its manifest's name: a grid with two of the same name is refused when planned."""
    for file in ("one", "two"):
        (grid.parent / f"{file}.yaml").write_text(
            "name: own\nkind: model\nsummary: a copy\nsource: {embedded: nano-1}\nparameters: 1\n"
        )
    pairs = "  - {weak: ./one.yaml, strong: nano-2}\n  - {weak: ./two.yaml, strong: nano-2}"
    grid.write_text(grid.read_text().replace("  - {weak: nano-1, strong: nano-2}", pairs))
    done = wtsbench("plan", grid, "--sandbox", "process")
    assert done.returncode == 2
    assert "two models of the grid are called own" in done.stderr
