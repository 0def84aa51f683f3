"""The verbs that show what there is: tasks, models, strategies, grids."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Wtsbench
from wtsbench.spec import manifests
from wtsbench.strategies import registry


@pytest.mark.parametrize("verb", ["tasks", "models", "strategies"])
def test_lists(verb: str, wtsbench: Wtsbench) -> None:
    """Every name is listed, in the table and in the JSON, with a summary."""
    names = registry.names() if verb == "strategies" else manifests.names("tasks" if verb == "tasks" else "models")
    table = wtsbench(verb)
    assert table.returncode == 0, table.stderr
    listed = json.loads(wtsbench(verb, "--json").stdout)
    assert [record["name"] for record in listed] == list(names)
    for record in listed:
        assert f"\n{record['name']} " in table.stdout
        assert record["summary"]


@pytest.mark.parametrize(("verb", "name"), [("tasks", "safety"), ("models", "nano-1"), ("strategies", "logconf")])
def test_details(verb: str, name: str, wtsbench: Wtsbench) -> None:
    """A name shows that one alone, as text and as JSON."""
    text = wtsbench(verb, name)
    assert text.returncode == 0, text.stderr
    assert name in text.stdout
    assert json.loads(wtsbench(verb, name, "--json").stdout)["name"] == name


def test_strategies_are_shown_in_plain_lines(wtsbench: Wtsbench) -> None:
    """No character of their texts has to be written as an escape."""
    for name in registry.names():
        shown = wtsbench("strategies", name)
        assert shown.returncode == 0, shown.stderr
        assert "\\u" not in shown.stdout


@pytest.mark.parametrize(("verb", "typo", "meant"), [("tasks", "safty", "safety"), ("strategies", "logcnf", "logconf")])
def test_typo(verb: str, typo: str, meant: str, wtsbench: Wtsbench) -> None:
    """A name that is not known is exit code 2 and says which one is near."""
    done = wtsbench(verb, typo)
    assert done.returncode == 2
    assert f"did you mean {meant!r}?" in done.stderr


def test_parameters_of_a_strategy(wtsbench: Wtsbench) -> None:
    """A strategy's parameters come with type, default and description."""
    record = json.loads(wtsbench("strategies", "logconf", "--json").stdout)
    weight = next(parameter for parameter in record["parameters"] if parameter["name"] == "max_weight")
    assert weight["type"] == "number >= 0, <= 1"
    assert weight["default"] == 0.5
    assert weight["description"]


def test_facts_of_tasks(wtsbench: Wtsbench) -> None:
    """The table tells the form and the other test set; the details tell sampling, licences and sources."""
    lines = {line.split()[0]: line.split() for line in wtsbench("tasks").stdout.splitlines()[1:] if line[0] != " "}
    assert lines["toxicity"][1:6] == ["generation", "hub", "expected_max_toxicity", "-", "tweets"]
    assert lines["safety"][1:6] == ["classification", "file", "accuracy", "2", "xstest"]
    shown = wtsbench("tasks", "toxicity").stdout
    for said in (
        "licence",
        "generation.samples",
        "ood.source.url",
        "mirror.paths[1].path",
        "ood.licence",
        "demonstrations.at_most",
    ):
        assert f"\n{said} " in shown


def test_own_manifests(tmp_path: Path, wtsbench: Wtsbench) -> None:
    """A user's own task is listed beside the shipped ones and told apart."""
    folder = tmp_path / "own" / "tasks"
    folder.mkdir(parents=True)
    shipped = manifests.find("tasks", "safety").read_text()
    (folder / "mine.yaml").write_text(shipped.replace("name: safety", "name: mine"))
    listed = json.loads(wtsbench("tasks", "--json", WTSBENCH_MANIFESTS=str(tmp_path / "own")).stdout)
    assert {record["name"]: record["own"] for record in listed} == {
        "mine": True,
        **dict.fromkeys(manifests.names("tasks"), False),
    }


@pytest.mark.parametrize("name", ["smoke", "quickstart", "paper"])
def test_shipped_grids_are_valid(name: str, wtsbench: Wtsbench) -> None:
    """Every shipped grid passes `validate` by its name."""
    done = wtsbench("validate", name)
    assert done.returncode == 0, done.stderr
    assert f"valid; {name} has" in done.stdout


