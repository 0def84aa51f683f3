"""All faults of a file are reported at once, each with its line, its key path and the nearest valid name."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from tests.spec.files import faults, write
from wtsbench.errors import ExitCode, UserError
from wtsbench.spec.faults import Fault, SpecFaults, nearest
from wtsbench.spec.grid import Grid
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.wording import FORMS
from wtsbench.spec.yaml_file import load
from wtsbench.spec.yaml_tree import Node

WRONG = """\
apiVersion: wtsbench/v2
name: "not a name"
tasks: [safety, safety, 5]
pairs:
  - {weak: gpt2, stronk: gpt2-medium}
  - weak: gpt2
    strong: [large]
    extra: 1
strategies:
  - naive
  - {nam: logconf, max_weight: 0.75}
  - {name: logconf, parameters: 5}
seeds: [0, true, 1000, x]
trainin: {}
training:
  epochs: -1
  batch_size: 1.5
  learning_rate: 5e-5
  precision: float23
  models:
    large:
      epoch: 3
resources: {gpus: .inf, memory: 40G, time: 1:30}
retry: 3
exclude: [{}]
name: again
"""

EXPECTED = [
    (1, "apiVersion", "wtsbench/v1", None),
    (2, "name", "a name of", None),
    (3, "tasks[2]", "quotes", None),
    (5, "pairs[0].stronk", "unknown key", "strong"),
    (7, "pairs[1].strong", "must be a text, not a list", None),
    (8, "pairs[1].extra", "unknown key; known here: strong, weak", None),
    (11, "strategies[1].nam", "unknown key", "name"),
    (12, "strategies[2].parameters", "a mapping", None),
    (13, "seeds[1]", "must be a number, not true", None),
    (13, "seeds[2]", "less than 1000", None),
    (13, "seeds[3]", "must be a whole number, not 'x'", None),
    (14, "trainin", "unknown key", "training"),
    (16, "training.epochs", "greater than 0, not -1", None),
    (17, "training.batch_size", "a whole number, not 1.5", None),
    (19, "training.precision", "must be auto, float32, bfloat16 or float16", "float32"),
    (22, "training.models.large.epoch", "unknown key", "epochs"),
    (23, "resources.gpus", "not a finite number", None),
    (23, "resources.memory", "such as 40GiB, not '40G'", None),
    (23, "resources.time", "such as 90s, 30m, 2h or 1h30m, not '1:30'", None),
    (24, "retry", "a mapping", None),
    (25, "exclude[0]", "at least one of", None),
    (26, "name", "given twice, first in line 2", None),
]


def test_every_fault_at_once(tmp_path: Path) -> None:
    """A file with many kinds of faults gets exactly one report of each, in the order of its lines."""
    found = faults(write(tmp_path, WRONG))
    assert [(fault.line, fault.path, fault.suggestion) for fault in found] == [
        (line, path, suggestion) for line, path, _, suggestion in EXPECTED
    ]
    for fault, (_, _, words, _) in zip(found, EXPECTED, strict=True):
        assert words in fault.message


def test_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file as the user would, one fault a line, in no library's jargon."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecFaults) as caught:
        load(write(tmp_path, WRONG), Grid)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{len(EXPECTED)} faults"
    assert lines[3] == "  grid.yaml:5: pairs[0].stronk: unknown key (did you mean 'strong'?)"
    assert not re.search(r"pydantic|https?://|Input|valid (string|dictionary|tuple)", str(caught.value))
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_message_names_no_more_faults_than_a_screen_shows(tmp_path: Path) -> None:
    """A thousand wrong numbers are one mistake; all of them are counted, and `faults` has each."""
    path = write(tmp_path, "name: g\nseeds: [" + ", ".join(["x"] * 60) + "]\n")
    with pytest.raises(SpecFaults) as caught:
        load(path, Grid)
    first, *lines = str(caught.value).splitlines()
    assert (len(caught.value.faults), len(lines)) == (number := int(first.split()[0]), 51)
    assert lines[-1].strip() == f"and {number - 50} more"


def test_single_fault_is_the_message(tmp_path: Path) -> None:
    """One fault needs no heading."""
    path = write(tmp_path, "name: g\ntasks: [t]\npairs: [{weak: a, strong: b}]\nstrategis: [naive]\n")
    with pytest.raises(SpecFaults) as caught:
        load(path, Grid)
    assert str(caught.value) == f"{path}:4: strategis: unknown key (did you mean 'strategies'?)"


def test_missing_keys(tmp_path: Path) -> None:
    """A key that is required and has no near misspelling is reported by its own name."""
    found = faults(write(tmp_path, "name: g\npairs:\n  - weak: a\n"))
    assert [(f.line, f.path, f.message) for f in found] == [
        (1, "tasks", "is required"),
        (1, "strategies", "is required"),
        (3, "pairs[0].strong", "is required"),
    ]


def test_given_twice_points_at_the_second(tmp_path: Path) -> None:
    """An entry that repeats an earlier one is the one reported."""
    text = (
        "name: g\ntasks: [t]\npairs: [{weak: a, strong: b}]\nstrategies:\n  - naive\n  - logconf\n  - {name: naive}\n"
    )
    (fault,) = faults(write(tmp_path, text))
    assert (fault.line, fault.path, fault.message) == (7, "strategies[2]", "naive is given twice")


def test_python_names_are_not_keys(tmp_path: Path) -> None:
    """A key has one spelling: the one the schema has."""
    text = "api_version: wtsbench/v1\nname: g\ntasks: [t]\npairs: [{weak: a, strong: b}]\nstrategies: [naive]\n"
    (fault,) = faults(write(tmp_path, text))
    assert (fault.line, fault.path, fault.suggestion) == (1, "api_version", "apiVersion")


def test_checks_join_the_report(tmp_path: Path) -> None:
    """A caller's checks see the tree however wrong it is, and add their faults to the same report."""

    def known(tree: Node) -> Iterator[Fault]:
        for task in tree.entries("tasks"):
            if task.value not in ("safety", "legal"):
                yield task.fault("no such task", suggestion=nearest(str(task.value), ("safety", "legal")))
        for call in tree.entries("strategies"):
            weight = call.child("max_weight")
            if weight is not None:
                yield weight.fault("too much")
        assert tree.child("pairs", 0, "weak") is None, "what is not there is None, not an error"

    text = """\
name: g
tasks:
  - safty
  - 5
pairs: nothing
strategies:
  - name: logconf
    ramp: 0.2
    max_weight: 7
"""
    found = faults(write(tmp_path, text), checks=known)
    assert [(f.line, f.path, f.suggestion) for f in found] == [
        (3, "tasks[0]", "safety"),
        (4, "tasks[1]", None),
        (5, "pairs", None),
        (9, "strategies[0].max_weight", None),
    ]
    assert "in quotes" in found[1].message, "the form's fault stands, not the check's at the same place"


