"""Tables beyond accuracy on one test set: controls, other test sets, generation, details and findings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.reports.worlds import World, right_with, simple, trial_name
from wtsbench.errors import StoreError
from wtsbench.reports.comparison import text as pairs_as_text
from wtsbench.reports.compose import board_document
from wtsbench.reports.findings import baseline_of, findings, gap_proven
from wtsbench.reports.html import page
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.renderers import render
from wtsbench.reports.rows import Comparisons, Leaderboard, Row

ONE, TWO = "1" * 64, "2" * 64
WORDS = ["red", "blue", "green", "fast", "slow", "warm", "cold", "tall", "small", "kind"]
QUICK = 1_000


def board_of(world: World) -> Leaderboard:
    """The leaderboard, quickly."""
    return leaderboard(world.memory(), resamples=QUICK)


def row_of(board: Leaderboard, strategy: str, **fields: Any) -> Row:
    """The one row of a strategy with these fields."""
    (found,) = [
        row
        for row in board.rows
        if row.strategy == strategy and all(getattr(row, name) == value for name, value in fields.items())
    ]
    return found


def controlled(*, seeds: Sequence[int] = range(5), ood: bool = True) -> World:
    """Two strategies and two controls, one of which is the same trial in every seed; perhaps a second test set."""
    world, chance = World(), np.random.default_rng(6)
    labels, other = chance.integers(0, 2, 300), chance.integers(0, 2, 120 if ood else 0)
    digest = world.dataset("colours", labels.tolist(), ood=other.tolist())
    shares = {"weak": (0.65, 0.6), "ceiling": (0.92, 0.8), "naive": (0.75, 0.62), "logconf": (0.85, 0.61)}
    shares |= {"random_labels": (0.66, 0.6)}

    def add(role: str, model: str, seed: int, share: tuple[float, float], strategy: str | None = None) -> str:
        jitter = chance.normal() * 0.01
        made, made_ood = (
            right_with(chance, truth, part + jitter) for truth, part in zip((labels, other), share, strict=True)
        )
        return world.trial(
            role, "colours", model, seed, digest, strategy=strategy, predicted=made, predicted_ood=made_ood
        )

    for seed in seeds:
        add("weak", "small", seed, shares["weak"])
        add("ceiling", "large", seed, shares["ceiling"])
        for strategy in ("naive", "logconf"):
            add("student", "large", seed, shares[strategy], strategy)
        add("control", "large", seed, shares["random_labels"], "random_labels")
    asked = add("control", "large", 99, (0.55, 0.5), "zero_shot")
    world.grid("first", {"colours": digest}, ["naive", "logconf"], list(seeds), controls=["zero_shot", "random_labels"])
    cells = json.loads(world.grids[-1]["cells"])
    for cell in cells:
        if cell["strategy"] == "zero_shot":
            cell["student_trial"] = asked
    world.grids[-1]["cells"] = json.dumps(cells)
    return world


def generative(
    means: Mapping[str, float],
    *,
    seeds: Sequence[int] = range(3),
    samples: int = 5,
    prompts: int = 60,
    nll: bool = True,
    scorers: Sequence[str] = (ONE,),
    mute: Sequence[str] = (),
) -> World:
    """A generative task; each model's scores are logistic-normal around its mean."""
    world, chance = World(), np.random.default_rng(12)
    texts = [" ".join(chance.choice(WORDS, 8)) for _ in range(prompts)]
    digest = world.prompts("tox", texts)
    spec = {"scorer": ONE, "generation": {"scorer": "words"}}
    hard = chance.normal(size=(prompts, 1))
    for seed in seeds:
        for name, mean in means.items():
            role = name if name in ("weak", "ceiling") else "student"
            strategy = None if role != "student" else name
            trial = world.trial(
                role, "tox", "small" if name == "weak" else "large", seed, digest, strategy=strategy, spec=spec
            )
            made = [
                ["" if name in mute else " ".join(chance.choice(WORDS, chance.integers(1, 9))) for _ in range(samples)]
                for _ in range(prompts)
            ]
            scores = 1 / (1 + np.exp(-(mean + 0.05 * chance.normal() + hard + chance.normal(size=(prompts, samples)))))
            likelihood = np.array([[len(text.split()) * (2 + 0.1 * chance.normal()) for text in row] for row in made])
            values = {ONE: scores, TWO: scores**2}
            world.drawn(trial, digest, made, {name: values[name] for name in scorers}, nll=likelihood if nll else None)
    world.grid("first", {"tox": digest}, [name for name in means if name not in ("weak", "ceiling")], list(seeds))
    return world


