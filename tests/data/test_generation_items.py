"""Generative tasks: prompts, the continuations that may be learned from, and what is kept as it is."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.conftest import MakeManifest, sentences
from wtsbench.data import Dataset, prepare
from wtsbench.data.account import account_of
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest

GENERATIVE: dict[str, Any] = {
    "form": "generation",
    "labels": [],
    "label": None,
    "metric": "toxicity",
    "template": "{prompt.text}",
    "continuation": {"column": "continuation.text"},
    "demonstrations": {"column": "continuation.toxicity", "at_most": 0.5},
    "generation": {"samples": 2, "scorer": "any"},
    "source": {"kind": "path", "path": "data.jsonl"},
}


def records(count: int) -> list[dict[str, Any]]:
    """Nested rows; every fourth continuation is toxic, every ninth has no score."""
    found = []
    for place, text in enumerate(sentences(count, seed=11)):
        score = None if place % 9 == 0 else 0.9 if place % 4 == 0 else 0.5 if place % 4 == 1 else 0.1
        found.append(
            {
                "prompt": {"text": f"{text} and ", "toxicity": 0.2},
                "continuation": {"text": f"  so on {place} ", "toxicity": score},
            }
        )
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def manifest(make_manifest: MakeManifest) -> TaskManifest:
    """A generative task over nested rows of `data.jsonl`."""
    return make_manifest(**GENERATIVE)


def by_prompt(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Items by their text."""
    return {item["text"]: item for item in dataset.items.to_pylist()}


def test_only_what_may_be_learned_from_is_a_target(tmp_path: Path, manifest: TaskManifest) -> None:
    """Toxic and unscored continuations are no targets: out of the taught splits, prompts without one in the others."""
    rows = records(300)
    write(tmp_path / "data.jsonl", rows)
    dataset = prepare(manifest, DataSettings(), folder=tmp_path)
    allowed = {
        row["prompt"]["text"]: row["continuation"]["text"]
        for row in rows
        if row["continuation"]["toxicity"] is not None and row["continuation"]["toxicity"] <= 0.5
    }
    items = by_prompt(dataset)
    assert all(item["label"] is None for item in items.values())
    assert all(item["target"] == allowed.get(text) for text, item in items.items())
    taught = [text for text, item in items.items() if item["split"] in ("weak_train", "transfer")]
    others = [text for text, item in items.items() if item["split"] in ("validation", "test")]
    assert set(taught) <= set(allowed)
    assert 0 < sum(text not in allowed for text in others) < len(others)
    dropped = sum(dataset.report["splits"][split]["dropped_without_target"] for split in ("weak_train", "transfer"))
    assert dropped == 300 - len(items) > 0
    assert dataset.report["rows_without_target"] == 300 - len(allowed)
    assert (dataset.form, dataset.labels) == ("generation", ())
    assert dataset.settings is not None
    assert dataset.settings["samples"] == 2


@pytest.mark.parametrize(("most", "warned"), [(0.5, set()), (0.2, {"weak_train", "transfer"})])
def test_few_targets_are_told(tmp_path: Path, make_manifest: MakeManifest, most: float, warned: set[str]) -> None:
    """What `demonstrations` leaves out is no loss; where it is more than half of a taught split, that is told."""
    write(tmp_path / "data.jsonl", records(300))
    demonstrations = {"column": "continuation.toxicity", "at_most": most}
    manifest = make_manifest(**{**GENERATIVE, "demonstrations": demonstrations})
    made = account_of(prepare(manifest, DataSettings(), folder=tmp_path))
    told = [text for text in made.warnings if "without a target" in text]
    assert not any("lost" in text for text in made.warnings)
    taught = ("weak_train", "transfer")
    assert {split for split in taught if any(f"items of {split}" in text for text in told)} == warned
    if warned:
        (split,) = [split for split in made.splits if split.split == "transfer"]
        (left,) = [count.number for count in split.left_out if count.name == "without a target"]
        assert f"{left} of {left + split.items} items of transfer are without a target" in " ".join(told)


def test_white_space_stays(tmp_path: Path, manifest: TaskManifest) -> None:
    """Neither a prompt nor its continuation loses a blank: they decide how a text is cut into tokens."""
    write(tmp_path / "data.jsonl", records(60))
    items = prepare(manifest, DataSettings(), folder=tmp_path).items.to_pylist()
    assert all(item["text"].endswith(" and ") for item in items)
    assert all(item["target"].startswith("  so on ") for item in items if item["target"] is not None)


def test_a_prompt_occurs_once_with_a_continuation_to_learn_from(tmp_path: Path, manifest: TaskManifest) -> None:
    """Of a prompt's several continuations one that may be learned from is taken; the others are counted, none clash."""
    rows = records(80)
    again = [{**row, "continuation": {"text": " kindly", "toxicity": 0.0}} for row in rows if not place_is_fine(row)]
    write(tmp_path / "data.jsonl", rows + again)
    dataset = prepare(manifest, DataSettings(), folder=tmp_path)
    assert dataset.report["contradictory_texts"] == 0
    assert dataset.report["duplicate_rows_dropped"] == len(again) > 10
    assert all(item["target"] is not None for item in dataset.items.to_pylist())