def test_checks_alone_refuse_a_file(tmp_path: Path) -> None:
    """A file of the right form is refused where a check finds fault with it."""
    text = "name: g\ntasks: [t]\npairs: [{weak: a, strong: b}]\nstrategies: [naive]\n"
    path = write(tmp_path, text)
    assert load(path, Grid, lambda tree: []).name == "g"
    (fault,) = faults(path, checks=lambda tree: [tree.key_fault("name", "taken")])
    assert (fault.line, fault.path, fault.message) == (1, "name", "taken")


TASK = """\
name: mine
summary: Is it?
labels: [no, yes]
template: "{text}"
label: {column: answer, values: {"0": no, "1": maybe}}
source:
  kind: hub
  id: owner/name
  confg: default
"""


def test_unions_suggest_the_keys_of_the_member_meant(tmp_path: Path) -> None:
    """An unknown key of a source is compared with the keys of that kind of source."""
    (fault,) = faults(write(tmp_path, TASK), model=TaskManifest)
    assert (fault.line, fault.path, fault.suggestion) == (9, "source.confg", "config")
    (fault,) = faults(write(tmp_path, TASK.replace("kind: hub", "kind: hubb")), model=TaskManifest)
    assert (fault.path, fault.suggestion) == ("source.kind", "hub")
    (fault,) = faults(write(tmp_path, TASK.replace("  kind: hub\n", "")), model=TaskManifest)
    assert (fault.path, fault.message) == ("source.kind", "is required")


