"""Manifests and grids are found by name or path, the user's own first; all that are shipped are valid."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.spec.files import GRID
from tests.spec.test_yaml_file import WRONG
from wtsbench.errors import SpecError
from wtsbench.files import naming
from wtsbench.planning.check import load_checked_grid
from wtsbench.planning.validation import KINDS, FileKind, json_schema, validated
from wtsbench.settings import cache_folder, shipped
from wtsbench.spec import manifests
from wtsbench.spec.faults import SpecFaults
from wtsbench.spec.grid import Grid, load_grid
from wtsbench.spec.manifests import find, load_model, load_task, names
from wtsbench.spec.yaml_file import kind_of
from wtsbench.spec.yaml_tree import read

TASK = """\
name: {name}
summary: mine
labels: [no, yes]
template: "{{text}}"
label: {{column: answer}}
source: {{kind: path, path: data.csv}}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder of manifests, and a working folder beside it."""
    folder = tmp_path / "own"
    for kind in ("tasks", "models", "grids"):
        (folder / kind).mkdir(parents=True)
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(folder))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


def test_shipped_grids_are_valid() -> None:
    """Every grid that is shipped loads, and every name in it is known."""
    assert {"smoke", "quickstart", "paper"} <= set(names("grids"))
    for name in names("grids"):
        grid, path = load_checked_grid(name)
        assert grid.name == name == path.stem


def test_shipped_tasks_and_models_are_valid() -> None:
    """Every manifest that is shipped loads, and is called as its file."""
    assert {"safety", "legal", "safety-mini", "legal-mini"} <= set(names("tasks"))
    assert {"nano-1", "nano-2", "nano-3", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"} <= set(names("models"))
    for name in names("tasks"):
        task, folder = load_task(name)
        assert (task.name, folder) == (name, shipped("manifests") / "tasks")
    for name in names("models"):
        assert load_model(name)[0].name == name


def test_own_manifests_come_first(own: Path) -> None:
    """A user's file hides the shipped one of the same name, and adds its own names."""
    for name in ("safety", "mine"):
        (own / "tasks" / f"{name}.yaml").write_text(TASK.format(name=name))
    (own / "tasks" / ".hidden.yaml").write_text("")
    (own / "tasks" / "notes.txt").write_text("")
    assert load_task("safety")[0].summary == "mine"
    assert load_task("mine")[1] == own / "tasks"
    assert {"mine", "safety", "legal"} <= set(names("tasks"))
    assert {"notes", ".hidden"}.isdisjoint(names("tasks"))
    assert list(names("tasks")) == sorted(set(names("tasks")))


def test_a_name_is_the_files(own: Path) -> None:
    """A manifest whose name is not its file's would be two things at once."""
    (own / "tasks" / "mine.yaml").write_text(TASK.format(name="other"))
    with pytest.raises(SpecFaults) as caught:
        load_task("mine")
    (fault,) = caught.value.faults
    assert (fault.line, fault.path, fault.suggestion) == (1, "name", "mine")


def test_paths(own: Path) -> None:
    """What has a slash or ends in .yaml is a path; relative to the working folder, or to the one given."""
    Path("grids").mkdir()
    for path in (Path("smoke.yaml"), Path("grids/other.yml")):
        path.write_text(yaml.safe_dump(GRID))
        assert load_grid(str(path)).name == "g"
        assert load_grid(path.resolve()).name == "g"
    assert find("grids", "./other.yml", base=Path("grids")) == Path("grids/other.yml")
    assert find("grids", "smoke") == shipped("manifests") / "grids" / "smoke.yaml"