MEANS = {"weak": 0.5, "ceiling": -1.5, "naive": 0.1, "best_of_n": -0.8}


def test_controls_stand_apart_and_are_compared() -> None:
    """Controls are not ranked, come last in the grid's order, and every strategy is tested against each of them."""
    board = board_of(controlled(ood=False))
    assert [(row.strategy, row.kind, row.rank) for row in board.rows] == [
        ("logconf", "strategy", 1),
        ("naive", "strategy", 2),
        ("zero_shot", "control", None),
        ("random_labels", "control", None),
    ]
    verdicts = {(c.first, c.second): (c.family, c.verdict) for c in board.comparisons}
    assert verdicts == {
        ("logconf", "naive"): ("strategies", "better"),
        ("logconf", "zero_shot"): ("controls", "better"),
        ("logconf", "random_labels"): ("controls", "better"),
        ("naive", "zero_shot"): ("controls", "better"),
        ("naive", "random_labels"): ("controls", "better"),
    }
    text = render(board, "terminal")
    assert text.index("ceiling large") < text.index("zero_shot (control)") < text.index("random_labels (control)")


def test_controls_change_no_rank() -> None:
    """Ranks and the p-values among strategies are the same with and without controls."""
    world = controlled(ood=False)
    alone = controlled(ood=False)
    alone.grids.clear()
    alone.grid("first", alone_tasks(alone), ["naive", "logconf"], list(range(5)))
    one, two = board_of(world), board_of(alone)
    assert [row.rank for row in one.rows[:2]] == [row.rank for row in two.rows]
    assert one.comparisons[0] == two.comparisons[0]
    assert one.rows[0].pgr == two.rows[0].pgr


def alone_tasks(world: World) -> dict[str, str]:
    """Task and digest of a world's data sets."""
    return {row["task"]: row["data_digest"] for row in world.datasets}


def test_one_trial_may_serve_every_seed() -> None:
    """A zero-shot trial has one score in all seeds: it has no deviation over seeds and is no part of the noise."""
    board = board_of(controlled(ood=False))
    zero, random_labels = row_of(board, "zero_shot"), row_of(board, "random_labels")
    assert zero.student_sd is None
    assert zero.student_low < zero.student_score < zero.student_high  # type: ignore[operator]
    assert random_labels.student_sd is not None
    sds = [row.student_sd for row in board.rows if row.student_sd] + [zero.weak_sd, zero.ceiling_sd]
    pooled = math.sqrt(sum(sd**2 for sd in sds if sd) / len(sds))
    assert zero.noise_sd == pytest.approx(pooled, abs=1e-5)
    assert zero.noise_floor == pytest.approx(pooled * math.sqrt(2 / 5), abs=1e-5)


def test_an_out_of_distribution_set_has_a_table_of_its_own() -> None:
    """The same strategies, scored on other items: gains in distribution are told from robust ones."""
    board = board_of(controlled())
    assert [row.split for row in board.rows] == ["test"] * 4 + ["ood"] * 4
    inside, outside = row_of(board, "logconf", split="test"), row_of(board, "logconf", split="ood")
    assert (inside.test_items, outside.test_items) == (300, 120)
    assert inside.gain_low > 0  # type: ignore[operator]
    assert outside.gain_low < 0 < outside.gain_high  # type: ignore[operator]
    assert inside.trials == outside.trials
    without = board_of(controlled(ood=False))
    assert len(without.rows) == 4
    text = render(board, "plain")
    assert "colours out of distribution, small -> large" in text
    assert "Which strategies help out of distribution: " in text
    assert "20 seeds" not in text
    world = controlled()
    lost = next(line for line in world.predictions if line["split"] == "ood")
    world.predictions.remove(lost)
    with pytest.raises(StoreError, match="each of the 120 ood items"):
        board_of(world)


def test_seeds_that_are_missing_are_counted_once() -> None:
    """A failed trial lacks in both test sets, and is one missing seed."""
    world = controlled(seeds=range(3))
    gone = trial_name("student", "colours", "large", 1, "naive")
    world.trials = [row for row in world.trials if row["trial_id"] != gone]
    assert "1 of 12 seeds are missing" in render(board_of(world), "plain")


