"""The embedded tasks: the same everywhere, and not solved by counting words."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize

from wtsbench.data.synthetic import GENERATORS, documents, generate, legal, safety, talk, text_digest, toxicity
from wtsbench.errors import SpecError

TEXT = {"safety-mini": "{text}", "legal-mini": "{question} {clause}"}
POSITIVE = {"safety-mini": "safe", "legal-mini": "relevant"}


def _labelled(name: str, items: int) -> tuple[list[str], np.ndarray[Any, Any]]:
    rows = generate(name, items=items, seed=0)
    return [TEXT[name].format(**row) for row in rows], np.array([row["label"] == POSITIVE[name] for row in rows])


def _bag(texts: list[str], longest: int) -> list[Counter[str]]:
    bags = []
    for text in texts:
        words = re.findall(r"\w+|[^\w\s]", text.lower())
        bags.append(
            Counter(" ".join(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1))
        )
    return bags


def _bag_of_words_accuracy(
    texts: list[str], labels: np.ndarray[Any, Any], train: int, longest: int, strength: float
) -> float:
    """Test accuracy of L2-regularised logistic regression on TF-IDF of word n-grams up to `longest`."""
    bags = _bag(texts, longest)
    seen = Counter(gram for bag in bags[:train] for gram in bag)
    column = {gram: index for index, gram in enumerate(sorted(seen))}
    matrix = sparse.lil_matrix((len(bags), len(column)))
    for row, bag in enumerate(bags):
        weighted = {
            gram: count * (1 + math.log((1 + train) / (1 + seen[gram])))
            for gram, count in bag.items()
            if gram in column
        }
        norm = math.sqrt(sum(value**2 for value in weighted.values())) or 1.0
        for gram, value in weighted.items():
            matrix[row, column[gram]] = value / norm
    features = matrix.tocsr()
    signs = np.where(labels, 1.0, -1.0)
    known, target = features[:train], signs[:train]

    def loss(weights: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        margins = target * (known @ weights[:-1] + weights[-1])
        pull = -strength * target / (1 + np.exp(margins))
        value = strength * np.logaddexp(0, -margins).sum() + weights[:-1] @ weights[:-1] / 2
        return float(value), np.append(weights[:-1] + known.T @ pull, pull.sum())

    weights = minimize(loss, np.zeros(len(column) + 1), jac=True, method="L-BFGS-B").x
    scores = features[train:] @ weights[:-1] + weights[-1]
    return float(np.mean((scores > 0) == labels[train:]))


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("longest", [1, 2])
@pytest.mark.parametrize("strength", [0.3, 1.0, 10.0])
def test_word_counts_do_not_solve_a_task(name: str, longest: int, strength: float) -> None:
    """Logistic regression on words, or words and word pairs, stays below .76 with as many labels as a ceiling gets."""
    texts, labels = _labelled(name, 2900)
    assert 0.5 < _bag_of_words_accuracy(texts, labels, 1400, longest, strength) < 0.76


def test_a_safety_label_follows_from_the_composition_of_its_request() -> None:
    """Label = furthers or prevents, crossed with whether another's thing is handled, read from the text alone."""
    verbs = {
        form: kind
        for k in safety.KINDS
        for kind, pairs in (("handle", k.handle), ("care", k.care))
        for p in pairs
        for form in p
    }
    turns = [
        (re.compile(_pattern(turn)), effect)
        for effect, turns in (("do", safety.ENABLE), ("not", safety.PREVENT))
        for turn in turns
    ]
    read = 0
    for row in generate("safety-mini", items=2000, seed=1):
        found = [(match, effect) for pattern, effect in turns if (match := pattern.search(row["text"]))]
        if not found:
            continue  # a plain everyday or plainly spiteful request
        match, effect = max(found, key=lambda pair: len(pair[0][0]))
        verb = next(v for v in sorted(verbs, key=len, reverse=True) if re.match(rf"{v} (my|her|his) ", match["act"]))
        wrong = verbs[verb] == "handle" and not re.match(rf"{verb} (her|his) own ", match["act"])
        assert (row["label"] == "unsafe") == (wrong == (effect == "do")), row
        read += 1
    assert read > 1200


def _pattern(turn: str) -> str:
    return r"\b" + re.sub(r"\\\{(base|ing)\\\}", "(?P<act>.*)", re.escape(turn).replace(r"\{person\}", r"my \w+"))


def test_a_legal_label_says_whether_practice_and_data_match() -> None:
    """A pair is relevant exactly when the question's practice and data are those of a statement in its clause."""
    for row in generate("legal-mini", items=2000, seed=1):
        asked = _topics(row["question"], "my", 0)
        assert len(asked) == 1, row
        assert (row["label"] == "relevant") == bool(asked & _topics(row["clause"], "your", 1)), row
        assert row["group"] == row["question"]


def _topics(text: str, whose: str, side: int) -> set[tuple[str, str]]:
    """The (practice, data) pairs whose wording occurs in the text; an address book is not also an address."""
    topics = set()
    names = [(name, data) for data, names in legal.DATA.items() for name in names]
    for name, data in sorted(names, key=lambda pair: -len(pair[0])):
        marked = re.sub(rf"\b{whose} {name}\b", "<it>", text, flags=re.IGNORECASE)
        for practice, wordings in legal.PRACTICES.items():
            if any(wording.format("<it>").lower() in marked.lower() for wording in wordings[side]):
                topics.add((practice, data))
        text = marked.replace("<it>", "")
    return topics


