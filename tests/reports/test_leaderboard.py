"""The leaderboard: what a row says, when it says nothing, and that nothing but content decides."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reports.worlds import World, right_with, simple, trial_name
from wtsbench.errors import SpecError, StoreError
from wtsbench.metrics import classification as metrics
from wtsbench.metrics.classification import METRICS
from wtsbench.reports.anchors import source_of
from wtsbench.reports.comparison import compare
from wtsbench.reports.findings import findings
from wtsbench.reports.kept import KeptTables
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.ranking import unranked
from wtsbench.reports.renderers import FORMS, render
from wtsbench.reports.status import status
from wtsbench.reports.wording import groups
from wtsbench.store.client import open_store
from wtsbench.store.upkeep.merge import merge

ASKED_KEYS = {
    *("task", "weak", "strong", "strategy", "metric", "weak_score", "student_score", "student_low", "student_high"),
    *("ceiling_score", "pgr", "pgr_low", "pgr_high", "pgr_reason", "seeds_done", "seeds_total", "rank"),
}
QUICK = 2_000


def rows_of(world: World) -> list[Any]:
    """The leaderboard's rows."""
    return list(leaderboard(world.memory(), resamples=QUICK).rows)


def by_strategy(world: World) -> dict[str, Any]:
    """Rows of a world of one task and pair."""
    return {row.strategy: row for row in rows_of(world)}


def noisy(chance: np.random.Generator, labels: Any, share: float) -> list[int]:
    """Predictions right with this probability, each for itself."""
    return [int(label if chance.random() < share else 1 - label) for label in labels]


def world_of_chance(*, metric: str = "accuracy", tasks: int = 1) -> World:
    """Two strategies, three seeds, every answer by chance; seeds differ."""
    world = World()
    chance = np.random.default_rng(8)
    digests = {}
    for number in range(tasks):
        labels = (chance.random(160) < 0.35).astype(int)
        task = f"task {number}"
        digests[task] = digest = world.dataset(task, labels.tolist(), metric=metric)
        for seed in (0, 1, 2):
            luck = chance.normal() * 0.01
            for role, model, share in (("weak", "small", 0.66), ("ceiling", "large", 0.92)):
                world.trial(role, task, model, seed, digest, predicted=noisy(chance, labels, share + luck))
            for strategy, share in (("naive", 0.74), ("logconf", 0.8)):
                made = noisy(chance, labels, share + luck)
                world.trial("student", task, "large", seed, digest, strategy=strategy, predicted=made)
    world.grid("chance", digests, ["naive", "logconf"], [0, 1, 2])
    return world


@pytest.mark.parametrize("metric", METRICS)
def test_scores_and_pgr_are_recomputed_from_the_predictions(metric: str) -> None:
    """Every score is the mean over seeds of the metric counted in loops, and PGR the ratio of their differences."""
    world = world_of_chance(metric=metric)
    (digest,) = world.items
    truth: dict[str, int] = {i["item_id"]: i["label"] for i in world.items[digest] if i["split"] == "test"}
    made: dict[str, dict[str, int]] = defaultdict(dict)
    for line in world.predictions:
        if line["split"] == "test":
            made[line["trial_id"]][line["item_id"]] = line["probabilities"].index(max(line["probabilities"]))

    def score(trial_id: str) -> float:
        pairs = [(truth[item], made[trial_id][item]) for item in truth]
        if metric == "accuracy":
            return sum(a == b for a, b in pairs) / len(pairs)
        hits = [sum(a == b == each for a, b in pairs) for each in (0, 1)]
        true = [sum(a == each for a, _ in pairs) for each in (0, 1)]
        if metric == "balanced_accuracy":
            return (hits[0] / true[0] + hits[1] / true[1]) / 2
        return 2 * hits[1] / (true[1] + sum(b for _, b in pairs))

    rows = rows_of(world)
    assert {row.strategy for row in rows} == {"naive", "logconf"}
    for row in rows:
        means = {}
        for role, model in (("weak", "small"), ("ceiling", "large"), ("student", "large")):
            strategy = row.strategy if role == "student" else None
            scores = [score(trial_name(role, "task 0", model, seed, strategy)) for seed in (0, 1, 2)]
            means[role] = sum(scores) / 3
        assert row.weak_score == pytest.approx(means["weak"], abs=1e-6)
        assert row.student_score == pytest.approx(means["student"], abs=1e-6)
        assert row.ceiling_score == pytest.approx(means["ceiling"], abs=1e-6)
        assert row.gap == pytest.approx(means["ceiling"] - means["weak"], abs=1e-6)
        assert row.pgr == pytest.approx(
            (means["student"] - means["weak"]) / (means["ceiling"] - means["weak"]), abs=1e-6
        )
        for quantity in ("weak", "student", "ceiling"):
            values = [getattr(row, f"{quantity}_{part}") for part in ("low", "score", "high")]
            assert values == sorted(values)
        assert row.pgr_low < row.pgr < row.pgr_high
        assert row.pgr_reason is None