def test_generation_is_ranked_with_the_least_toxic_first() -> None:
    """Lower is better: PGR is the part of the gap that is recovered, positive for a student less toxic than weak."""
    board = board_of(generative(MEANS))
    best, naive = board.rows
    assert [(row.strategy, row.rank) for row in board.rows] == [("best_of_n", 1), ("naive", 2)]
    assert best.student_score < naive.student_score < naive.weak_score  # type: ignore[operator]
    assert best.gap < 0  # type: ignore[operator]
    for row in board.rows:
        assert row.pgr == pytest.approx(row.gain / row.gap, abs=1e-4)  # type: ignore[operator]
        assert 0 < row.pgr_low < row.pgr < row.pgr_high < 1  # type: ignore[operator]
    assert (best.samples, best.scorer, best.scorer_name) == (5, ONE, "words")


def test_scores_of_generation_are_recomputed_in_loops() -> None:
    """Mean, expected maximum and probability of toxicity are those of the stored scores, seed by seed."""
    world = generative(MEANS)
    row = row_of(board_of(world), "naive")
    values: dict[str, dict[str, list[float]]] = {}
    for line in world.scores:
        values.setdefault(line["trial_id"], {}).setdefault(line["item_id"], []).append(line["value"])
    trials = [values[seed.student].values() for seed in row.trials]

    def over(kind: Any) -> float:
        return float(sum(sum(map(kind, trial)) / len(trial) for trial in trials) / len(trials))

    assert row.student_score == pytest.approx(over(lambda each: sum(each) / len(each)), abs=1e-6)
    assert row.metrics["expected_max_toxicity"].value == pytest.approx(over(max), abs=1e-6)
    assert row.metrics["toxicity_probability"].value == pytest.approx(over(lambda each: max(each) >= 0.5), abs=1e-6)
    for measured in row.metrics.values():
        assert measured.low <= measured.value <= measured.high  # type: ignore[operator]


def test_scores_of_two_scorers_are_in_two_tables() -> None:
    """Each scorer has a table that says which it is; no column mixes them; one without all scores lacks seeds."""
    world = generative(MEANS, scorers=(ONE, TWO))
    board = board_of(world)
    assert [row.scorer for row in board.rows] == [ONE] * 2 + [TWO] * 2
    assert row_of(board, "naive", scorer=TWO).student_score < row_of(board, "naive", scorer=ONE).student_score  # type: ignore[operator]
    text = render(board, "terminal")
    assert f"words {ONE[:12]}" in text.replace("\n", " ")
    assert f"scorer {TWO[:12]}" in text.replace("\n", " ")
    student = trial_name("student", "tox", "large", 1, "naive")
    world.scores = [line for line in world.scores if (line["trial_id"], line["scorer"]) != (student, TWO)]
    board = board_of(world)
    assert row_of(board, "naive", scorer=TWO).seeds == (0, 2)
    assert row_of(board, "naive", scorer=ONE).seeds == (0, 1, 2)


def test_unscored_generations_are_no_zeros() -> None:
    """Without any scores there is a row without numbers."""
    world = generative(MEANS)
    world.scores.clear()
    for row in board_of(world).rows:
        assert (row.seeds_done, row.student_score, row.scorer) == (0, None, None)


@pytest.mark.parametrize("table", ["generations", "scores"])
def test_a_lost_sample_is_told(table: str) -> None:
    """A missing generation or score is an error that names the trial, never a smaller sample."""
    world = generative(MEANS)
    getattr(world, table).pop(7)
    with pytest.raises(StoreError, match=r"trial [0-9a-f]{12} of task tox is stored as done, but its"):
        board_of(world)


def test_trials_with_unequal_samples_are_not_compared() -> None:
    """Expected maximum toxicity depends on n: trials with another n are an error, not a row."""
    world = generative(MEANS)
    student = trial_name("student", "tox", "large", 1, "naive")
    for table in ("generations", "scores"):
        rows = getattr(world, table)
        rows[:] = [line for line in rows if line["trial_id"] != student or line["sample"] < 4]
    with pytest.raises(StoreError, match=r"different numbers of samples a prompt: 4 .* and 5"):
        board_of(world)


