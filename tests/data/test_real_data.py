"""The real safety and legal data, where a mirror is at hand: counts and splits recomputed by code of its own."""

import csv
import json
import re
import unicodedata
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise

import pytest
import yaml

from wtsbench.data import Dataset, prepare
from wtsbench.settings import data_mirror, shipped
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest

MIRROR = data_mirror() or shipped("manifests").parents[1] / "shared" / "data"
FILES = {"safety": "safety_wts/safety.csv", "legal": "legal_privacy_policy_qa/test.jsonl"}


@cache
def even(text: str) -> str:
    """Case, width, punctuation and white space evened out, by regular expressions."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = re.sub("['\u2018\u2019\u02bc`]", "", folded)
    marks = "".join(sorted({mark for mark in folded if unicodedata.category(mark)[0] == "P"}))
    return re.sub(f"[{re.escape(marks)}\\s]+" if marks else r"\s+", " ", folded).strip()


def source_rows(task: str) -> list[tuple[str, str, str]]:
    """(evened text, label, evened question) of every row of the mirror's file, read by the standard library."""
    path = MIRROR / FILES[task]
    if task == "safety":
        with path.open(newline="", encoding="utf-8") as stream:
            return [(even(row["prompt"]), row["is_safe"], even(row["prompt"])) for row in csv.DictReader(stream)]
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [(f"{even(row['question'])} | {even(row['context'])}", row["answer"], even(row["question"])) for row in rows]


@pytest.fixture(params=["safety", "legal"])
def task(request: pytest.FixtureRequest) -> str:
    """The task's name."""
    name: str = request.param
    if not (MIRROR / FILES[name]).is_file():
        pytest.skip(f"no {FILES[name]} in {MIRROR}: set WTSBENCH_DATA_MIRROR")
    return name


@cache
def prepared(task: str) -> Dataset:
    """The task's data at the default settings."""
    text = (shipped("manifests") / "tasks" / f"{task}.yaml").read_text()
    return prepare(TaskManifest.model_validate(yaml.safe_load(text)), DataSettings(), mirror=MIRROR)


def test_duplicates_and_contradictions_are_all_found(task: str) -> None:
    """The report's counts are those of an independent count, and every distinct, uncontradicted text is one item."""
    labels: dict[str, set[str]] = defaultdict(set)
    times: Counter[str] = Counter()
    rows = source_rows(task)
    for text, label, _ in rows:
        if text:
            labels[text].add(label)
            times[text] += 1
    contradicted = {text for text, found in labels.items() if len(found) > 1}
    report = prepared(task).report
    assert report["rows"] == len(rows)
    assert report["empty_rows_dropped"] == len(rows) - times.total()
    assert report["contradictory_texts"] == len(contradicted)
    assert report["contradictory_rows_dropped"] == sum(times[text] for text in contradicted)
    assert report["distinct_items"] == len(labels) - len(contradicted)
    assert report["duplicate_rows_dropped"] == sum(times[text] - 1 for text in times if text not in contradicted)
    assert report["largest_group"] < 0.02 * report["distinct_items"]


def test_splits_are_disjoint(task: str) -> None:
    """No two texts (for legal: questions) of different splits are nearly the same.

    Every seventh text is compared with all others that have a pair of neighbouring words in common with it.
    """
    items = prepared(task).items.to_pylist()
    assert len({item["item_id"] for item in items}) == len(items)
    homes: dict[str, set[str]] = defaultdict(set)
    for item in items:
        homes[even(item["text"].split("\n")[0] if task == "legal" else item["text"])].add(item["split"])
    assert all(len(splits) == 1 for splits in homes.values())
    pairs = {text: frozenset(pairwise(["^", *text.split(), "$"])) for text in homes}
    holders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for text, own in pairs.items():
        for pair in own:
            holders[pair].append(text)
    crossing = 0
    for text in sorted(pairs)[::7]:
        common = Counter(other for pair in pairs[text] for other in holders[pair])
        for other, shared in common.items():
            if homes[other] != homes[text]:
                crossing += 1
                assert shared / (len(pairs[text]) + len(pairs[other]) - shared) < 0.6, (text, other)
    assert crossing > 1000


def test_splits_are_balanced_and_large(task: str) -> None:
    """No class has more than 55% of a split, and the test split has over a thousand items."""
    dataset = prepared(task)
    counts = Counter((item["split"], item["label"]) for item in dataset.items.to_pylist())
    for split in ("weak_train", "transfer", "validation", "test"):
        assert max(counts[split, 0], counts[split, 1]) <= 0.55 * (counts[split, 0] + counts[split, 1])
    assert counts["test", 0] + counts["test", 1] > 1000