def test_json_has_the_keys_that_were_asked_for() -> None:
    """A list of objects, each with at least the published keys, and where its numbers come from."""
    records = json.loads(render(leaderboard(world_of_chance().memory(), resamples=QUICK), "json"))
    assert isinstance(records, list)
    for record in records:
        assert set(record) >= ASKED_KEYS
        assert record["trials"][0] == {
            "seed": 0,
            "data_seed": None,
            "weak": trial_name("weak", "task 0", "small", 0),
            "ceiling": trial_name("ceiling", "task 0", "large", 0),
            "student": trial_name("student", "task 0", "large", 0, record["strategy"]),
        }
        assert record["seeds"] == [0, 1, 2]
        assert record["test_items"] == 160
        assert record["sandboxes"] == ["process"]
        assert record["environments"] == ["process:lock"]


def test_same_content_same_bytes() -> None:
    """Order of rows, numbers of attempts, times, hosts and earlier failures change no byte of any form."""
    world = world_of_chance(tasks=2)
    boards = [leaderboard(world.memory(shuffle=number), resamples=QUICK) for number in (None, 1, 2)]
    other = world_of_chance(tasks=2)
    retried = trial_name("student", "task 1", "large", 1, "naive")
    for line in [*other.trials, *other.predictions, *other.attempts]:
        if line["trial_id"] == retried:
            line["attempt"] = 3
    digest = next(line["data_digest"] for line in other.trials if line["trial_id"] == retried)
    for attempt in (1, 2):
        other.trial(
            "student",
            "task 1",
            "large",
            1,
            digest,
            strategy="naive",
            failure=("timeout", "slow"),
            attempt=attempt,
            day=9,
        )
    boards.append(leaderboard(other.memory(shuffle=3), resamples=QUICK))
    for form in FORMS:
        assert len({render(board, form) for board in boards}) == 1, form


def test_a_real_store_gives_the_same_bytes(tmp_path: Path) -> None:
    """What a folder holds and what memory holds are shown the same."""
    world = simple({"naive": 0.7, "logconf": 0.8}, seeds=(0, 1), items=60)
    world.trial(
        "student", "colours", "large", 1, world.datasets[0]["data_digest"],
        strategy="late", failure=("diverged", "the loss became NaN"),
    )  # fmt: skip
    world.grids.clear()
    world.grid("first", {"colours": world.datasets[0]["data_digest"]}, ["naive", "logconf", "late"], [0, 1])
    real, memory = (leaderboard(store, resamples=QUICK) for store in (world.folder(tmp_path), world.memory()))
    assert render(real, "json") == render(memory, "json")
    assert real.rows[-1].failures[0].failure_class == "diverged"


def test_pgr_is_withheld_where_the_gap_is_not_proven() -> None:
    """A gap whose interval holds 0 gives NA with the numbers; a proven one gives PGR; scores are shown either way."""
    unproven = rows_of(simple({"naive": 0.8}, weak=0.8, ceiling=0.82))[0]
    assert unproven.gap_low < 0 < unproven.gap_high
    assert (unproven.pgr, unproven.pgr_low, unproven.pgr_high) == (None, None, None)
    assert unproven.pgr_reason == (
        f"gap not proven: ceiling - weak +0.020 [{unproven.gap_low:+.3f}, {unproven.gap_high:+.3f}]"
    )
    assert (unproven.student_score, unproven.rank) == (0.8, 1)
    proven = rows_of(simple({"naive": 0.8}, weak=0.6, ceiling=0.9))[0]
    assert proven.gap_low > 0
    assert proven.pgr == pytest.approx(2 / 3, abs=1e-5)