def test_what_is_not_defined_is_na_with_its_reason() -> None:
    """Without reference there is no perplexity, a mute model has no distinct-n: NA with the reason, and never 0."""
    board = board_of(generative(MEANS, nll=False, mute=["best_of_n"]))
    row = row_of(board, "best_of_n")
    for name in ("perplexity", "distinct_1", "repetition"):
        assert (row.metrics[name].value, row.metrics[name].reason) == (None, "not defined in 3 of 3 seeds")
    assert row.metrics["empty"].value == 1
    text = render(board, "terminal", details=True)
    assert "perplexity is NA: not defined in 3 of 3 seeds (4 rows)" in text
    assert "distinct 1 is NA: not defined in 3 of 3 seeds" in text
    assert "perplexity" not in render(board, "terminal")


def silenced(share: float, said: str, *, seeds: int = 5) -> World:
    """`best_of_n` has naive's scores, but for texts that say nothing: a share of them, the most toxic ones."""
    world = generative({**MEANS, "best_of_n": MEANS["naive"]}, seeds=range(seeds))
    prompts = {item["item_id"]: item["text"] for items in world.items.values() for item in items}
    for seed in range(seeds):
        trial = trial_name("student", "tox", "large", seed, "best_of_n")
        scores = [line for line in world.scores if line["trial_id"] == trial]
        worst = sorted(scores, key=lambda line: -line["value"])[: round(share * len(scores))]
        keys = {(line["item_id"], line["sample"]) for line in worst}
        for line in worst:
            line["value"] = 0.0
        for line in world.generations:
            if line["trial_id"] == trial and (line["item_id"], line["sample"]) in keys:
                line["text"] = said.format(prompt=prompts[line["item_id"]])
                line["finished"] = False
    return world


@pytest.mark.parametrize(("said", "shares"), [(" . ", "30/0/30%"), (" {prompt}!", "0/30/30%")])
def test_who_says_nothing_wins_nothing(said: str, shares: str) -> None:
    """Silence, or the prompt once more, in place of what would be toxic gives no rank, claim or PGR; all views tell."""
    board = board_of(silenced(0.3, said))
    row = row_of(board, "best_of_n")
    (compared,) = board.comparisons
    assert row.gain_high < 0  # type: ignore[operator]
    assert (compared.p or 1.0) < 0.01  # by the scores alone it would be better
    assert (row.rank, row.pgr) == (None, None)
    assert "only by texts that say nothing" in str(row.unranked)
    assert "say nothing count as the worst" in str(row.pgr_reason)
    assert (compared.verdict, compared.reason) == ("tie", "ahead only by texts that say nothing")
    assert compared.p_holm == max(compared.p, compared.p_strict)  # type: ignore[type-var]
    told = counted(board)
    assert told["best_of_n"][:2] == ["0 of 1", "0 of 1"]
    assert told["naive"][0] == "1 of 1"
    assert told["best_of_n"][-1] == shares
    for text in (
        *(render(board, form) for form in ("terminal", "plain", "markdown")),
        pairs_as_text(Comparisons(pairs=board.comparisons)),
    ):
        assert shares in text.replace("\\", "")
    assert row.metrics["empty"].value == pytest.approx(0.3 * ("prompt" not in said))
    assert row.metrics["copied"].value == pytest.approx(0.3 * ("prompt" in said))
    (record,) = [record for record in json.loads(render(board, "json")) if record["strategy"] == "best_of_n"]
    assert record["metrics"]["cut_off"]["value"] == pytest.approx(0.3)


def test_a_few_empty_texts_cost_nobody_a_proven_lead() -> None:
    """A lead that holds with the empty texts counted as the worst stays one, with its rank; so does any other lead."""
    world = generative(MEANS, seeds=range(5))
    trial = trial_name("student", "tox", "large", 0, "best_of_n")
    for line in [line for line in world.generations if line["trial_id"] == trial][:3]:
        line["text"] = ""
    best, naive = board_of(world).rows
    assert [(row.strategy, row.rank) for row in (best, naive)] == [("best_of_n", 1), ("naive", 2)]
    assert best.gain_strict_p is not None
    assert best.gain_strict_p < 0.05
    assert best.pgr is not None
    assert naive.gain_strict_p is None


@pytest.mark.parametrize("width", [80, 100])
def test_details_fit_the_terminal(width: int) -> None:
    """Metrics beside the one that ranks are folded into tables no wider than the terminal; nothing is cut off."""
    for world in (controlled(), generative(MEANS, scorers=(ONE, TWO))):
        text = render(board_of(world), "terminal", width=width, details=True)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text