def test_faults_of_a_whole_point_at_the_part(tmp_path: Path) -> None:
    """What only the whole manifest shows, a label value of no class, is reported at the key it is about."""
    (fault,) = faults(write(tmp_path, TASK.replace("confg", "config")), model=TaskManifest)
    assert (fault.line, fault.path) == (5, "label")
    assert "maybe" in fault.message


def test_faults_of_a_whole_point_below_a_key(tmp_path: Path) -> None:
    """Also where the part stands deeper: the answers of a zero-shot prompt."""
    whole = TASK.replace("confg", "config").replace("maybe", "yes") + "zero_shot:\n  answers: {no: ' x', yse: ' y'}\n"
    (fault,) = faults(write(tmp_path, whole), model=TaskManifest)
    assert (fault.line, fault.path) == (11, "zero_shot.answers"), fault


def test_a_list_that_is_too_short(tmp_path: Path) -> None:
    """One good entry where two are asked for is a fault; bad entries have faults of their own."""
    whole = TASK.replace("confg", "config").replace("label:", "choices: {options: [a], right: a}\nlable:")
    found = {fault.path: fault.message for fault in faults(write(tmp_path, whole), model=TaskManifest)}
    assert found["choices.options"] == "must have at least 2 entries"
    found = {
        fault.path: fault.message
        for fault in faults(write(tmp_path, whole.replace("[a]", "[a, 5]")), model=TaskManifest)
    }
    assert "choices.options" not in found
    assert "quotes" in found["choices.options[1]"]


def test_errors_survive_pickling() -> None:
    """Ray sends errors between processes."""
    error = SpecFaults([Fault(file="f", line=2, message="b"), Fault(file="f", line=1, message="a", suggestion="c")])
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert isinstance(copy, SpecFaults)
    assert (copy.faults, str(copy)) == (error.faults, str(error))
    assert [fault.line for fault in copy.faults] == [1, 2]
    assert isinstance(copy, UserError)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("logcnf", "logconf"),
        ("LogConf", "logconf"),
        ("early-stop", "early_stop"),
        ("naive ", "naive"),
        ("zzz", None),
        ("", None),
    ],
)
def test_nearest(name: str, suggestion: str | None) -> None:
    """Misspellings, other case and other dashes are near; anything else is not."""
    assert nearest(name, ["naive", "logconf", "early_stop"]) == suggestion


def test_every_pattern_has_words() -> None:
    """No user is shown a regular expression where a spec of ours has one."""
    seen: set[str] = set()

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("pattern"), str):
                seen.add(value["pattern"])
            for item in value.values():
                visit(item)
        elif isinstance(value, list):
            for item in value:
                visit(item)

    for model in _manifests():
        visit(model.model_json_schema(mode="serialization"))  # sizes and durations have words of their own
    assert seen <= set(FORMS)


def _manifests() -> list[type[BaseModel]]:
    from wtsbench.spec.model import ModelManifest

    return [Grid, TaskManifest, ModelManifest]


def test_stored_forms_load_again() -> None:
    """A strategy call reads back from what it is stored as."""
    call = StrategyCall.model_validate({"name": "logconf", "max_weight": 0.5})
    assert StrategyCall.model_validate(call.model_dump(mode="json")) == call
    assert call.label == "logconf(max_weight=0.5)"
    assert get_args(Grid.model_fields["api_version"].annotation) == ("wtsbench/v1",)