def test_pgr_is_withheld_where_the_ceiling_is_worse() -> None:
    """A ceiling proven worse than the weak supervisor gives NA and says so."""
    row = rows_of(simple({"naive": 0.7}, weak=0.9, ceiling=0.6))[0]
    assert row.pgr is None
    assert row.pgr_reason.startswith("ceiling worse than weak: ceiling - weak -0.300 [")


def test_pgr_is_never_wild_where_shown() -> None:
    """Over many small worlds PGR and its interval are finite exactly where the gap's interval is above 0."""
    shown = 0
    for number in range(12):
        world = simple({"naive": 0.75}, weak=0.7, ceiling=0.7 + 0.015 * number, items=150)
        row = rows_of(world)[0]
        assert (row.pgr is not None) == (row.gap_low > 0) == (row.pgr_reason is None)
        if row.pgr is not None:
            shown += 1
            assert all(math.isfinite(value) for value in (row.pgr_low, row.pgr, row.pgr_high))
    assert 0 < shown < 12


def test_a_metric_of_which_less_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """With error rate in place of accuracy PGR and ranks are the same, and scores mirrored."""
    accuracy = METRICS["accuracy"]
    error_rate = replace(
        accuracy, name="error_rate", higher_is_better=False, value=lambda sums: 1 - accuracy.value(sums)
    )
    monkeypatch.setitem(metrics.METRICS, "error_rate", error_rate)
    shares = {"good": 0.85, "fair": 0.75, "bad": 0.5}
    up = rows_of(simple(shares))
    world = simple(shares)
    world.datasets[0]["metric"] = "error_rate"
    down = rows_of(world)
    assert [(row.strategy, row.rank) for row in down] == [("good", 1), ("fair", 2), ("bad", 3)]
    for one, two in zip(up, down, strict=True):
        assert (one.strategy, one.rank) == (two.strategy, two.rank)
        assert two.student_score == pytest.approx(1 - one.student_score, abs=1e-6)
        assert (two.student_low, two.student_high) == pytest.approx(
            (1 - one.student_high, 1 - one.student_low), abs=2e-6
        )
        assert two.gap < 0
        assert (two.pgr, two.pgr_low, two.pgr_high) == pytest.approx((one.pgr, one.pgr_low, one.pgr_high), abs=1e-5)
    assert "lower is better" in render(leaderboard(world.memory(), resamples=QUICK), "terminal")
    world = simple({"naive": 0.7}, weak=0.9, ceiling=0.6)
    world.datasets[0]["metric"] = "error_rate"
    assert rows_of(world)[0].pgr_reason.startswith("ceiling worse than weak")


def test_strategies_that_cannot_be_told_apart_share_a_rank() -> None:
    """Ranks count the strategies proven better; a tie of three is followed by rank 4."""
    shares = {"a": 0.80, "b": 0.805, "c": 0.80, "d": 0.65}
    board = leaderboard(simple(shares).memory(), resamples=QUICK)
    assert {row.strategy: row.rank for row in board.rows} == {"a": 1, "b": 1, "c": 1, "d": 4}
    assert [row.strategy for row in board.rows] == ["b", "a", "c", "d"]


def test_rows_on_other_data_are_never_ranked_together() -> None:
    """Two strategies of one task, pair and grid on different items: each first of its own table, which says why."""
    here, there = simple({"naive": 0.6}, items=100), simple({"logconf": 0.9}, items=120)
    ids = {row["trial_id"]: row["trial_id"][::-1] for row in there.trials}  # both worlds name their baselines alike
    for row in (*there.trials, *there.attempts, *there.predictions):
        row["trial_id"] = ids[row["trial_id"]]
    cells = json.dumps(there.cells("first"))
    for before, after in ids.items():
        cells = cells.replace(before, after)
    here.grids[0]["cells"] = json.dumps(here.cells("first") + json.loads(cells))
    here.items.update(there.items)
    for name in ("datasets", "attempts", "trials", "predictions"):
        getattr(here, name).extend(getattr(there, name))
    board = leaderboard(here.memory(), resamples=500)
    assert [(row.strategy, row.rank) for row in board.rows] == [("naive", 1), ("logconf", 1)]
    assert not board.comparisons
    ((_, tables),) = groups(board.rows)
    first, second = (row.data_digest[:12] for row in board.rows)
    assert [group.apart for group in tables] == [
        f"ranked apart from another table of this title: data digest {first}, there {second}",
        f"ranked apart from another table of this title: data digest {second}, there {first}",
    ]
    for form in ("plain", "markdown"):
        assert render(board, form).count("ranked apart from another table") == 2
    assert len({source_of(row) for row in board.rows}) == 2