@pytest.mark.parametrize(
    ("name", "message", "remedy"),
    [
        ("smok", "no grid is called 'smok'", "did you mean 'smoke'?"),
        ("mygrid", "no grid is called 'mygrid'", "did you mean the file mygrid.yaml?"),
        ("zzzzzz", "no grid is called 'zzzzzz'", "Known: "),
        ("", "no grid is called ''", "Known: "),
        ("x" * 5000, "no grid is called", "Known: "),
        ("a\0b", "no grid is called", "Known: "),
        ("mygird.yaml", "there is no file mygird.yaml", "did you mean mygrid.yaml?"),
        ("./mygrid", "there is no file mygrid", "did you mean mygrid.yaml?"),
        ("quickstrt.yaml", "there is no file quickstrt.yaml", "did you mean 'quickstart', without a path?"),
        ("none/mygrid.yaml", "there is no file none/mygrid.yaml", "no folder none either"),
    ],
)
def test_not_found(own: Path, name: str, message: str, remedy: str) -> None:
    """A name or path that is nowhere is answered with the nearest that is."""
    Path("mygrid.yaml").write_text("")
    with pytest.raises(SpecError) as caught:
        find("grids", name)
    assert caught.value.message.startswith(message)
    assert remedy in (caught.value.remedy or "")