@pytest.mark.parametrize("name", TEXT)
def test_rows_are_different_balanced_and_short(name: str) -> None:
    """No row occurs twice, neither class passes 55%, and no text is longer than forty words."""
    texts, labels = _labelled(name, 3000)
    assert len(set(texts)) == 3000
    assert 0.45 < labels.mean() < 0.55
    assert max(len(text.split()) for text in texts) <= 40


def test_rows_and_pages_are_the_same_in_every_process() -> None:
    """A fresh interpreter with another hash seed generates what this one does, and what the release did."""
    script = (
        "from itertools import islice\n"
        "from wtsbench.data.synthetic import GENERATORS, documents, generate, text_digest\n"
        "for name in GENERATORS: print(text_digest(str(row) for row in generate(name, items=300, seed=7)))\n"
        "print(text_digest(islice(documents(7), 300)))"
    )
    done = subprocess.run([sys.executable, "-c", script], env={"PYTHONHASHSEED": "5", "PYTHONPATH": ":".join(sys.path)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    here = [text_digest(str(row) for row in generate(name, items=300, seed=7)) for name in GENERATORS]
    assert done.stdout.split() == [*here, text_digest(islice(documents(7), 300))]
    assert [digest[:16] for digest in here] == RELEASED


RELEASED = ["5b30d87ac572a7fa", "7cf2845e55aff15a", "ad12a47e19003290", "fce76fa211a0f403"]
"""Start of the digests of 300 rows of seed 7. A generator that changes gets a new name."""


def test_a_talk_label_is_that_of_the_request_unless_something_turns_it_round() -> None:
    """Spite is unsafe but for an excuse, the everyday safe but for a twist; half of the requests come late."""
    rows, late, turned = generate("talk-mini", items=2000, seed=1), 0, 0
    for row in rows:
        spiteful = any(f" {verb} " in row["text"] for verb in safety.SPITE[0])
        assert spiteful != any(f" {verb} " in row["text"] for verb in safety.EVERYDAY[0]), row
        turn = row["text"].endswith(talk.EXCUSES if spiteful else talk.TWISTS)
        assert not row["text"].endswith(talk.TWISTS if spiteful else talk.EXCUSES), row
        assert (row["label"] == "unsafe") == (spiteful != turn), row
        before = len(re.findall(r"My \w+ [^.]+\. ", row["text"]))
        assert before == 1 or not turn, row
        late, turned = late + (before > 1), turned + turn
    assert 0.47 < late / len(rows) < 0.53
    assert 0.10 < turned / len(rows) < 0.14


def test_toxicity_is_aimed_harsh_words() -> None:
    """A continuation is toxic exactly when a clause with `you` has a harsh word; its number says how much, by hand."""
    for row in generate("toxicity-mini", items=2000, seed=1):
        aimed = [clause for clause in row["continuation"].strip(" .").split(", ") if re.search(r"\byour?\b", clause)]
        words = [word for clause in aimed for word in clause.split() if word in toxicity.WEIGHTS]
        fine = math.prod(1 - toxicity.WEIGHTS[word] for word in words)
        assert float(row["toxicity"]) == pytest.approx(1 - fine, abs=0.005 + 1e-9), row
        assert row["continuation"].startswith(" ")
        assert row["prompt"].endswith(":")


def test_rude_and_polite_are_balanced_and_words_alone_do_not_tell() -> None:
    """Half of the rows are toxic, most of these by .5 or more; harsh words are as usual in polite talk of things."""
    rows = generate("toxicity-mini", items=4000, seed=0)
    toxic = np.array([float(row["toxicity"]) for row in rows])
    assert 0.45 < (toxic > 0).mean() < 0.55
    assert 0.8 < (toxic >= 0.5).sum() / (toxic > 0).sum() < 1
    harsh = np.array([any(word in toxicity.WEIGHTS for word in re.findall(r"\w+", r["continuation"])) for r in rows])
    assert harsh[toxic > 0].all()
    assert 0.4 < harsh[toxic == 0].mean() < 0.6
    assert max(len((row["prompt"] + row["continuation"]).split()) for row in rows) <= 30


def test_another_seed_gives_other_rows() -> None:
    """Two seeds share few rows."""
    one, other = (
        {TEXT["safety-mini"].format(**row) for row in generate("safety-mini", items=500, seed=s)} for s in (0, 1)
    )
    assert len(one & other) < 50


def test_an_impossible_request_says_what_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown generator is answered with the known ones; more rows than there are, with an error too."""
    with pytest.raises(SpecError, match="legal-mini"):
        generate("safety-maxi", items=10, seed=0)
    monkeypatch.setitem(GENERATORS, "coin", lambda draw: {"text": draw.pick(("heads", "tails"))})
    with pytest.raises(SpecError, match="different rows"):
        generate("coin", items=3, seed=0)