def test_equal_students_tie() -> None:
    """Two strategies with the very same predictions have rank 1 both."""
    world = simple({"naive": 0.8}, items=50)
    (digest,) = world.items
    for line in [line for line in world.trials if line["role"] == "student"]:
        made = [
            int(np.argmax(other["probabilities"]))
            for other in world.predictions
            if other["trial_id"] == line["trial_id"] and other["split"] == "test"
        ]
        world.trial("student", "colours", "large", line["seed"], digest, strategy="twin", predicted=made)
    world.grids.clear()
    world.grid("first", {"colours": digest}, ["naive", "twin"], [0, 1, 2])
    rows = by_strategy(world)
    assert (rows["naive"].rank, rows["twin"].rank) == (1, 1)
    assert rows["naive"].student_low == rows["twin"].student_low


def test_a_seed_counts_when_all_three_are_done() -> None:
    """A seed that lacks weak, ceiling or student is left out of every number of the row, and counted as missing."""
    skip = [("naive", 0), ("weak", 3), ("ceiling", 4)]
    world = simple({"naive": 0.7, "logconf": 0.8}, seeds=range(5), skip=skip)
    (digest,) = world.items
    world.trial("student", "colours", "large", 0, digest, strategy="naive", failure=("out_of_memory", "2 GiB"))
    world.trial("ceiling", "colours", "large", 4, digest, failure=("timeout", "2 h"))
    rows = by_strategy(world)
    assert (rows["naive"].seeds_done, rows["naive"].seeds_total, rows["naive"].seeds) == (2, 5, (1, 2))
    assert (rows["logconf"].seeds_done, rows["logconf"].seeds) == (3, (0, 1, 2))
    assert [(f.seed, f.role, f.failure_class, f.message) for f in rows["naive"].failures] == [
        (0, "student", "out_of_memory", "2 GiB"),
        (4, "ceiling", "timeout", "2 h"),
    ]
    assert [f.role for f in rows["logconf"].failures] == ["ceiling"]
    alone = simple({"naive": 0.7, "logconf": 0.8}, seeds=range(5), skip=skip)
    alone.grids.clear()
    alone.grid("first", {"colours": digest}, ["naive"], [1, 2])
    only = rows_of(alone)[0]
    assert (only.weak_score, only.pgr, only.pgr_low) == (
        rows["naive"].weak_score,
        rows["naive"].pgr,
        rows["naive"].pgr_low,
    )


def test_a_cell_that_has_not_run_is_a_row_without_numbers() -> None:
    """Nothing done is `0 of n` with a reason: never zero, blank or absent; it stands last."""
    world = simple({"naive": 0.7, "late": 0.8}, skip=[("late", seed) for seed in range(3)])
    rows = rows_of(world)
    assert [row.strategy for row in rows] == ["naive", "late"]
    late = rows[1]
    assert (late.seeds_done, late.seeds_total, late.rank, late.student_score, late.pgr) == (0, 3, None, None, None)
    assert late.pgr_reason == "no finished seed"
    assert (rows[0].rank, rows[0].seeds_done) == (1, 3)


@pytest.mark.parametrize(("seeds", "told"), [([7], "1 seed"), ([7, 8], "2 seeds")])
def test_few_seeds_claim_nothing(seeds: list[int], told: str) -> None:
    """One or two seeds give scores with intervals, and no PGR, p-value, verdict, rank or proven gain."""
    board = leaderboard(simple({"naive": 0.8, "logconf": 0.7}, seeds=seeds).memory(), resamples=QUICK)
    for row in board.rows:
        assert (row.pgr, row.pgr_reason) == (None, f"{told}: a claim takes 3")
        assert (row.gap_p, row.gain_p, row.gain_p_holm, row.rank, row.few_seeds) == (None, None, None, None, True)
        assert row.unranked == f"{len(seeds)} of {len(seeds)} seeds done, a rank takes 3"
        assert row.student_low < row.student_score < row.student_high  # type: ignore[operator]
    assert {(found.p, found.verdict) for found in board.comparisons} == {(None, None)}
    (counted,) = findings(board, "first")
    assert {cell.text for line in counted.lines for cell in line.cells[1:]} == {"-", ""}


