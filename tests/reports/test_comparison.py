"""`compare`: every pair with its numbers, by any metric."""

from __future__ import annotations

import json
import re

import pytest

from tests.reports.test_tables import MEANS, controlled, generative
from tests.reports.worlds import simple
from wtsbench.errors import SpecError
from wtsbench.reports import comparison
from wtsbench.reports.comparison import compare
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.rows import Comparisons
from wtsbench.reports.statistics import holm
from wtsbench.reports.wording import probability

QUICK = 1_000


def test_every_pair_once_with_the_ranks_verdicts() -> None:
    """By the metric that ranks, the comparisons are those that the leaderboard ranks by."""
    store = controlled(ood=False).memory()
    found = compare(store, resamples=QUICK)
    assert tuple(found) == leaderboard(store, resamples=QUICK).comparisons
    assert len({frozenset((each.first, each.second)) for each in found}) == len(found) == 5
    among = [each for each in found if each.family == "controls"]
    assert [each.p_holm for each in among] == pytest.approx(holm([each.p or 0 for each in among]), rel=1e-4)


def test_differences_are_those_of_the_scores() -> None:
    """A difference is that of the two rows' scores, for every metric; its sign and the direction make the verdict."""
    store = generative(MEANS).memory()
    rows = {row.strategy: row for row in leaderboard(store, resamples=QUICK).rows}
    for metric in ("toxicity", "expected_max_toxicity", "distinct_2", "perplexity"):
        (found,) = compare(store, metric=metric, resamples=QUICK)
        one, two = rows[found.first].metrics[metric].value, rows[found.second].metrics[metric].value
        assert found.difference == pytest.approx(one - two, abs=2e-6)  # type: ignore[operator]
        assert found.low <= found.difference <= found.high  # type: ignore[operator]
        if found.verdict != "tie":
            assert (found.verdict == "better") == ((found.difference > 0) == found.higher_is_better)  # type: ignore[operator]


def test_only_what_is_asked_for() -> None:
    """Task, pair, split and metric choose; a name that is none has the nearest one in its remedy."""
    store = controlled().memory()
    assert {each.split for each in compare(store, resamples=50)} == {"test", "ood"}
    assert {each.split for each in compare(store, split="ood", task="colours", resamples=50)} == {"ood"}
    assert len(compare(store, pair="small:large", metric="f1", resamples=50)) == 10
    for option, near in (("task", "colours"), ("pair", "small:large"), ("metric", "brier")):
        with pytest.raises(SpecError, match=f"no results of {option} '{near[:-1]}'") as error:
            compare(store, resamples=50, **{option: near[:-1]})  # type: ignore[arg-type]
        assert error.value.remedy == f"did you mean {near!r}?"
    with pytest.raises(SpecError, match="only describes"):
        compare(generative(MEANS).memory(), metric="length", resamples=50)


def test_pairs_that_lack_seeds_are_counted() -> None:
    """Two of three pairs have two seeds in common: the third is tested, and the heading does not deny it."""
    world = simple({"naive": 0.7, "late": 0.6, "logconf": 0.9}, skip=[("late", 2)])
    told = comparison.text(compare(world.memory(), resamples=QUICK))
    assert "fewer than 3 seeds in 2 of 3 pairs: no claim" in told
    assert "better than" in told


def test_two_common_seeds_are_no_test() -> None:
    """Where fewer than three seeds are common there is a reason and no p-value, verdict or difference."""
    found = compare(controlled(seeds=range(2), ood=False).memory(), resamples=50)
    assert all(
        (each.p, each.verdict, each.low, each.reason) == (None, None, None, "2 common seeds: 3 are needed")
        for each in found
    )
    assert "NA: 2 common seeds: 3 are needed" in comparison.text(found)


def test_text_is_narrow_and_whole() -> None:
    """A matrix, then two lines a pair, no wider than 80 columns; p-values are never 0."""
    text = comparison.text(compare(controlled().memory(), resamples=QUICK))
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^1 +logconf +\. +\+ +\+ +\+$", text, re.MULTILINE)
    assert "logconf  better than  naive\n" in text
    assert re.search(r"\+?0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]  p <0\.001  Holm <0\.001  5 seeds", text)
    assert (probability(0.0), probability(0.0014), probability(1.0)) == ("<0.001", "0.001", "1.000")


def test_json_is_a_list_of_pairs() -> None:
    """Programs read every number, with what it is of."""
    records = json.loads(comparison.json_text(compare(controlled(ood=False).memory(), resamples=50)))
    assert len(records) == 5
    assert records[0].keys() >= {
        "task",
        "weak",
        "strong",
        "split",
        "metric",
        "first",
        "second",
        "p",
        "p_holm",
        "verdict",
    }


def test_an_empty_store_has_nothing_to_compare() -> None:
    """It is said, and JSON is an empty list."""
    assert comparison.text(Comparisons()) == "The store holds no two strategies of one task and pair.\n"
    assert comparison.json_text(Comparisons()) == "[]\n"
