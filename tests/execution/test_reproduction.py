"""What stands against a repetition, before anything is run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.watched import session
from tests.reports.worlds import simple, trial_name
from wtsbench.errors import SpecError
from wtsbench.execution.reproduction import _planned_here, _reasons, _spec
from wtsbench.planning.stored import Wanted, chosen_cells
from wtsbench.spec.provenance import cpu_name, provenance
from wtsbench.spec.trial import EXTERNAL


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"git_commit": "f" * 40}, "commit ffff"),
        ({"wtsbench_version": "0.0.1"}, "wtsbench 0.0.1 ran it"),
        ({"git_dirty": True}, "with changes on top of commit"),
        ({"device_name": "An Abacus"}, "it ran on An Abacus"),
        ({"environment": "docker:sha256:abcdef"}, "it ran in image sha256:abcdef; here it would run in a process"),
    ],
)
def test_other_code_image_or_hardware_is_named(
    changed: dict[str, Any], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of this very place gives no reason; one of another commit, image or processor gives that one."""
    code = {**provenance(), "git_commit": "a" * 40, "git_dirty": False}
    monkeypatch.setattr("wtsbench.execution.reproduction.provenance", lambda: code)
    planned = session().plan.trials
    here = next(iter(planned.values())).environment
    was = changed.get("environment", here)
    specs = {spec.trial_id: spec for spec in _planned_here(planned, was).values()}
    record = {**code, "device": "cpu", "device_name": cpu_name(), **changed}
    told = set(_reasons(dict.fromkeys(specs, record), specs, _planned_here(specs, here)))
    assert (said is None and not told) or any(str(said) in each for each in told), told
    assert len(told) == (said is not None)


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("Abacus 9, 1, 100\nAbacus 9, 1, 100", None),
        ("Abacus 8, 1, 100", "it ran on Abacus 9; this machine has Abacus 8"),
        ("", "it ran on Abacus 9; this machine has no GPU"),
    ],
)
def test_another_gpu_is_named(listed: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the driver lists here, of which any may be the one."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{listed}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    code = {**provenance(), "git_dirty": False}
    monkeypatch.setattr("wtsbench.execution.reproduction.provenance", lambda: code)
    specs = session().plan.trials
    record = {**code, "device": "cuda", "device_name": "Abacus 9"}
    assert list(_reasons(dict.fromkeys(specs, record), specs, specs)) == [said] * (len(specs) if said else 0)


def test_a_trial_runs_under_its_own_id_only_where_all_is_equal() -> None:
    """In the same environment ids stay; in another one students follow the new ids of their parents."""
    planned = session().plan.trials
    environment = next(iter(planned.values())).environment
    assert [spec.trial_id for spec in _planned_here(planned, environment).values()] == list(planned)
    moved = _planned_here(planned, "process:other")
    ids = {spec.trial_id for spec in moved.values()}
    assert ids.isdisjoint(planned)
    assert all(set(spec.parents) <= ids for spec in moved.values())
    assert any(spec.parents for spec in moved.values())


def test_predictions_of_other_code_are_refused() -> None:
    """They were imported: only the code that made them can make them again."""
    spec = next(iter(session().plan.trials.values())).model_copy(update={"environment": EXTERNAL})
    record = {"trial_id": spec.trial_id, "spec": json.dumps(spec.model_dump(mode="json")), "git_commit": None}
    with pytest.raises(SpecError, match="other code made the predictions"):
        _spec(record)


def test_cells_and_trials_are_found_by_what_users_call_them(tmp_path: Path) -> None:
    """A grid's cells by task, pair, strategy and seed; a trial by the beginning of its id; else a remedy."""
    store = simple({"naive": 0.7, "logconf": 0.8}, items=20).folder(tmp_path)
    row, cells, trial = chosen_cells(store, Wanted(name="first", strategy="naive", seed=1, pair="small:large"))
    assert (row["submission"], trial) == (1, None)
    assert [(cell.strategy, cell.seed) for cell in cells] == [("naive", 1)]
    assert len(chosen_cells(store, Wanted(name="first"))[1]) == 6
    weak = trial_name("weak", "colours", "small", 2)
    assert chosen_cells(store, Wanted(name=weak[:10]))[1:] == ([], weak)
    for wanted in (Wanted(name="first", task="colour"), Wanted(name="nothing"), Wanted(name="")):
        with pytest.raises(SpecError):
            chosen_cells(store, wanted)