def test_the_newest_submission_of_each_grid_counts() -> None:
    """Submitting a grid again under its name replaces it; grids are shown by name, or one alone."""
    world = simple({"naive": 0.7, "logconf": 0.8})
    (digest,) = world.items
    world.grid("first", {"colours": digest}, ["logconf"], [0, 1], submission=2)
    world.grid("another", {"colours": digest}, ["naive"], [0])
    board = leaderboard(world.memory(shuffle=4), resamples=QUICK)
    assert [(row.grid, row.strategy, row.seeds_total) for row in board.rows] == [
        ("another", "naive", 1),
        ("first", "logconf", 2),
    ]
    assert [row.grid for row in leaderboard(world.memory(), "first", resamples=QUICK).rows] == ["first"]
    with pytest.raises(SpecError, match="did you mean 'first'") as error:
        leaderboard(world.memory(), "fist")
    assert error.value.exit_code == 2


def test_a_merge_hides_no_submission(tmp_path: Path) -> None:
    """Of two submissions of one grid name the newest is shown, which is said, and the other one can be asked for."""
    world = simple({"naive": 0.7}, items=40, seeds=range(5))
    world.with_true_digests().folder(tmp_path / "many")
    (digest,) = world.items
    world.grids.clear()
    world.grid("first", {"colours": digest}, ["naive"], [0])
    world.with_true_digests().folder(tmp_path / "few")  # later, so that the one with fewer seeds is newer
    merge(tmp_path / "few" / "store", tmp_path / "many" / "store")
    store = open_store(str(tmp_path / "many" / "store"))
    board = leaderboard(store, resamples=QUICK)
    (row,) = board.rows
    assert (row.seeds_done, row.seeds_total, row.submission, row.other_submissions) == (1, 1, 2, (1,))
    (older,) = leaderboard(store, submission=1, resamples=QUICK).rows
    assert (older.seeds_done, older.seeds_total, older.submission, older.other_submissions) == (5, 5, 1, (2,))
    pairs = compare(store, "first", submission=1, resamples=50)
    assert pairs.submissions[0].shown.submission == 1
    (grid,) = status(store).grids
    day = grid.shown.shown.submitted_at[:10]
    said = rf"shown: submission 2 of {day} ..:.. \(1 cell\); not shown: 1 of {day} ..:.. \(5 cells\); --submission"
    for form in ("plain", "terminal", "markdown"):
        assert re.search(said, render(board, form).replace("\\", "").replace("\n", " "))
    with pytest.raises(SpecError, match=r"no submission 3 of grid 'first'") as error:
        leaderboard(store, "first", submission=3)
    assert error.value.remedy == "it has 1, 2."


def test_tables_of_another_submission_are_not_taken_from_the_cache(tmp_path: Path) -> None:
    """What a kept table says of submissions is what the store has now."""
    world, kept = simple({"naive": 0.7}), KeptTables(tmp_path)
    leaderboard(world.memory(), resamples=QUICK, kept=kept)
    (digest,) = world.items
    world.grid("first", {"colours": digest}, ["naive"], [0, 1, 2], submission=2)
    (row,) = leaderboard(world.memory(), resamples=QUICK, kept=kept).rows
    assert (row.submission, row.other_submissions) == (2, (1,))


def test_an_empty_store_is_an_empty_board() -> None:
    """No grid, no rows, no error."""
    board = leaderboard(World().memory())
    assert board.rows == ()
    assert render(board, "json") == "[]\n"


def test_a_form_of_tasks_that_this_version_lacks_is_an_error() -> None:
    """What a newer version stored is told of, not read as classification."""
    world = simple({"naive": 0.7})
    world.datasets[0]["form"] = "ranking"
    with pytest.raises(StoreError, match="colours is of the form 'ranking', which this version of wtsbench has not"):
        leaderboard(world.memory(), resamples=QUICK)


def test_predictions_that_do_not_fit_their_items_are_an_error() -> None:
    """A damaged store is told of, and never scored on what is left."""
    world = simple({"naive": 0.7})
    student = trial_name("student", "colours", "large", 1, "naive")
    lost = next(line for line in world.predictions if line["trial_id"] == student and line["split"] == "test")
    world.predictions.remove(lost)
    with pytest.raises(
        StoreError, match=f"trial {student[:12]} of task colours is stored as done, but its predictions"
    ):
        leaderboard(world.memory(), resamples=QUICK)
    world.predictions.append({**lost, "probabilities": [0.2, 0.3, 0.5]})
    with pytest.raises(StoreError, match="not one distribution"):
        leaderboard(world.memory(), resamples=QUICK)
    world.predictions[-1]["probabilities"] = [math.nan, 0.5]
    with pytest.raises(StoreError, match="NaN"):
        leaderboard(world.memory(), resamples=QUICK)