def test_no_folder_of_ones_own(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder of one's own, or with a file in its place, the shipped manifests serve."""
    before = names("grids")
    for place in (own / "nowhere", own / "file"):
        (own / "file").write_text("")
        monkeypatch.setenv("WTSBENCH_MANIFESTS", str(place))
        assert names("grids") == before


def test_names_are_checked_however_wrong_the_form_is(tmp_path: Path) -> None:
    """A grid that is wrong in every way gets one report, of its form and of its names."""
    path = tmp_path / "grid.yaml"
    path.write_text(WRONG.replace("safety, safety, 5", "safty, [1], {a: 1}") + "exclude: [{task: [1]}, 5]\n")
    with pytest.raises(SpecFaults) as caught:
        load_checked_grid(path)
    found = {(fault.line, fault.path): fault.suggestion for fault in caught.value.faults}
    assert found[3, "tasks[0]"] == "safety"
    assert {(3, "tasks[1]"), (3, "tasks[2]"), (5, "pairs[0].stronk"), (7, "pairs[1].strong")} <= set(found)


MANIFESTS = {
    "people.yaml": "name: p\nsummary: s\nsource: {labels: {path: l.csv, text: t, label: l}}\n",
    "wrong.yaml": "name: w\nsummary: s\nsource: {hub: a/b, path: c}\n",
    "task.yaml": "name: t\nsummary: s\nlabels: [a, b]\ntemplate: '{x}'\nsource: {kind: path, path: x.csv}\n",
}
NAMED = """\
name: g
tasks: [safety-mini, ./task.yaml]
pairs:
  - {weak: ./people.yaml, strong: ./people.yaml}
  - {weak: ./wrong.yaml, strong: nano-1}
strategies: [naive]
generation:
  scorer: toxicity-nini
  reference: ./nowhere
"""


def test_faults_of_named_manifests_join_the_report(tmp_path: Path) -> None:
    """What a grid's own manifests have wrong is reported with the grid, each fault with the file that it is in."""
    for name, content in {**MANIFESTS, "grid.yaml": NAMED}.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(SpecFaults) as caught:
        load_checked_grid(tmp_path / "grid.yaml")
    found = {(Path(fault.file).name, fault.line, fault.path): fault for fault in caught.value.faults}
    assert set(found) == {
        ("grid.yaml", 4, "pairs[0].strong"),
        ("grid.yaml", 8, "generation.scorer"),
        ("grid.yaml", 9, "generation.reference"),
        ("task.yaml", 1, ""),
        ("wrong.yaml", 3, "source"),
    }
    assert found["grid.yaml", 8, "generation.scorer"].suggestion == "toxicity-mini"
    assert "source of labels" in found["grid.yaml", 4, "pairs[0].strong"].message


def test_parameters_that_are_for_no_task_of_the_grid(tmp_path: Path) -> None:
    """Hard labels and a probe mean nothing in a generative task: alone there, they are refused where they stand."""
    path = tmp_path / "grid.yaml"
    grid = "name: g\ntasks: [toxicity-mini]\npairs: [{weak: nano-1, strong: nano-2}]\nstrategies:\n"
    path.write_text(grid + "  - naive\n  - {name: naive, labels: hard}\n  - {name: dpo, finetune: linear_probe}\n")
    with pytest.raises(SpecFaults) as caught:
        load_checked_grid(path)
    assert [(fault.line, fault.path) for fault in caught.value.faults] == [
        (6, "strategies[1].labels"), (7, "strategies[2].finetune"),
    ]  # fmt: skip
    path.write_text(
        path.read_text().replace("[toxicity-mini]", "[toxicity-mini, safety-mini]").replace("dpo", "window")
    )
    load_checked_grid(path)


@pytest.mark.parametrize("task", ["[a]", "{a: b}", "3", "null"])
def test_a_task_that_is_no_text(tmp_path: Path, task: str) -> None:
    """It is a fault like others, also where the grid asks for what depends on its tasks."""
    path = tmp_path / "grid.yaml"
    path.write_text(
        f"name: g\ntasks: [safety-mini, {task}]\npairs: [{{weak: nano-1, strong: nano-2}}]\nstrategies: [naive]\n"
        "gate: {accuracy: 0.1}\n"
    )
    with pytest.raises(SpecFaults, match=r"tasks\[1\]: must be a text"):
        load_checked_grid(path)


def validator() -> jsonschema.Draft202012Validator:
    """Somebody else's judge of the schema."""
    schema = json.loads(json.dumps(json_schema("grid")))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", names("grids"))
def test_schema_accepts_shipped_grids(name: str) -> None:
    """An editor that checks by the schema finds no fault with a shipped grid."""
    content = yaml.safe_load(find("grids", name).read_text())
    assert list(validator().iter_errors(content)) == []


FORMS = [
    ({"strategies": [{"name": "logconf", "max_weight": 0.5}]}, True),
    ({"strategies": [{"name": "logconf", "parameters": {"max_weight": 0.5}}]}, True),
    ({"strategies": [{"max_weight": 0.5}]}, False),
    ({"strategies": [5]}, False),
    ({"strategies": [""]}, False),
    ({"strategies": []}, False),
    ({"strategies": [{"name": "logconf", "parameters": 5}]}, False),
    ({"resources": {"time": "2h", "memory": "40GiB", "gpus": 0.5}}, True),
    ({"resources": {"time": 7200, "memory": 1024}}, True),
    ({"resources": {"time": 0}}, False),
    ({"resources": {"time": []}}, False),
    ({"training": {"epochs": 3, "models": {"large": {"learning_rate": 1e-5}}}}, True),
    ({"training": {"epoch": 3}}, False),
    ({"apiVersion": "wtsbench/v1"}, True),
    ({"apiVersion": "wtsbench/v2"}, False),
    ({"api_version": "wtsbench/v1"}, False),
    ({"seeds": [0, 999]}, True),
    ({"seeds": [1000]}, False),
    ({"exclude": [{"task": "t", "seed": 0}]}, True),
    ({"exclude": [{"tsk": "t"}]}, False),
    ({"name": "no spaces"}, False),
    ({"pairs": [{"weak": "a"}]}, False),
    ({"pairs": {"ladder": "nano"}}, True),
    ({"pairs": {"ladder": ["small", "large"]}}, True),
    ({"pairs": {"ladder": ["small"]}}, False),
    ({"pairs": {"ladder": {}}}, False),
    ({"pairs": {"ladders": "nano"}}, False),
    ({"unknown": 1}, False),
]


@pytest.mark.parametrize(("change", "valid"), FORMS, ids=lambda value: str(value))
def test_schema_and_loader_agree(change: dict[str, Any], valid: bool, tmp_path: Path) -> None:
    """What the schema accepts loads, and what it refuses does not."""
    content = {**GRID, **change}
    assert validator().is_valid(content) is valid
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(content))
    if valid:
        assert isinstance(load_grid(path), Grid)
    else:
        with pytest.raises(SpecFaults):
            load_grid(path)


@pytest.mark.parametrize("kind", KINDS)
def test_schema_explains_itself(kind: FileKind) -> None:
    """Every key of every kind of file has a description, and a default where it may be left out."""
    schema = json_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    parts = {**schema["$defs"], kind: schema}
    told = [
        (name, key, key_schema)
        for name, part in parts.items()
        for key, key_schema in part.get("properties", {}).items()
    ]
    assert told
    for name, key, one in told:
        referred = parts.get(str(one.get("$ref", "")).rpartition("/")[2], {})
        assert one.get("description") or referred.get("description"), (name, key)
        assert "default" in one or key in parts[name].get("required", ()) or name == "StrategyCall", (name, key)


