"""What classifiers score that need no language model."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from wtsbench.contract.schemas import ITEMS
from wtsbench.scoring.trivial import trivial, with_trivial


def _items(rows: list[tuple[str, str, int]]) -> pa.Table:
    """Items of (split, text, label)."""
    known = {"data_digest": "d", "target": None}
    return pa.Table.from_pylist(
        [
            {**known, "item_id": str(number), "group_id": str(number), "split": split, "text": text, "label": label}
            for number, (split, text, label) in enumerate(rows)
        ],
        schema=ITEMS,
    )


LESSONS = [("weak_train", "red cat", 0), ("weak_train", "red dog", 0), ("weak_train", "blue cow", 1)]
TRANSFER = [("transfer", "red cat", 1), ("transfer", "red hen", 1), ("transfer", "blue cat", 0), ("transfer", "ox", 0)]
TESTS = [("test", "red", 0), ("test", "blue", 1), ("test", "blue blue", 1), ("ood", "red", 1), ("ood", "red red", 0)]


def test_each_is_scored_on_each_test_set() -> None:
    """Majority follows weak_train; TF-IDF follows the words of the lessons it had, which contradict each other here."""
    found = trivial(_items(LESSONS + TRANSFER + TESTS), 2)
    assert found["test"]["majority"] == {"accuracy": 0.333333, "balanced_accuracy": 0.5, "f1": 0.0}
    assert found["test"]["tfidf on transfer"]["accuracy"] == 0.0
    assert found["ood"]["tfidf on transfer"]["accuracy"] == 0.5
    assert found["ood"]["majority"] == {"accuracy": 0.5, "balanced_accuracy": 0.5, "f1": 0.0}


def test_words_that_tell_are_learned() -> None:
    """With lessons whose every word tells, TF-IDF names all test items; the majority names half."""
    chance = np.random.default_rng(0)
    words = (["oak", "elm", "fir", "yam"], ["pike", "carp", "trout", "eel"])
    rows = [
        (split, " ".join(chance.choice(words[label], 3)), label)
        for split, count in (("weak_train", 20), ("transfer", 40), ("test", 30))
        for label in (0, 1)
        for _ in range(count)
    ]
    scores = trivial(_items(rows), 2)["test"]
    assert scores["tfidf on weak_train"] == scores["tfidf on transfer"] == dict.fromkeys(scores["majority"], 1.0)
    assert scores["majority"]["accuracy"] == 0.5


def test_lessons_of_one_class_or_without_a_word_teach_the_commonest_class() -> None:
    """Nothing is there to learn, and nothing fails."""
    one = [("weak_train", "a b", 1), ("weak_train", "c", 1), ("transfer", "?!", 0), ("transfer", "...", 1)]
    found = trivial(_items([*one, ("transfer", "!!", 1), ("test", "a", 1), ("test", "b", 0)]), 2)
    assert {name: scores["f1"] for name, scores in found["test"].items()} == dict.fromkeys(found["test"], 0.666667)


def test_tasks_without_classes_have_none() -> None:
    """A generative data set's report stays as it is."""
    assert with_trivial({"rows": 3}, _items([]), 0) == {"rows": 3}