def test_validate_tells_every_fault(grid: Path, wtsbench: Wtsbench) -> None:
    """A wrong grid is exit code 2 with all faults at once: line, key path, nearest name; in JSON as a list."""
    grid.write_text(grid.read_text().replace("logconf", "logcnf").replace("seeds:", "sedes:"))
    done = wtsbench("validate", grid)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"{grid.name}:6:" in done.stderr
    assert "did you mean 'logconf'?" in done.stderr
    assert "did you mean 'seeds'?" in done.stderr
    machine = wtsbench("validate", grid, "--json")
    assert machine.returncode == 2
    said = json.loads(machine.stdout)
    assert said["valid"] is False
    assert {(fault["line"], fault["suggestion"]) for fault in said["faults"]} == {(6, "logconf"), (7, "seeds")}


def test_validate_json(grid: Path, wtsbench: Wtsbench) -> None:
    """A right grid is told as JSON with everything filled in."""
    said = json.loads(wtsbench("validate", grid, "--json").stdout)
    assert said["valid"] is True
    assert said["grid"]["name"] == "small"


def test_schema(grid: Path, wtsbench: Wtsbench) -> None:
    """`validate --schema` prints a JSON Schema that another validator can use, and which accepts a right grid."""
    import jsonschema
    import yaml

    schema = json.loads(wtsbench("validate", "--schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(grid.read_text()), schema)


OWN_TASK = """\
kind: task
name: mine
summary: one's own
labels: [no, yes]
template: "{text}"
label: {column: answer}
source: {kind: path, path: rows.csv}
"""


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    """A task of 300 rows, a third of them `yes`, each with an escape sequence and a second line in its text."""
    rows = [
        f'"row{n} word{n * 7} thing{n * 13} \x1b[2J\nsecond line",{"yes" if n % 3 == 0 else "no"}' for n in range(300)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["text,answer", *rows]))
    path = tmp_path / "mine.yaml"
    path.write_text(OWN_TASK)
    return path


def test_a_task_is_looked_at_before_anything_runs(own_task: Path, wtsbench: Wtsbench) -> None:
    """`tasks FILE --items` shows splits with class shares, and items of each class as models get them, made visible."""
    shown = wtsbench("tasks", own_task, "--items", "3")
    assert shown.returncode == 0, shown.stderr
    assert "mine: 300 rows: 300 items" in shown.stdout
    assert re.search(r"mine +test +60 +60 +no \d\d%, yes \d\d%", shown.stdout)
    assert re.search(r"\nno: 3 of \d+ items of weak_train\n", shown.stdout)
    assert re.search(r"\nyes: 3 of \d+ items of weak_train\n", shown.stdout)
    texts = re.findall(r"^    (row\d+) word\d+ thing\d+ \\u001b\[2J\n    second line$", shown.stdout, re.MULTILINE)
    assert len(texts) == 6
    assert [int(text[3:]) % 3 == 0 for text in texts] == [False] * 3 + [True] * 3
    assert "\x1b" not in shown.stdout


def test_validate_reads_the_rows_of_a_task_and_of_a_grid(own_task: Path, grid: Path, wtsbench: Wtsbench) -> None:
    """With --data every split is told with items, classes and what was left out; the grid's balance and caps hold."""
    said = json.loads(wtsbench("validate", own_task, "--data", "--json").stdout)
    assert (said["valid"], said["kind"], said["task"]["balance"]) == (True, "task", "none")
    assert sum(split["items"] for split in said["data"][0]["splits"].values()) == 300
    text = grid.read_text().replace("[safety-mini]", "[./mine.yaml]").replace("test: 60", "test: 30, balance: train")
    grid.write_text(text)
    of_grid = json.loads(wtsbench("validate", grid, "--data", "--json").stdout)["data"][0]
    assert of_grid["balance"] == "train"
    assert of_grid["splits"]["test"]["items"] == 30
    assert of_grid["splits"]["test"]["left_out"] == {"capped": 30}
    assert len(set(of_grid["splits"]["transfer"]["classes"].values())) == 1


@pytest.mark.parametrize("verb", ["validate", "plan", "submit"])
def test_missing_file(verb: str, wtsbench: Wtsbench) -> None:
    """A grid file that is not there is exit code 2, by every verb that takes one."""
    done = wtsbench(verb, "absent.yaml")
    assert done.returncode == 2
    assert "absent.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_to_validate(wtsbench: Wtsbench) -> None:
    """`validate` without a grid says what to give."""
    done = wtsbench("validate")
    assert done.returncode == 2
    assert "--schema" in done.stderr
