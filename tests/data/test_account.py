"""What became of a task's rows, as people are told: counts by cause, class shares, what a test set can show."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.conftest import MakeManifest, sentences, write_csv
from wtsbench.data import prepare
from wtsbench.data.account import Account, account, account_of, cut_off, smallest_difference, stored_account
from wtsbench.spec.grid import DataSettings


def prepared(folder: Path, make_manifest: MakeManifest, positive: int, settings: DataSettings) -> Account:
    """The account of 2,000 rows of which so many are `yes`, and of six rows more that are no items of their own."""
    texts = [*sentences(2000, 9)]
    rows = [{"text": text, "label": "yes" if n < positive else "no"} for n, text in enumerate(texts)]
    rows += [{"text": texts[0].upper(), "label": "yes"}, {"text": " ", "label": "no"}, {"text": "", "label": "no"}]
    rows += [{"text": texts[-1], "label": "yes"}]
    write_csv(folder / "data.csv", rows)
    return account_of(prepare(make_manifest(metric="balanced_accuracy"), settings, folder=folder))


def test_the_way_from_rows_to_items(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Every row is accounted for by its cause, every item of a split as taken, balanced away or capped."""
    made = prepared(tmp_path, make_manifest, 180, DataSettings(balance="train", test=100))
    assert {count.name: count.number for count in made.own.left_out} == {
        "empty": 2, "duplicate": 1, "contradictory": 2,
    }  # fmt: skip
    assert made.own.rows == 2004
    assert made.own.items == 1999
    assert made.line.startswith("little: 2,004 rows -> ")
    assert "2 empty, 1 duplicate and 2 contradictory left out: 1,999 items" in made.lines[0]
    assert made.lines[0].endswith("balance train")
    left = sum(split.items + sum(count.number for count in split.left_out) for split in made.splits)
    assert left == 1999
    test = made.splits[-1]
    assert (test.split, test.items, test.shares) == ("test", 100, "no 93%, yes 7.0% (7)")
    assert "capped" in test.gone
    assert {count.name for split in made.splits[:3] for count in split.left_out} == {"balanced away"}


def test_most_rows_lost_is_told_with_its_cause(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Balance that takes nine of ten items is warned of by name and number; natural shares are not."""
    made = prepared(tmp_path, make_manifest, 100, DataSettings(balance="all"))
    (lost,) = [text for text in made.warnings if "most of its rows are lost" in text]
    kept = sum(split.items for split in made.splits)
    assert f"lost, {2004 - kept:,} of 2,004; {1999 - kept:,} of these are balanced away" in lost
    assert "balance: none" in lost
    natural = prepared(tmp_path, make_manifest, 100, DataSettings())
    assert not any("lost" in text for text in natural.warnings)


def test_a_test_set_that_shows_nothing_is_told(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A test set of few items is warned of with what it could show, and so are few items of one class."""
    made = prepared(tmp_path, make_manifest, 40, DataSettings())
    test = made.splits[-1]
    assert test.shows is not None
    positive = {count.name: count.number for count in test.classes}["yes"]
    assert positive < 10
    assert any(f"below about {test.shows[0]:.2f}" in text for text in made.warnings)
    assert any(f"only {positive} of yes" in text for text in made.warnings)


def test_what_a_test_set_can_show_is_found_four_times_in_five() -> None:
    """Two models that disagree on a fifth of 500 items, apart by what is said to be shown: found in 80% of draws."""
    size, chance = 500, np.random.default_rng(0)
    difference = smallest_difference("accuracy", size, [size // 2, size // 2])
    assert difference is not None
    better, worse = (0.2 + difference) / 2, (0.2 - difference) / 2
    drawn = chance.multinomial(size, [better, worse, 0.8], size=4000) / size
    apart, disagree = drawn[:, 0] - drawn[:, 1], drawn[:, 0] + drawn[:, 1]
    error = np.sqrt((disagree - apart**2) / size)
    assert (np.abs(apart) > 1.96 * error).mean() == pytest.approx(0.8, abs=0.04)
    rare = smallest_difference("balanced_accuracy", size, [490, 10])
    assert rare is not None
    assert rare > 3 * difference


def test_accuracy_that_a_constant_answer_has_is_told() -> None:
    """Where nine of ten test items are of one class, a task that is ranked by accuracy is warned of."""
    split = {"items": 1000, "groups": 1000, "classes": {"no": 910, "yes": 90}, "items_available": 1000}
    made = account("rare", "accuracy", ["no", "yes"], {"splits": {"test": split}})
    assert any("who always answers no has an accuracy of 0.910" in text for text in made.warnings)
    assert not account("rare", "f1", ["no", "yes"], {"splits": {"test": split}}).warnings


@pytest.mark.parametrize("report", ["", "[]", "{}", '{"splits": [1]}', '{"splits": {"test": 3}, "rows": "x"}'])
def test_foreign_reports_are_no_fault(report: str) -> None:
    """What another program stored as a report is told as far as it tells anything, and never raises."""
    row = {"task": "t\x1b", "metric": "accuracy", "labels": ["a", "b"], "report": report}
    made = stored_account(row)
    assert made is None or made.task == "t\\u001b"


def test_texts_beyond_the_models_length_are_told(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Items with more words than a model has tokens are counted; they stay items."""
    write_csv(
        tmp_path / "data.csv", [{"text": t, "label": ("no", "yes")[n % 2]} for n, t in enumerate(sentences(90, 1))]
    )
    dataset = prepare(make_manifest(), DataSettings(), folder=tmp_path)
    assert cut_off(dataset, 12) is None
    assert "90 of 90 items have more words than training.max_length (11)" in (cut_off(dataset, 11) or "")
