"""`wtsbench gate` and `wtsbench baseline` as a step of CI runs them: exit codes, files and what is refused."""

from __future__ import annotations

from pathlib import Path

from junitparser import JUnitXml

from tests.cli.conftest import Wtsbench
from tests.reports.worlds import World, simple

SEEDS = (0, 1, 2, 3, 4)
GRID = """apiVersion: wtsbench/v1
name: first
tasks: [colours]
pairs: [{weak: small, strong: large}]
strategies: [naive]
gate: {accuracy: 0.4}
"""


def stored(world: World, folder: Path) -> Path:
    """The store of a world whose grid has a threshold."""
    folder.mkdir()
    world.grids[0]["yaml"] = GRID
    world.folder(folder)
    return folder / "store"


def test_what_is_not_finished_makes_no_baseline(tmp_path: Path, wtsbench: Wtsbench) -> None:
    """Neither the first gate nor `set` writes one that lacks a seed; --accept does."""
    part = stored(simple({"naive": 0.7}, seeds=SEEDS, skip=[("naive", 3)]), tmp_path / "part")
    at = ("--grid", "first", "--store", part)
    for verb in (("gate", "--baseline", "main", *at), ("baseline", "set", "main", *at)):
        done = wtsbench(*verb)
        assert done.returncode == 4, done.stderr
        assert "lack seeds" in done.stderr
        assert not (tmp_path / "baselines").exists()
    assert wtsbench("baseline", "set", "main", *at, "--accept").returncode == 0
    assert "naive" in wtsbench("baseline", "show", "main").stdout


def test_options_and_the_grid_say_what_counts(tmp_path: Path, wtsbench: Wtsbench) -> None:
    """The grid's threshold lets 20 points pass, an option does not; thresholds that mean nothing are refused."""
    before = stored(simple({"naive": 0.8}, seeds=SEEDS), tmp_path / "before")
    after = stored(simple({"naive": 0.6}, seeds=SEEDS), tmp_path / "after")
    folder = ("--folder", tmp_path / "kept here")
    assert wtsbench("baseline", "set", "main", "--grid", "first", "--store", before, *folder).returncode == 0
    gate = ("gate", "--baseline", "main", "--store", after, *folder)
    assert wtsbench(*gate, "--any-code").returncode == 0
    failed = wtsbench(*gate, "--any-code", "--threshold", "accuracy=0.1", "--junit", "junit.xml")
    assert failed.returncode == 3, failed.stderr
    assert JUnitXml.fromfile(str(tmp_path / "junit.xml")).failures == 1
    commands = [line for line in failed.stdout.splitlines() if "wtsbench baseline" in line]
    assert len(commands) == 2
    assert all("--folder" in line for line in commands)
    for wrong in ("accuracy=nan", "accuracy=-1", "accuracy=inf", "accuracy", "acuracy=0.1", "accuracy=2"):
        refused = wtsbench(*gate, "--threshold", wrong)
        assert (refused.returncode, refused.stdout) == (2, ""), wrong
    kept = wtsbench("baseline", "set", "main", "--grid", "first", "--store", after, *folder)
    assert kept.returncode == 2
    assert "may differ" in kept.stderr


def test_trials_of_other_code_are_told_of_everywhere(tmp_path: Path, wtsbench: Wtsbench) -> None:
    """Exit code 4, with the reason in the table, in JUnit and as an annotation; a gain does not hide it."""
    before = stored(simple({"naive": 0.6}, seeds=SEEDS), tmp_path / "before")
    after = stored(simple({"naive": 0.9}, seeds=SEEDS), tmp_path / "after")
    assert wtsbench("baseline", "set", "main", "--grid", "first", "--store", before).returncode == 0
    done = wtsbench(
        "gate", "--baseline", "main", "--store", after, "--junit", "junit.xml",
        GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"),
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "run by other code: 0" in done.stdout
    assert "to measure this code: submit the grid into a store of its own; or pass --any-code" in done.stdout
    assert "--accept" not in done.stdout  # it would change nothing
    assert "::warning title=incomparable" in done.stderr
    assert "run by other code" in (tmp_path / "summary.md").read_text()
    assert JUnitXml.fromfile(str(tmp_path / "junit.xml")).errors == 3


def test_two_runs_are_compared_whole(tmp_path: Path, wtsbench: Wtsbench) -> None:
    """They are called what they are, not a gate; an option that would choose among their entries is refused."""
    before = stored(simple({"naive": 0.6}, seeds=SEEDS), tmp_path / "before")
    after = stored(simple({"naive": 0.9}, seeds=SEEDS), tmp_path / "after")
    shown = wtsbench("compare", before, after)
    assert (shown.returncode, shown.stdout.splitlines()[0]) == (0, f"{after} after {before}"), shown.stderr
    for option in (("--task", "colours"), ("--metric", "f1"), ("--store", before)):
        refused = wtsbench("compare", before, after, *option)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert option[0] in refused.stderr