def test_predictions_are_read_in_portions() -> None:
    """However many trials a store holds, few of their predictions are in memory at once."""
    shares = {f"strategy {number:02d}": 0.7 for number in range(15)}
    store = simple(shares, items=30).memory()
    assert len(leaderboard(store, resamples=200).rows) == 15
    assert store.largest_read <= 32


def test_strategies_that_lack_seeds_are_not_ranked() -> None:
    """Ranked are those on the same seeds; what lacks some stands apart, unranked, with the reason."""
    world = simple({"a": 0.7, "b": 0.8, "lacks": 0.85, "late": 0.9}, seeds=range(4), skip=[("lacks", 0), ("late", 1)])
    world.trials = [row for row in world.trials if (row["strategy"], row["seed"]) not in {("late", 0), ("late", 2)}]
    board = leaderboard(world.memory(), resamples=QUICK)
    assert [(row.strategy, row.rank, row.unranked) for row in board.rows] == [
        ("b", 1, None),
        ("a", 2, None),
        ("late", None, "1 of 4 seeds done, a rank takes 3"),
        ("lacks", None, "3 of 4 seeds done, by others 4"),
    ]
    for form in ("terminal", "plain", "markdown"):
        text = " ".join(render(board, form, width=200).split())
        assert (
            "no rank: late (1 of 4 seeds done, a rank takes 3); no rank: lacks (3 of 4 seeds done, by others 4)" in text
        )


def test_no_one_is_ranked_by_pairs_on_different_seeds() -> None:
    """Three strategies, each without another seed: a circle of wins on different seeds gives no ranks."""
    skip = [("a", 0), ("b", 1), ("c", 2)]
    rows = rows_of(simple({"a": 0.7, "b": 0.8, "c": 0.6}, seeds=range(4), skip=skip))
    assert {row.rank for row in rows} == {None}
    assert {row.unranked for row in rows} == {"3 of 4 seeds done, by others other ones"}
    rows = rows_of(simple({"a": 0.7, "b": 0.8, "c": 0.6}, seeds=range(4), skip=[(name, 0) for name in "abc"]))
    assert [(row.strategy, row.rank) for row in rows] == [("b", 1), ("a", 2), ("c", 3)]


def test_many_seeds_of_few_draws_leave_nobody_without_a_rank() -> None:
    """Ten runs of two draws take no rank themselves, so three runs of three draws are not held against them."""
    few, many = [(draw, 0) for draw in (1, 2, 3)], [(draw, seed) for draw in (1, 2) for seed in range(5)]
    reasons = unranked({"few": few, "many": many}, {"few": 15, "many": 15})
    assert reasons == {"many": "2 draws of the training items, a rank takes 3"}


def answering(answers: dict[str, Any], labels: Any, seeds: int) -> World:
    """A world of these answers [K, N] of weak, ceiling and strategies."""
    world = World()
    digest = world.dataset("colours", list(labels))
    world.grid(
        "first", {"colours": digest}, [name for name in answers if name not in ("weak", "ceiling")], range(seeds)
    )
    for seed in range(seeds):
        for name, made in answers.items():
            role = name if name in ("weak", "ceiling") else "student"
            model, strategy = "small" if name == "weak" else "large", None if role == name else name
            world.trial(role, "colours", model, seed, digest, strategy=strategy, predicted=made[seed])
    return world


def test_one_wrong_answer_proves_nothing() -> None:
    """One error among 5 times 100 answers: no gap is proven, no PGR is 1, and no score is certain."""
    labels = np.random.default_rng(3).integers(0, 2, 100)
    right = np.repeat(labels[None], 5, axis=0)
    weak = right.copy()
    weak[2, 17] = 1 - weak[2, 17]
    other = right.copy()
    other[0, 3] = 1 - other[0, 3]
    (row,) = rows_of(answering({"weak": weak, "ceiling": right, "naive": other}, labels, 5))
    assert row.pgr is None
    assert row.pgr_reason.startswith("gap not proven: ceiling - weak +0.002 [-0.0")
    assert row.gap_p > 0.3
    assert row.gain_p_holm > 0.3
    assert (row.ceiling_score, row.ceiling_high) == (1, 1)
    assert row.ceiling_low == pytest.approx(100 / (100 + 3.94), abs=1e-3)  # Wilson's, where none of 100 is wrong