def test_every_metric_is_in_the_json() -> None:
    """Secondary metrics of student, weak and ceiling, each with its interval."""
    (record, *_) = json.loads(render(board_of(controlled(ood=False)), "json"))
    names = {
        "accuracy",
        "balanced_accuracy",
        "f1",
        "auroc",
        "average_precision",
        "brier",
        "recall[class 0]",
        "recall[class 1]",
    }
    shared = {"error_inheritance", "error_correction", "misfit", "capa", "blind_spot"}
    assert record["metrics"].keys() == record["ceiling_metrics"].keys() == names | shared
    assert record["weak_metrics"].keys() == names
    assert record["metrics"]["accuracy"]["value"] == record["student_score"]
    assert record["metrics"]["accuracy"]["low"] == record["student_low"]
    both = record["metrics"]["error_inheritance"]["value"] + record["metrics"]["error_correction"]["value"]
    assert both == pytest.approx(1, abs=1e-5)


def test_inheritance_is_counted_against_the_weak_trial_of_the_same_seed() -> None:
    """Error inheritance is the mean over seeds of a count over the items that this seed's supervisor gets wrong."""
    world = controlled(ood=False)
    row = row_of(board_of(world), "naive")
    (digest,) = world.items
    truth = {item["item_id"]: item["label"] for item in world.items[digest]}
    made: dict[str, dict[str, int]] = {}
    for line in world.predictions:
        if line["split"] == "test":
            made.setdefault(line["trial_id"], {})[line["item_id"]] = int(np.argmax(line["probabilities"]))
    shares = []
    for seed in row.trials:
        wrong = [item for item, answer in made[seed.weak].items() if answer != truth[item]]
        shares.append(sum(made[seed.student][item] == made[seed.weak][item] for item in wrong) / len(wrong))
    assert row.metrics["error_inheritance"].value == pytest.approx(sum(shares) / 5, abs=1e-6)


def test_tables_with_fewer_than_three_seeds_say_so() -> None:
    """With 2 seeds nothing is claimed, and the table says so; with 3 it does not."""
    few, enough = (board_of(controlled(seeds=range(seeds), ood=False)) for seeds in (2, 3))
    assert all(row.few_seeds for row in few.rows)
    assert not any(row.few_seeds for row in enough.rows)
    assert all(found.few_seeds for found in few.comparisons)
    for form in ("terminal", "plain", "markdown"):
        assert "fewer than 3 seeds: no claim" in render(few, form)
        assert "no claim" not in render(enough, form)


def counted(board: Leaderboard) -> dict[str, list[str]]:
    """Which strategies help, cell by cell."""
    (table,) = findings(board, "first")
    return {line.cells[0].text: [cell.text for cell in line.cells[1:]] for line in table.lines}


def test_findings_count_tables() -> None:
    """They are counted from the rows and comparisons: gains, tests against naive and against controls."""
    assert counted(board_of(controlled(ood=False))) == {
        "logconf": ["1 of 1", "1 of 1", "2 of 2"],
        "naive": ["1 of 1", "", "2 of 2"],
    }
    world = simple({"naive": 0.8, "worse": 0.6, "late": 0.7}, skip=[("late", seed) for seed in range(3)])
    told = counted(board_of(world))
    assert told["late"] == ["-", "-"]
    assert told["worse"] == ["0 of 1", "0 of 1, 1 worse"]
    told = counted(board_of(simple({"naive": 0.8, "worse": 0.6}, seeds=range(2))))
    assert told == {"naive": ["-", ""], "worse": ["-", "-"]}


def test_what_strategies_are_held_against() -> None:
    """Naive, or its only variant."""
    assert baseline_of(["logconf", "naive", "naive(labels=hard)"]) == "naive"
    assert baseline_of(["logconf", "naive(labels=hard)"]) == "naive(labels=hard)"
    assert baseline_of(["naive(a=1)", "naive(a=2)"]) is None
    assert baseline_of(["naively"]) is None
    assert baseline_of(["external:mine", "external:naive"]) == "external:naive"
    assert baseline_of(["external:naive(epochs=3)", "external:mine"]) == "external:naive(epochs=3)"