KINDS_OF_SHIPPED = {"grids": "grid", "tasks": "task", "models": "model", "scorers": "scorer"}


@pytest.mark.parametrize("folder", KINDS_OF_SHIPPED)
def test_the_kind_of_every_shipped_file_is_recognised(folder: manifests.Kind, tmp_path: Path) -> None:
    """By what it says that it is, and as well by its keys where that line is missing; by its name for all but twins."""
    twins = {"toxicity-mini"}
    for name in names(folder):
        path = find(folder, name)
        assert validated(str(path)).kind == KINDS_OF_SHIPPED[folder]
        mute = tmp_path / path.name
        mute.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("kind:")))
        assert kind_of(read(mute)[0]) == KINDS_OF_SHIPPED[folder]
        if name not in twins:
            assert validated(name).kind == KINDS_OF_SHIPPED[folder]


def test_a_name_of_two_kinds_and_a_file_of_none_are_told(tmp_path: Path) -> None:
    """Nobody guesses: the error says what to add."""
    with pytest.raises(SpecError, match="a task and of a scorer") as caught:
        validated("toxicity-mini")
    assert "--kind task" in (caught.value.remedy or "")
    assert validated("toxicity-mini", "scorer").kind == "scorer"
    (tmp_path / "mute.yaml").write_text("name: mute\n")
    with pytest.raises(SpecError, match="does not tell what it is"):
        validated(str(tmp_path / "mute.yaml"))
    (tmp_path / "typo.yaml").write_text("kind: taks\nname: typo\n")
    with pytest.raises(SpecFaults) as wrong:
        validated(str(tmp_path / "typo.yaml"))
    assert [fault.suggestion for fault in wrong.value.faults] == ["task"]


