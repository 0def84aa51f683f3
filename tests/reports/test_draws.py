"""Several draws of the training items: what is repeated is a draw with all its seeds, on one and the same test set."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.reports.test_tables import one_class
from tests.reports.worlds import World, name, simple, trial_name
from wtsbench.errors import SpecError, StoreError
from wtsbench.reports.comparison import compare
from wtsbench.reports.comparison import text as compared
from wtsbench.reports.contents import submissions
from wtsbench.reports.leaderboard import leaderboard, tables
from wtsbench.reports.renderers import render
from wtsbench.reports.rows import Row
from wtsbench.reports.statistics import Moments, Sample, score

QUICK = 400
DECIDED = ("score", "low", "high")


def in_draws(world: World, seeds: int) -> World:
    """The same trials as of several draws: each with so many seeds, and with items that differ in `transfer` alone."""
    (before,) = world.items
    cells = json.loads(world.grids[0]["cells"])
    digests = [before, *(name(before, draw) for draw in range(1, 1 + max(cell["seed"] for cell in cells) // seeds))]
    for draw, digest in enumerate(digests[1:], 1):
        items = [{**item, "data_digest": digest} for item in world.items[before]]
        world.items[digest] = [
            {**item, "text": f"{item['text']} of draw {draw}"} if item["split"] == "transfer" else item
            for item in items
        ]
        world.datasets.append({**world.datasets[0], "data_digest": digest})
    of_trial: dict[str, dict[str, Any]] = {}
    for cell in cells:
        cell["data_seed"], cell["seed"] = divmod(cell["seed"], seeds)
        cell["data_digest"] = digests[cell["data_seed"]]
        of_trial |= {cell[f"{role}_trial"]: cell for role in ("weak", "ceiling", "student")}
    for trial in world.trials:
        cell = of_trial[trial["trial_id"]]
        trial |= {key: cell[key] for key in ("seed", "data_seed", "data_digest")}
    world.grids[0]["cells"] = json.dumps(cells)
    return world


def numbers(row: Row) -> dict[str, Any]:
    """What a row computes."""
    plain = {key: value for key, value in vars(row).items() if isinstance(value, float) or value is None}
    measured = {name: replace(one, reason=one.reason and one.reason[:12]) for name, one in row.metrics.items()}
    return plain | {"metrics": measured, "rank": row.rank, "unranked": row.unranked}


def test_a_draw_of_one_seed_is_a_seed() -> None:
    """With one seed in each draw, draws stand where seeds stand: every number and verdict is the same."""
    made = {"naive": 0.7, "logconf": 0.85}
    plain = leaderboard(simple(made, seeds=range(5)).memory(), resamples=QUICK)
    drawn = leaderboard(in_draws(simple(made, seeds=range(5)), 1).memory(), resamples=QUICK)
    for one, two in zip(plain.rows, drawn.rows, strict=True):
        assert (two.data_seeds, two.seeds, two.seeds_done) == ((0, 1, 2, 3, 4), (0,), 5)
        for key, value in numbers(one).items():
            if key not in ("noise_sd", "noise_floor"):  # of which a draw of one seed tells nothing
                assert numbers(two)[key] == value, key


def test_intervals_are_over_draws() -> None:
    """Mean, standard deviation and degrees of freedom are those of the means over the seeds of each draw."""
    generator = np.random.default_rng(3)
    draws, seeds, items = 4, 3, 500
    right = generator.random((draws, seeds, items)) < (0.7 + generator.normal(0, 0.1, (draws, 1, 1)))
    counts = generator.multinomial(items, [1 / items] * items, size=4000)  # [B, N]
    flat = right.reshape(draws * seeds, items)
    runs = Sample(full=flat.mean(axis=1), resampled=counts @ flat.T / items, items=items, effective=items)
    sample = runs.by_draw([draw for draw in (7, 1, 9, 4) for _ in range(seeds)])
    by_draw = right.mean(axis=1)  # [D, N]
    spread = Moments.of(sample).spread(np.ones(1))
    assert sample.value == pytest.approx(flat.mean())
    assert spread.seeds == pytest.approx(by_draw.mean(axis=1).var(ddof=1) / draws)
    assert spread.items == pytest.approx(by_draw.mean(axis=0).var(ddof=1) / items, rel=0.1)
    apart = by_draw - by_draw.mean(axis=0)
    assert spread.interaction == pytest.approx(apart.var(axis=1, ddof=1).sum() / items / (draws * (draws - 1)), rel=0.1)
    assert spread.freedom == (draws - 1, items - 1)


def test_how_often_intervals_over_draws_are_right() -> None:
    """Where draws differ more than seeds, intervals hold the truth as often as they say; over all runs they do not."""
    generator = np.random.default_rng(8)
    draws, seeds, worlds = 5, 3, 400
    held = {"draws": 0, "runs": 0}
    for _ in range(worlds):
        means = 0.7 + generator.normal(0, 0.02, draws)[:, None] + generator.normal(0, 0.005, (draws, seeds))
        error = generator.normal(0, 0.002, 50)[:, None]  # of other items, which all runs share
        runs = Sample(full=means.ravel() + error[0], resampled=means.ravel() + error, items=1000, effective=1000)
        for kind, sample in (
            ("draws", runs.by_draw([draw for draw in range(draws) for _ in range(seeds)])),
            ("runs", runs),
        ):
            estimate = score(sample, 0.0, 1.0)
            held[kind] += estimate.low <= 0.7 <= estimate.high
    assert 0.92 <= held["draws"] / worlds <= 0.985
    assert held["runs"] / worlds < 0.85


def test_runs_are_paired_by_data_seed_and_seed() -> None:
    """Two strategies are compared on the runs that both have done: a seed of one draw is not that of another."""
    world = in_draws(simple({"naive": 0.6, "logconf": 0.9}, seeds=range(8), skip=[("naive", 1), ("logconf", 6)]), 2)
    (pair,) = compare(world.memory(), resamples=QUICK).pairs
    assert (pair.data_seeds, pair.seeds) == ((0, 1, 2, 3), (0, 1))
    rows = {row.strategy: row for row in leaderboard(world.memory(), resamples=QUICK).rows}
    assert (rows["naive"].seeds_done, rows["naive"].seeds_total) == (7, 8)
    assert (0, 1) not in rows["naive"].runs
    full = {run: row for row in rows.values() for run in row.runs}
    assert set(full) == {(draw, seed) for draw in range(4) for seed in range(2)}
    assert "4 draws" in compared(compare(world.memory(), resamples=QUICK))


def test_noise_is_that_of_seeds_within_a_draw() -> None:
    """Each draw counts alike: with 2, 2, 1 and 1 of its seeds a row is worth 16/3 seeds, and not all 6."""
    world = in_draws(simple({"naive": 0.6}, seeds=range(8), skip=[("naive", 5), ("naive", 6)]), 2)
    (row,) = leaderboard(world.memory(), resamples=QUICK).rows
    assert row.seeds_done == 6
    assert row.noise_sd is not None
    assert row.noise_floor == pytest.approx(row.noise_sd * (2 * 3 / 16) ** 0.5, abs=2e-6)


def test_models_of_one_class_are_named_with_their_draw() -> None:
    """Seed 0 of one draw is another model than seed 0 of the next."""
    world = in_draws(simple({"naive": 0.6}, seeds=range(6)), 2)
    one_class(world, [trial_name("weak", "colours", "small", seed) for seed in (2, 4)], 1)
    (row,) = leaderboard(world.memory(), resamples=QUICK).rows
    assert row.one_class == ("weak seed 0 of data seed 1 (class 1)", "weak seed 0 of data seed 2 (class 1)")


def test_trivial_classifiers_are_of_every_draw() -> None:
    """They learn from the training items too: the mean over draws stands beside models that are means over draws."""
    world = in_draws(simple({"naive": 0.7}, seeds=range(3)), 1)
    for row, share in zip(world.datasets, (0.5, 0.95, 0.99), strict=True):
        row["report"] = json.dumps({"trivial": {"test": {"tfidf on transfer": {"accuracy": share, "f1": share}}}})
    board = leaderboard(world.memory(), resamples=QUICK)
    assert board.rows[0].trivial == {"tfidf on transfer": pytest.approx(0.813333)}
    assert "the ceiling scores below" not in render(board, "plain")
    world.datasets[2]["report"] = "{"
    board = leaderboard(world.memory(), resamples=QUICK)
    assert board.rows[0].trivial == {}
    assert len(board.unread) == 1


def test_what_is_not_defined_is_counted_in_draws() -> None:
    """A number of one of three draws that is none is told so, and not as one of its six seeds."""
    world = in_draws(simple({"naive": 0.6}, weak=0.7, seeds=range(6)), 2)
    of_draw = [trial_name("weak", "colours", "small", seed) for seed in (2, 3)]
    for line in world.predictions:  # a weak supervisor without errors: nothing to take over
        if line["trial_id"] in of_draw and line["split"] == "test":
            (item,) = [
                each for each in world.items[world.datasets[0]["data_digest"]] if each["item_id"] == line["item_id"]
            ]
            line["probabilities"] = [1.0 - item["label"], float(item["label"])]
    (row,) = leaderboard(world.memory(), resamples=QUICK).rows
    assert row.metrics["error_inheritance"].reason == "not defined in 1 of 3 draws"


def test_two_draws_claim_nothing() -> None:
    """However many seeds they have, two draws that agree by luck are too common: no PGR, rank or verdict."""
    world = in_draws(simple({"naive": 0.7, "logconf": 0.85}, seeds=range(10)), 5)
    board = leaderboard(world.memory(), resamples=QUICK)
    for row in board.rows:
        assert (row.seeds_done, row.few_seeds, row.rank, row.pgr) == (10, True, None, None)
        assert row.unranked == "2 draws of the training items, a rank takes 3"
        assert row.pgr_reason == "2 draws: a claim takes 3"
    assert {pair.reason for pair in board.comparisons} == {"2 common draws: 3 are needed"}
    shown = render(board, "markdown")
    assert "2 draws of the training items" in shown
    assert "fewer than 3 draws: no claim" in shown


def test_tables_say_which() -> None:
    """A table of several draws says so, and what its intervals are over; one of a single draw says nothing of draws."""
    made = {"naive": 0.7}
    drawn, plain = in_draws(simple(made, seeds=range(6)), 2), simple(made, seeds=range(6))
    shown = [render(leaderboard(world.memory(), resamples=QUICK), "markdown") for world in (drawn, plain)]
    assert "3 draws of the training items" in shown[0]
    assert "intervals, tests and claims are over" in shown[0]
    assert "draw" not in shown[1]


def test_draws_have_one_test_set() -> None:
    """Draws of which one has other test items are no draws of one task: nothing is computed of them."""
    world = in_draws(simple({"naive": 0.7}, seeds=range(6)), 2)
    last = list(world.items)[-1]
    world.items[last][0] = {**world.items[last][0], "label": 1 - world.items[last][0]["label"]}
    with pytest.raises(StoreError, match="different test items"):
        leaderboard(world.memory(), resamples=QUICK)


def test_a_baseline_holds_one_draw() -> None:
    """What holds scores by seed alone refuses a grid with several draws, and mixes nothing."""
    store = in_draws(simple({"naive": 0.7}, seeds=range(6)), 2).memory()
    (table,) = tables(store, submissions(store), resamples=QUICK)
    with pytest.raises(SpecError, match=r"data\.seeds"):
        table.trials_by_entry()