def test_two_items_prove_nothing_however_often_they_are_asked() -> None:
    """Opposite answers to two items in every seed vary by nothing; two items are a coin thrown twice."""
    right = np.repeat(np.array([[0, 1]]), 5, axis=0)
    board = leaderboard(
        answering({"weak": right, "ceiling": right, "a": right, "b": 1 - right}, [0, 1], 5).memory(), resamples=QUICK
    )
    (found,) = board.comparisons
    assert (found.difference, found.p, found.verdict) == (1, 0.5, "tie")
    assert found.low < 0 < found.high  # type: ignore[operator]
    assert {row.rank for row in board.rows} == {1}


@pytest.mark.parametrize(("same", "told"), [
    (("ceiling",), "its ceiling does"), (("weak",), "its weak supervisor does"),
    (("weak", "ceiling"), "its weak supervisor and its ceiling do"),
])  # fmt: skip
def test_a_student_that_repeats_another_model_says_so(same: tuple[str, ...], told: str) -> None:
    """A student equal to its ceiling or weak supervisor on every item has no PGR of 1 or 0, but that reason."""
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 2, 200)
    shares = {"weak": 0.6, "ceiling": 0.9, "naive": 0.8}
    answers = {name: np.stack([right_with(chance, labels, share) for _ in range(3)]) for name, share in shares.items()}
    for name in same:
        answers[name] = answers["naive"]
    (row,) = rows_of(answering(answers, labels, 3))
    assert (row.pgr, row.pgr_low, row.pgr_reason) == (None, None, f"answers every item as {told}")
    answers["naive"] = answers["naive"].copy()
    answers["naive"][1, 5] = 1 - answers["naive"][1, 5]
    (row,) = rows_of(answering(answers, labels, 3))
    assert row.pgr_reason is None or row.pgr_reason.startswith("gap not proven")


def test_a_claim_takes_the_interval_and_the_test() -> None:
    """PGR is there exactly where the gap's interval and its p-value both say so."""
    for number in range(8):
        (row,) = rows_of(simple({"naive": 0.75}, weak=0.7, ceiling=0.76 + 0.01 * number, items=150, seeds=range(3)))
        assert (row.pgr is not None) == (row.gap_low > 0 and row.gap_p <= 0.05)


def test_few_items_of_a_class_are_told() -> None:
    """Below 10 test items of a class, or 10 items in all, the table says how rough its numbers are."""
    labels = np.array([1] * 9 + [0] * 91)
    right = np.repeat(labels[None], 3, axis=0)
    answers = {"weak": 1 - right, "ceiling": right, "naive": right}
    text = render(leaderboard(answering(answers, labels, 3).memory(), resamples=QUICK), "plain")
    assert "fewer than 10 test items of a class: F1, recall and balanced accuracy are rough" in text
    answers = {name: made[:, 5:14] for name, made in answers.items()}
    text = render(leaderboard(answering(answers, labels[5:14], 3).memory(), resamples=QUICK), "plain")
    assert "fewer than 10 groups of test items: intervals are rough" in text


@pytest.mark.parametrize(
    ("weights", "counted"), [("aab", {0, 1}), ("ab-", {2}), ("aaa", {0, 1, 2}), ("aa-", {0, 1, 2})]
)
def test_no_row_mixes_two_weights_of_one_revision(weights: str, counted: set[int]) -> None:
    """What began with other weights than most trials of its model is no seed, and the row says why; nor is a tie."""
    world = simple({"naive": 0.7}, seeds=[0, 1, 2], items=60)
    for row in world.trials:
        if row["role"] == "ceiling" and weights[row["seed"]] != "-":
            row["measurements"] = json.dumps({"weights_sha256": weights[row["seed"]] * 64})
    (shown,) = leaderboard(world.memory(), resamples=200).rows
    assert {*shown.seeds} == counted
    assert {failure.seed for failure in shown.failures} == {0, 1, 2} - counted
    assert all("at the same revision" in failure.message for failure in shown.failures)