def test_images_are_checked(tmp_path: Path) -> None:
    """A file of images is known by its name or its digests, and each image without a digest is a fault."""
    (tmp_path / "mine.yaml").write_text(f"trial: {{id: 'sha256:{'0' * 64}'}}\n")
    assert validated(str(tmp_path / "mine.yaml")).kind == "images"
    (tmp_path / "images.yaml").write_text("trial: {tag: latest}\nother: {id: sha256:1}\n")
    with pytest.raises(SpecFaults) as caught:
        validated(str(tmp_path / "images.yaml"))
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("tasks/boolq", "this is a task's manifest, not a grid"),
        ("models/gpt2", "this is a model's manifest, not a grid"),
        ("scorers/toxicity-mini", "this is a scorer's manifest, not a grid"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(file: str, words: str) -> None:
    """A manifest in place of a grid has one fault, which says what it is; and so the other way round."""
    with pytest.raises(SpecFaults) as caught:
        load_checked_grid(shipped("manifests") / f"{file}.yaml")
    assert [fault.message for fault in caught.value.faults] == [words]
    with pytest.raises(SpecFaults, match="this is a grid, not a task's manifest"):
        load_task(shipped("manifests") / "grids" / "smoke.yaml")


def test_a_grid_that_leaves_out_everything(tmp_path: Path) -> None:
    """Checking a grid tells that nothing is left to measure, before anything is prepared."""
    path = tmp_path / "grid.yaml"
    path.write_text(
        "name: g\ntasks: [safety-mini]\npairs: [{weak: nano-1, strong: nano-2}]\nstrategies: [naive]\n"
        "exclude: [{task: safety-mini}]\n"
    )
    with pytest.raises(SpecError, match="every cell is excluded"):
        load_checked_grid(path)


def test_only_what_is_valid_there_is_suggested(tmp_path: Path) -> None:
    """Settings of a model are for one that the grid uses: its own folder is suggested, not a shipped name alike."""
    (tmp_path / "gpt2-l").mkdir()
    path = tmp_path / "grid.yaml"
    path.write_text(
        "name: g\ntasks: [safety-mini]\npairs: [{weak: nano-1, strong: ./gpt2-l}]\nstrategies: [naive]\n"
        "training: {models: {gpt2-l: {epochs: 2}}}\n"
    )
    with pytest.raises(SpecFaults) as caught:
        load_checked_grid(path)
    assert [fault.suggestion for fault in caught.value.faults] == ["./gpt2-l"]


PATHS = ("~nosuchuser/x", "/".join(["deep"] * 1500), "n" * 5000, "a\0b", "half \ud800", "loop")


@pytest.mark.parametrize("odd", PATHS)
def test_paths_that_no_file_can_have(odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file or a variable gives for a path is told in words where no file can be called so."""
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    written = json.dumps(f"./{odd}" if odd != PATHS[0] else odd)
    Path("grid.yaml").write_text(
        f"name: g\ntasks: [{written}]\npairs: [{{weak: {written}, strong: nano-1}}]\nstrategies: [naive]\n"
        f"generation: {{scorer: {written}, reference: {written}}}\nimage: {written}\n"
    )
    with pytest.raises(SpecFaults):
        load_checked_grid("grid.yaml")
    with pytest.raises(SpecError):
        load_task(f"{odd}/x.yaml")
    if odd.isprintable() and odd != "loop":
        monkeypatch.setenv("WTSBENCH_CACHE", odd)
        with pytest.raises(SpecError):
            cache_folder()


def test_what_is_full_is_named(tmp_path: Path) -> None:
    """A failed write has no file's name of its own: whoever writes names it, and a name that is there stays."""
    for given, told in ((None, str(tmp_path)), ("other", "other")):
        with pytest.raises(OSError, match=told), naming(tmp_path):
            raise OSError(errno.ENOSPC, "No space left on device", given)


LADDER = "name: g\ntasks: [safety-mini]\npairs:\n  ladder: {}\nstrategies: [naive]\n"


def test_all_pairs_of_a_ladder(tmp_path: Path) -> None:
    """A family, or a list from weak to strong, stands for each pair of its models; sizes decide those of a family."""
    path = tmp_path / "grid.yaml"
    for given in ("nano", "[nano-1, nano-2, nano-3]"):
        path.write_text(LADDER.format(given))
        grid, _ = load_checked_grid(path)
        expected = ["nano-1 -> nano-2", "nano-1 -> nano-3", "nano-2 -> nano-3"]
        assert [str(pair) for pair in grid.pairs] == expected
    path.write_text(LADDER.format("[nano-3, nano-1]"))  # whoever lists models may want that
    assert [str(pair) for pair in load_checked_grid(path)[0].pairs] == ["nano-3 -> nano-1"]


def test_models_of_a_ladder_are_names_of_the_grid(tmp_path: Path) -> None:
    """Exclusions and settings of models may name them, and are checked against them."""
    path = tmp_path / "grid.yaml"
    settings = "training: {models: {nano-2: {epochs: 1}}}\nexclude: [{weak: nano-1, strong: nano-3}]\n"
    for given in ("nano", "[nano-1, nano-2, nano-3]"):
        path.write_text(LADDER.format(given) + settings)
        load_checked_grid(path)
        path.write_text(LADDER.format(given) + settings.replace("strong: nano-3", "strong: nano-1"))
        with pytest.raises(SpecFaults) as caught:
            load_checked_grid(path)
        assert [(fault.line, fault.path) for fault in caught.value.faults] == [(7, "exclude[0].strong")]


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ("nanno", "pairs.ladder", "did you mean 'nano'"),
        ("[nano-1]", "pairs.ladder", "at least two models"),
        ("[nano-1, nano-1]", "pairs", "nano-1 is given twice"),
        ("[nano-1, nano-9]", "pairs.ladder[1]", "there is no model 'nano-9'"),
        ("[nano-1, ./people.yaml]", "pairs.ladder[1]", "source of labels"),
        ("3", "pairs.ladder", "a family or a list of models"),
        ("nano\n  up: true", "pairs", "a list of pairs, or {ladder: …}"),
    ],
)
def test_what_is_no_ladder(given: str, place: str, words: str, tmp_path: Path) -> None:
    """Each fault is told at its place."""
    (tmp_path / "people.yaml").write_text(MANIFESTS["people.yaml"])
    (tmp_path / "grid.yaml").write_text(LADDER.format(given))
    with pytest.raises(SpecFaults) as caught:
        load_checked_grid(tmp_path / "grid.yaml")
    (fault,) = caught.value.faults
    assert fault.path == place
    assert words in fault.message
