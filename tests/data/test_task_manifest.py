"""Task manifests: what they refuse, and that the shipped ones are whole."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.data.conftest import MakeManifest
from wtsbench.data import prepare
from wtsbench.errors import UserError
from wtsbench.settings import shipped
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest


def shipped_tasks(*kinds: str) -> list[TaskManifest]:
    """The shipped manifests with a source of one of these kinds."""
    paths = sorted((shipped("manifests") / "tasks").glob("*.yaml"))
    manifests = [TaskManifest.model_validate(yaml.safe_load(path.read_text())) for path in paths]
    return [manifest for manifest in manifests if manifest.source.kind in kinds]


@pytest.mark.parametrize("manifest", shipped_tasks("synthetic"), ids=lambda manifest: str(manifest.name))
def test_embedded_tasks_are_prepared_without_any_file(manifest: TaskManifest) -> None:
    """A synthetic task gives balanced splits with no network and no mirror, the same each time."""
    first = prepare(manifest, DataSettings())
    assert first.report["source"]["kind"] == "synthetic"
    assert first.report["largest_group"] < 0.05 * first.report["distinct_items"]
    assert prepare(manifest, DataSettings()).data_digest == first.data_digest


def test_an_unknown_generator_is_told(make_manifest: MakeManifest) -> None:
    """A generator that does not exist is a fault that names it."""
    manifest = make_manifest(source={"kind": "synthetic", "generator": "nothing", "items": 100})
    with pytest.raises(UserError, match="nothing"):
        prepare(manifest, DataSettings())


@pytest.mark.parametrize("path", sorted((shipped("manifests") / "tasks").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_manifests_are_valid(path: Path) -> None:
    """Every shipped task manifest loads, under its file's name."""
    manifest = TaskManifest.model_validate(yaml.safe_load(path.read_text()))
    assert manifest.name == path.stem


def test_a_question_survives_truncation() -> None:
    """The legal task's text begins with the question: a long clause is cut, the question never."""
    text = (shipped("manifests") / "tasks" / "legal.yaml").read_text()
    assert TaskManifest.model_validate(yaml.safe_load(text)).template.startswith("{question}")


@pytest.mark.parametrize("manifest", shipped_tasks("hub", "file", "synthetic"), ids=lambda manifest: str(manifest.name))
def test_shipped_tasks_say_how_an_untrained_model_is_asked(manifest: TaskManifest) -> None:
    """Classification has an answer for each class and four other wordings; generation draws 25 samples a prompt."""
    if manifest.form == "generation":
        assert manifest.generation is not None
        assert manifest.generation.samples == 25
        return
    assert manifest.zero_shot is not None
    assert all(answer.startswith(" ") for answer in manifest.zero_shot.answers.values())
    assert len(set(manifest.frames)) >= 4


def test_columns_are_found_in_template_and_groups(make_manifest: MakeManifest) -> None:
    """The columns used are the template's, the groups' and the label's."""
    manifest = make_manifest(template="{a} and {b}, {a}", group={"columns": ["c"]})
    assert manifest.text_columns == ("a", "b")
    assert manifest.columns == ("a", "b", "c", "label")
    assert manifest.similar_columns == (("c",), ("a", "b"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"template": "no column"}, "no column in it"),
        ({"template": "{text"}, "template"),
        ({"template": "{text[0]}"}, "a column's name and nothing else"),
        ({"template": "{text!r}"}, "a column's name and nothing else"),
        ({"template": "{0}"}, "a column's name and nothing else"),
        ({"template": "{label}"}, "also used as text or group"),
        ({"labels": ["no", "no"]}, "named twice"),
        ({"labels": ["no"]}, "at least 2"),
        ({"label": {"column": "label", "values": {"0": "no", "1": "yess"}}}, "yess is not one of the labels no, yes"),
        ({"label": {"column": "label", "values": {"0": "no"}}}, "no value stands for yes"),
        ({"splits": {"weak_train": 0.5, "transfer": 0.5, "validation": 0.1, "test": 0.2}}, "add up to 1.3"),
        ({"source": {"kind": "path", "path": "data.txt"}}, "does not tell its format"),
        ({"source": {"kind": "ftp", "path": "data.csv"}}, "ftp"),
        ({"source": {"kind": "file", "url": "data.csv", "sha256": "0" * 64, "format": "csv"}}, "url"),
        ({"source": {"kind": "file", "url": "https://a/b.csv", "sha256": "00", "format": "csv"}}, "sha256"),
        ({"mirror": {"path": "data.csv", "format": "csv"}}, "needs none"),
        ({"metric": "accurracy"}, "metric"),
        ({"sumary": "typo"}, "sumary"),
        (
            {"zero_shot": {"prompt": "ask", "answers": {"no": " no", "yes": " yes"}}},
            "zero_shot.prompt: {text} must stand",
        ),
        ({"zero_shot": {"prompt": "{text} {text}", "answers": {"no": " no", "yes": " yes"}}}, "once and alone"),
        ({"zero_shot": {"prompt": "{text} {other}", "answers": {"no": " no", "yes": " yes"}}}, "once and alone"),
        ({"zero_shot": {"prompt": "{text}", "answers": {"no": " no", "ja": " yes"}}}, "give one for each of no, yes"),
        ({"zero_shot": {"prompt": "{text}", "answers": {"no": " x", "yes": " x"}}}, "have the same answer"),
        ({"frames": ["Read this."]}, "frames: {text} must stand"),
        ({"frames": ["{text"]}, "frames"),
        ({"source": {"kind": "path", "path": "a.jsonl", "columns": ["a"]}}, "names its columns itself"),
        ({"source": {"kind": "path", "path": "a.csv", "columns": ["a", "a"]}}, "a name occurs twice"),
        ({"source": {"kind": "code", "entry_point": "x"}, "mirror": {"path": "a", "format": "csv"}}, "needs none"),
    ],
)
def test_faults(make_manifest: MakeManifest, changes: dict[str, Any], said: str) -> None:
    """Each impossible manifest is refused with a message that names what is wrong."""
    with pytest.raises(ValidationError) as caught:
        make_manifest(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside.csv", "a/../../outside.csv"])
def test_a_mirror_path_stays_below_the_mirror(make_manifest: MakeManifest, path: str) -> None:
    """A mirror path cannot lead out of the mirror folder."""
    source = {"kind": "file", "url": "https://a/b.csv", "sha256": "0" * 64, "format": "csv"}
    with pytest.raises(ValidationError, match="below the mirror"):
        make_manifest(source=source, mirror={"path": path, "format": "csv"})
