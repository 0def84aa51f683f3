"""The script that recomputes leaderboards agrees with them, and notices whatever is changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import recompute
from tests.reports.test_draws import in_draws
from tests.reports.test_tables import MEANS, ONE, TWO, controlled, generative
from tests.reports.worlds import World, simple
from wtsbench.reports import comparison
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.renderers import render
from wtsbench.store.client import Store

pytestmark = pytest.mark.slow
Told = tuple[Store, list[dict[str, Any]], list[dict[str, Any]]]


def told(world: World, folder: Path) -> Told:
    """A real store, and what the leaderboard and the comparison say of it."""
    store = world.folder(folder)
    rows = json.loads(render(leaderboard(store), "json"))
    return store, rows, json.loads(comparison.json_text(comparison.compare(store)))


def gaps() -> World:
    """One strategy has not run, another lacks a seed."""
    return simple({"naive": 0.7, "late": 0.8, "lacking": 0.72}, skip=[*(("late", k) for k in range(3)), ("lacking", 2)])


def drawn(*, per_draw: int, skip: Sequence[tuple[str, int]] = ()) -> World:
    """Two strategies in four draws of the training items."""
    made = {"naive": 0.7, "logconf": 0.8}
    return in_draws(simple(made, seeds=range(4 * per_draw), skip=skip), per_draw)


HOLES = [("naive", 3), ("naive", 7), ("weak", 4)]
"""Seeds 1 of draws 1 and 3, and seed 0 of draw 2, of two seeds a draw."""


@pytest.mark.parametrize(
    ("world", "rows", "pairs"),
    [
        pytest.param(controlled, 8, 10, id="controls and a second test set"),
        pytest.param(lambda: generative(MEANS, scorers=(ONE, TWO)), 4, 2, id="generation with two scorers"),
        pytest.param(lambda: generative(MEANS, nll=False, mute=["naive"]), 2, 1, id="metrics that are NA"),
        pytest.param(gaps, 3, 3, id="missing seeds"),
        pytest.param(lambda: drawn(per_draw=1), 2, 1, id="draws of one seed"),
        pytest.param(lambda: drawn(per_draw=2, skip=HOLES), 2, 1, id="draws of two seeds, with holes"),
        pytest.param(lambda: drawn(per_draw=2, skip=[("naive", 6), ("naive", 7)]), 2, 1, id="a draw less"),
        pytest.param(lambda: simple({"naive": 0.81}, weak=0.8, ceiling=0.82, seeds=[0]), 1, 0, id="one seed, no gap"),
    ],
)
def test_it_agrees(world: Callable[[], World], rows: int, pairs: int, tmp_path: Path) -> None:
    """Every number of every kind of table is recomputed, and agrees."""
    store, board, compared = told(world(), tmp_path)
    assert (len(board), len(compared)) == (rows, pairs)
    findings = recompute.check(store, board, compared, None)
    assert findings.wrong == []
    assert findings.count["scores"] == 3 * sum(row["seeds_done"] > 0 for row in board)


CHANGES: dict[str, Callable[[list[dict[str, Any]], list[dict[str, Any]]], object]] = {
    "a score": lambda rows, _: rows[0].update(student_score=rows[0]["student_score"] + 2e-6),
    "an interval's end": lambda rows, _: rows[0].update(student_low=rows[0]["student_low"] - 0.02),
    "a PGR": lambda rows, _: rows[0].update(pgr=rows[0]["pgr"] + 1e-5),
    "a PGR's end": lambda rows, _: rows[0].update(pgr_high=rows[0]["pgr_high"] + 0.1),
    "a PGR that is withheld": lambda rows, _: rows[0].update(pgr=None, pgr_reason="gap not proven"),
    "a metric": lambda rows, _: rows[1]["metrics"]["f1"].update(value=0.5),
    "a metric that is 0 for NA": lambda rows, _: rows[1]["weak_metrics"]["brier"].update(value=None),
    "inheritance": lambda rows, _: rows[0]["metrics"]["error_inheritance"].update(value=0.3),
    "CAPA": lambda rows, _: rows[0]["metrics"]["capa"].update(value=rows[0]["metrics"]["capa"]["value"] + 1e-5),
    "a misfit": lambda rows, _: rows[0]["ceiling_metrics"]["misfit"].update(value=0.9),
    "a rank": lambda rows, _: rows[1].update(rank=1),
    "a row that is gone": lambda rows, _: rows.pop(),
    "a number nobody knows": lambda rows, _: rows[0].update(lucky=7.0),
    "noise": lambda rows, _: rows[0].update(noise_floor=0.5),
    "seeds": lambda rows, _: rows[0].update(seeds=[0, 1]),
    "a p-value": lambda _, pairs: pairs[0].update(p=0.5),
    "a correction": lambda _, pairs: pairs[1].update(p_holm=pairs[1]["p"]),
    "a verdict": lambda _, pairs: pairs[0].update(verdict="worse"),
    "a pair that is gone": lambda _, pairs: pairs.pop(0),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A store with controls."""
    return told(controlled(ood=False), tmp_path_factory.mktemp("small"))


def test_whatever_is_changed_is_noticed(small: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of number, changed a little, is found to be off; unchanged, none is."""
    monkeypatch.setattr(recompute, "RESAMPLES", 500)
    monkeypatch.setattr(recompute, "NOISE", 0.25)
    store, rows, pairs = small
    assert recompute.check(store, rows, pairs, None).wrong == []
    for what, change in CHANGES.items():
        other, others = json.loads(json.dumps(rows)), json.loads(json.dumps(pairs))
        change(other, others)
        assert recompute.check(store, other, others, None).wrong, what