def place_is_fine(row: dict[str, Any]) -> bool:
    """Whether a row's continuation may be learned from."""
    score = row["continuation"]["toxicity"]
    return score is not None and score <= 0.5


def test_settings_are_part_of_the_digest_and_the_cache(
    tmp_path: Path, manifest: TaskManifest, make_manifest: MakeManifest
) -> None:
    """Other sampling is another dataset; the same again comes whole out of the cache."""
    write(tmp_path / "data.jsonl", records(60))
    first = prepare(manifest, DataSettings(), folder=tmp_path)
    again = prepare(manifest, DataSettings(), folder=tmp_path)
    assert again == first
    assert again.settings == first.settings
    other = make_manifest(**{**GENERATIVE, "generation": {"samples": 3, "scorer": "any"}})
    assert prepare(other, DataSettings(), folder=tmp_path).data_digest != first.data_digest


def test_parquet_has_the_same_structures(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Dotted names lead into Parquet's structures as into JSON's; a missing field is told with those there are."""
    rows = records(60)
    write(tmp_path / "data.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    digests = {
        prepare(
            make_manifest(**{**GENERATIVE, "source": {"kind": "path", "path": f"data.{form}"}}),
            DataSettings(),
            folder=tmp_path,
        ).data_digest
        for form in ("jsonl", "parquet")
    }
    assert len(digests) == 1
    wrong = make_manifest(**{**GENERATIVE, "template": "{prompt.txt}"})
    with pytest.raises(DataError, match=r"no column 'prompt.txt' \(nearest: 'prompt.text'\)"):
        prepare(wrong, DataSettings(), folder=tmp_path)


def test_a_column_with_a_dot_in_its_name_is_itself(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """In a CSV file, whose columns have no parts, a dotted name is a name."""
    lines = ["prompt.text,more"] + [f"{text},yes" for text in sentences(60, 4)]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    manifest = make_manifest(
        template="{prompt.text}", label={"column": "more", "values": {"yes": "yes", "never": "no"}}
    )
    with pytest.raises(DataError, match="none of them no"):  # read well: only the other class is missing
        prepare(manifest, DataSettings(), folder=tmp_path)


def test_a_score_that_is_no_number_is_told(tmp_path: Path, manifest: TaskManifest) -> None:
    """A demonstration column with a word in it is a fault with its row."""
    rows = [
        {**row, "continuation": {"text": "x", "toxicity": str(row["continuation"]["toxicity"] or "")}}
        for row in records(20)
    ]
    rows[3]["continuation"]["toxicity"] = "very"
    write(tmp_path / "data.jsonl", rows)
    with pytest.raises(DataError, match=r"row 4: continuation\.toxicity is 'very', not a number"):
        prepare(manifest, DataSettings(), folder=tmp_path)


def test_nothing_to_learn_from_is_told(tmp_path: Path, manifest: TaskManifest) -> None:
    """Where no continuation may be learned from, the split that is empty is named."""
    rows = [{**row, "continuation": {"text": " no", "toxicity": 0.7}} for row in records(60)]
    write(tmp_path / "data.jsonl", rows)
    with pytest.raises(DataError, match="split weak_train has 0"):
        prepare(manifest, DataSettings(), folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "accuracy"}, "metric: accuracy is none of the form generation; there are toxicity"),
        ({"labels": ["a", "b"]}, "labels: not for a task of the form generation"),
        ({"label": {"column": "x"}}, "label: not for a task of the form generation"),
        ({"generation": None}, "generation: missing"),
        ({"continuation": None}, "continuation: missing"),
        ({"demonstrations": {"column": "x"}}, "give at_most or at_least"),
        ({"demonstrations": {"column": "x", "at_most": 0.1, "at_least": 0.2}}, "no row could be a demonstration"),
        ({"demonstrations": {"column": "prompt.text", "at_most": 0.1}}, "also used as text or group"),
        ({"generation": {"scorer": "any", "samples": 0}}, "samples"),
        ({"generation": {"scorer": "any", "top_p": 0}}, "top_p"),
        ({"generation": {"scorer": "any", "temperature": 0}}, "temperature"),
        ({"zero_shot": {"answers": {"a": " a", "b": " b"}}}, "zero_shot: not for a task of the form generation"),
    ],
)
def test_faults_of_generative_manifests(make_manifest: MakeManifest, changes: dict[str, Any], said: str) -> None:
    """Each impossible generative manifest is refused with a message that names what is wrong."""
    with pytest.raises(ValueError, match=said):
        make_manifest(**{**GENERATIVE, **changes})