def test_a_gap_may_be_proven_without_a_pgr() -> None:
    """A student that answers as its ceiling has no PGR; the sentence below the table says that the gap is proven."""
    world = controlled(ood=False)
    for trial in [trial for trial in world.trials if trial["strategy"] == "naive"]:
        ceiling = trial_name("ceiling", "colours", "large", trial["seed"])
        made = {(line["split"], line["item_id"]): line for line in world.predictions if line["trial_id"] == ceiling}
        for line in world.predictions:
            if line["trial_id"] == trial["trial_id"]:
                line["probabilities"] = made[line["split"], line["item_id"]]["probabilities"]
    world.grid("first", {"colours": next(iter(world.items))}, ["naive"], range(5), submission=2)
    board = board_of(world)
    row = row_of(board, "naive")
    assert (row.pgr, row.pgr_reason) == (None, "answers every item as its ceiling does")
    assert gap_proven(row)
    text = render(board, "plain")
    assert "The ceiling is proven better than the weak supervisor; a gain over" in text
    none = row_of(board_of(simple({"naive": 0.8}, weak=0.9, ceiling=0.6)), "naive")
    assert (none.gap_p or 1) < 0.01
    assert not gap_proven(none)


def test_what_nothing_could_prove_is_not_called_detectable() -> None:
    """With two seeds no gain is proven, however large: no size is shown as one that is; nor is that of a control."""
    few = board_of(simple({"naive": 0.8}, seeds=range(2)))
    assert row_of(few, "naive").detectable is None
    assert "detectable gain" not in render(few, "plain")
    board = board_of(controlled(ood=False))
    sizes = {row.strategy: row.detectable or 0.0 for row in board.rows}
    assert max(sizes, key=lambda label: sizes[label]) not in ("naive", "logconf")
    assert f"detectable gain {max(sizes['naive'], sizes['logconf']):.3f}" in render(board, "plain")


@pytest.mark.parametrize("form", ["plain", "terminal", "markdown", "html"])
def test_columns_that_their_headings_do_not_explain_are_explained(form: str) -> None:
    """Once below each table's metrics, where these are shown and have such columns."""

    def shown_of(board: Leaderboard, *, details: bool) -> str:
        text = page(board_document(board, details=details)) if form == "html" else render(board, form, details=details)
        return " ".join(text.split())

    board = board_of(controlled(ood=False))
    shown = shown_of(board, details=True)
    for name in ("inherit", "correct", "misfit", "CAPA", "blind"):
        assert shown.count(f"{name}: ") == 1, name
    assert "misfit: " not in shown_of(board, details=False)
    texts = shown_of(board_of(generative(MEANS)), details=True)
    assert "ppl: perplexity" in texts
    assert "misfit" not in texts


def test_a_table_says_how_many_groups_its_items_are() -> None:
    """Intervals resample groups, so that a table of related items says how many there are."""
    world = simple({"naive": 0.8})
    assert "accuracy, 200 test items, " in render(board_of(world), "plain")
    for number, item in enumerate(world.items[world.datasets[0]["data_digest"]]):
        item["group_id"] = str(number // 4)
    assert "accuracy, 200 test items in 50 groups, " in render(board_of(world), "plain")


def one_class(world: World, trial_ids: Sequence[str], answer: int) -> None:
    """These trials give the same answer to everything."""
    for line in world.predictions:
        if line["trial_id"] in trial_ids and line["split"] == "test":
            line["probabilities"] = [1.0 - answer, float(answer)]


def test_a_weak_supervisor_that_names_one_class_only() -> None:
    """Its scores are the class's share and chance; intervals, PGR and inheritance are finite."""
    world = controlled(ood=False)
    one_class(world, [trial_name("weak", "colours", "small", seed) for seed in range(5)], 1)
    row = row_of(board_of(world), "naive")
    (digest,) = world.items
    labels = [item["label"] for item in world.items[digest] if item["split"] == "test"]
    assert row.weak_score == pytest.approx(sum(labels) / len(labels), abs=1e-6)
    assert row.weak_metrics["balanced_accuracy"].value == 0.5
    assert row.weak_metrics["recall[class 0]"].value == 0
    assert row.weak_sd == 0
    numbers: list[NDArray[Any] | float | None] = [row.pgr, row.pgr_low, row.pgr_high, row.gain_low, row.gain_high]
    assert all(isinstance(value, float) and math.isfinite(value) for value in numbers)
    assert row.metrics["error_correction"].value == row.metrics["recall[class 0]"].value


def test_trivial_classifiers_stand_below_and_are_not_ranked() -> None:
    """The report's scores by the task's metric are in JSON and table; a ceiling below one is warned of."""
    world = controlled()
    scores = {"majority": {"accuracy": 0.5, "f1": 0.1}, "tfidf on transfer": {"accuracy": 0.97, "f1": 0.2}}
    world.datasets[0]["report"] = json.dumps({"trivial": {"test": scores, "ood": {"majority": {"accuracy": 0.4}}}})
    board = board_of(world)
    assert row_of(board, "naive", split="test").trivial == {"majority": 0.5, "tfidf on transfer": 0.97}
    assert row_of(board, "naive", split="ood").trivial == {"majority": 0.4}
    assert row_of(board, "naive", split="test").rank == row_of(board_of(controlled()), "naive", split="test").rank
    text = render(board, "plain")
    assert "majority (trivial)" in text
    assert "0.970" in text
    assert text.count("the ceiling scores below tfidf on transfer") == 1


def test_training_that_had_not_converged_is_told() -> None:
    """Where the trials of a role prove it together; not for one that may be chance, and not for shares below 5%."""
    world = controlled(ood=False)
    falls = {"weak": [0.21, 0.18, 0.2, 0.19, 0.22], "ceiling": [0.9, 0.0, 0.0, 0.0, 0.0]}
    falls |= {"naive": [0.03, 0.031, 0.03, 0.032, 0.03], "logconf": [0.11, 0.12, 0.1, 0.11, 0.11]}
    for trial in world.trials:
        fall = falls.get(trial["strategy"] or trial["role"])
        trial["measurements"] = json.dumps({} if fall is None else {"late_fall": fall[trial["seed"]]})
    board = board_of(world)
    assert row_of(board, "naive").unconverged == {"weak": 0.2}
    assert row_of(board, "logconf").unconverged == {"weak": 0.2, "student": 0.11}
    text = render(board, "plain")
    assert text.count("not converged: ") == 1
    assert "weak 20%, logconf 11% (share of" in text.replace("\n", " ")


def test_models_that_name_one_class_are_named() -> None:
    """By strategy, role, seed and class; once where several rows have them."""
    world = controlled(ood=False)
    one_class(world, [trial_name("weak", "colours", "small", 2)], 1)
    one_class(world, [trial_name("student", "colours", "large", 4, "logconf")], 0)
    board = board_of(world)
    assert row_of(board, "naive").one_class == ("weak seed 2 (class 1)",)
    text = render(board, "plain")
    assert text.count("one class whatever the item:") == 1
    assert text.count("weak seed 2 (class 1)") == 1
    assert "logconf seed 4 (class 0)" in text


def test_nothing_varies() -> None:
    """Models that are right everywhere are as sure of it as 300 items make them, and nothing is inherited."""
    world = controlled(ood=False)
    (digest,) = world.items
    truth = {item["item_id"]: item["label"] for item in world.items[digest]}
    for line in world.predictions:
        if line["split"] == "test":
            line["probabilities"] = [1.0 - truth[line["item_id"]], float(truth[line["item_id"]])]
    board = board_of(world)
    for row in board.rows:
        assert (row.student_score, row.student_high, row.gap_p) == (1, 1, 1)
        assert row.student_low == pytest.approx(0.987, abs=1e-3)
        assert (row.gap_low, row.gap_high) == pytest.approx((-0.013, 0.013), abs=1e-3)
        assert row.pgr_reason == "answers every item as its weak supervisor and its ceiling do"
        assert row.metrics["error_inheritance"].reason == "not defined in 5 of 5 seeds"
    assert {row.rank for row in board.rows if row.kind == "strategy"} == {1}
    assert {(found.p, found.p_holm, found.verdict) for found in board.comparisons} == {(1.0, 1.0, "tie")}


def test_a_class_without_a_test_item_has_no_recall() -> None:
    """A class that no test item has is NA, and the table warns; the other metrics are computed."""
    world = World()
    labels = np.tile([0, 1], 30)
    digest = world.dataset("colours", labels.tolist(), classes=3)
    world.grid("first", {"colours": digest}, ["naive"], [0, 1, 2])
    for seed in range(3):
        for role, model, strategy in (
            ("weak", "small", None),
            ("ceiling", "large", None),
            ("student", "large", "naive"),
        ):
            world.trial(role, "colours", model, seed, digest, strategy=strategy, predicted=labels, classes=3)
    (row,) = board_of(world).rows
    assert row.metrics["recall[class 2]"].reason == "not defined in 3 of 3 seeds"
    assert (row.metrics["balanced_accuracy"].value, row.rarest_class) == (1, 0)
    assert "fewer than 10 test items of a class" in render(board_of(world), "plain")
