"""Weak supervisors with a recipe, and controls, as whole trials on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.trial.folders import (
    LABELS,
    WEAK_PARENT,
    made_items,
    noisy_labels,
    predictions_of,
    result_of,
    write_folder,
)
from tests.trial.tiny import SHAPES, write_tiny_model
from wtsbench.spec.generation import ZeroShot
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Role, TrialJob
from wtsbench.strategies import recipes
from wtsbench.trial.run import run_folder
from wtsbench.trial.supervisors import first_component, flipped

ITEMS = made_items(60)
TRAIN, TRANSFER = [item for item, _, _ in ITEMS[:24]], [item for item, _, _ in ITEMS[24:48]]
TRUTH = {item: label for item, _, label in ITEMS}
QUICK: dict[str, Any] = {"epochs": 2.0, "learning_rate": 3e-3, "batch_size": 8}
Predictions = dict[tuple[str, str], list[float]]


def ran(folder: Path, model: Path, recipe: recipes.Recipe | None = None, **more: Any) -> tuple[Predictions, TrialJob]:
    """A finished trial's predictions."""
    call = None if recipe is None else recipes.call(recipe)
    job = write_folder(folder, ITEMS, model, recipe=call, **{**QUICK, **more})
    assert run_folder(folder) == 0, result_of(folder)["failure"]
    return predictions_of(folder, job), job


def usual(predictions: Predictions) -> Predictions:
    """Those of the splits that every trial predicts."""
    return {key: value for key, value in predictions.items() if key[0] in ("transfer", "validation", "test")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Predictions:
    """What a plainly finetuned weak supervisor predicts."""
    return ran(tmp_path_factory.mktemp("plain"), tiny_llama)[0]


def test_asked_in_further_wordings(tmp_path: Path, tiny_llama: Path, plain: Predictions) -> None:
    """The weak model is the plain one; each wording makes a split of its own, and a wording that adds nothing none."""
    found, _ = ran(tmp_path, tiny_llama, recipes.Asked(frames=("river {text}", "{text}")))
    assert usual(found) == plain
    assert {split for split, _ in found if "~" in split} == {
        "transfer~1", "transfer~2", "validation~1", "validation~2",
    }  # fmt: skip
    for item in TRANSFER:
        assert found[("transfer~2", item)] == plain[("transfer", item)]
    assert any(found[("transfer~1", item)] != plain[("transfer", item)] for item in TRANSFER)


def test_a_wording_may_name_a_control_token(tmp_path: Path, tiny_llama: Path) -> None:
    """The model's end token in a wording is that token: as text it would be unknown words, like what no model has."""
    found, _ = ran(tmp_path, tiny_llama, recipes.Asked(frames=("{text} </s>", "{text} </x>")))
    assert all(found[("transfer~1", item)] != found[("transfer~2", item)] for item in TRANSFER)


@pytest.mark.parametrize("by", ["hash", "content"])
def test_parts_are_equal_and_disjoint(tmp_path: Path, tiny_llama: Path, plain: Predictions, by: str) -> None:
    """Each specialist learns from a third of the items, and is another model than the generalist."""
    seen = []
    for part in range(3):
        recipe = recipes.Part.model_validate({"part": part, "parts": 3, "by": by})
        found, _ = ran(tmp_path / str(part), tiny_llama, recipe)
        assert result_of(tmp_path / str(part))["measurements"]["train_items"] == 8
        seen.append(found[("test", ITEMS[-1][0])])
    assert len({tuple(row) for row in [*seen, plain[("test", ITEMS[-1][0])]]}) == 4


def test_a_first_component_is_that_of_the_covariance() -> None:
    """The coordinates of the items vary as much as the covariance's largest eigenvalue says."""
    random = np.random.default_rng(0)
    points = random.normal(size=(50, 6)) * np.array([5, 1, 1, 1, 1, 1]) + 3
    along = first_component(points)
    assert along.var() == pytest.approx(np.linalg.eigvalsh(np.cov(points.T, bias=True))[-1])
    assert np.abs(along).max() == along.max()


def test_a_first_round_of_boosting_is_plain(tmp_path: Path, tiny_llama: Path, plain: Predictions) -> None:
    """Without rounds before it, nothing is weighted; what it says of its own training items is kept for the next."""
    found, _ = ran(tmp_path, tiny_llama, recipes.Boosted())
    assert usual(found) == plain
    assert {item for split, item in found if split == "weak_train"} == set(TRAIN)


def test_later_rounds_attend_to_errors(tmp_path: Path, tiny_llama: Path, plain: Predictions) -> None:
    """After a round without errors the next is plain again; after one with errors it is another model."""
    sure, wrong = noisy_labels(ITEMS, wrong=0), noisy_labels(ITEMS, wrong=0.3)
    same, _ = ran(tmp_path / "a", tiny_llama, recipes.Boosted(), parents={"a" * 64: sure})
    other, _ = ran(tmp_path / "b", tiny_llama, recipes.Boosted(), parents={"a" * 64: wrong})
    assert usual(same) == plain
    assert usual(other) != plain


def test_the_vote_of_rounds(tmp_path: Path, tiny_llama: Path) -> None:
    """The vote trains nothing, and is the mean of the rounds by .5 ln((1 - e) / e), e after the rounds before."""
    said = [noisy_labels(ITEMS, wrong=0.3, seed=1), noisy_labels(ITEMS, wrong=0.2, seed=2)]
    found, _ = ran(tmp_path, tiny_llama, recipes.Combined(), parents={"a" * 64: said[0], "b" * 64: said[1]})
    weights, votes = dict.fromkeys(TRAIN, 1 / len(TRAIN)), []
    for given in said:
        wrong = [item for item in TRAIN if int(np.argmax(given[item])) != TRUTH[item]]
        error = sum(weights[item] for item in wrong)
        votes.append(0.5 * np.log((1 - error) / error))
        raised = {item: weights[item] * np.exp(votes[-1] if item in wrong else -votes[-1]) for item in TRAIN}
        weights = {item: value / sum(raised.values()) for item, value in raised.items()}
    for split, item in found:
        expected = sum(alpha * np.array(given[item]) for alpha, given in zip(votes, said, strict=True)) / sum(votes)
        assert found[(split, item)] == pytest.approx(expected.tolist(), abs=1e-9)
    measured = result_of(tmp_path)["measurements"]
    assert measured["votes"] == pytest.approx(votes, abs=1e-6)
    assert "steps" not in measured


def test_random_labels_of_a_parent_without_errors_are_the_truth(tmp_path: Path, tiny_llama: Path) -> None:
    """With no label wrong the control is the ceiling, bit for bit."""
    parents = {WEAK_PARENT: noisy_labels(ITEMS, wrong=0)}
    control, _ = ran(tmp_path / "c", tiny_llama, recipes.RandomLabels(), role=Role.CONTROL, parents=parents)
    assert control == ran(tmp_path / "t", tiny_llama, role=Role.CEILING)[0]


def test_random_labels_are_wrong_as_often_as_the_parent(tmp_path: Path, tiny_llama: Path) -> None:
    """Exactly so many labels are another class, by the trial's seed."""
    weak = noisy_labels(ITEMS, wrong=0.3)
    errors = sum(int(np.argmax(weak[item])) != TRUTH[item] for item in TRANSFER)
    found = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        ran(folder, tiny_llama, recipes.RandomLabels(), role=Role.CONTROL, parents={WEAK_PARENT: weak}, seed=seed)
        found.append(result_of(folder)["measurements"]["wrong_labels"])
    assert found == [errors, errors]


def test_reserved_items_are_not_learned_from(tmp_path: Path, tiny_llama: Path, plain: Predictions) -> None:
    """All but the reserved items are, and all of `weak_train` is predicted, as a student with a budget asks it."""
    found, _ = ran(tmp_path, tiny_llama, recipes.Reserved(items=7))
    assert result_of(tmp_path)["measurements"]["train_items"] == len(TRAIN) - 7
    assert {item for split, item in found if split == "weak_train"} == set(TRAIN)
    assert usual(found) != plain


def test_a_model_with_everything_reserved_fails(tmp_path: Path, tiny_llama: Path) -> None:
    """There is nothing to learn from, and the trial says why."""
    job = write_folder(tmp_path, ITEMS, tiny_llama, recipe=recipes.call(recipes.Reserved(items=24)), **QUICK)
    assert run_folder(tmp_path) != 0
    assert (
        "24 items of weak_train are to be kept out of training, and there are 24"
        in (result_of(tmp_path)["failure"]["message"])
    )
    assert not predictions_of(tmp_path, job)


def test_flipped_labels() -> None:
    """So many labels change, each to another class, each other class as often."""
    labels = np.repeat(np.arange(4), 3000)
    changed = flipped(labels, 9000, 4, np.random.default_rng(0))
    assert (changed != labels).sum() == 9000
    shares = np.bincount((changed - labels)[changed != labels] % 4, minlength=4) / 9000
    assert shares[0] == 0
    assert shares[1:] == pytest.approx([1 / 3] * 3, abs=0.03)


ASKED = ZeroShot(prompt="{text} stone", answers={"safe": " cake", "unsafe": " bomb river"})


def test_a_prior_is_what_zero_shot_says(tmp_path: Path, tiny_llama: Path) -> None:
    """As labels for students, with all of `weak_train`; no label of it is needed."""
    said, _ = ran(tmp_path / "prior", tiny_llama, recipes.Prior(**dict(ASKED)))
    control, _ = ran(tmp_path / "control", tiny_llama, ASKED, role=Role.CONTROL)
    answered = usual(control)
    assert answered
    assert {
        key: value for key, value in usual(said).items() if key in answered
    } == answered  # no control has `transfer`
    assert {split for split, _ in usual(said).keys() - answered.keys()} == {"transfer"}
    assert {item for split, item in said if split == "weak_train"} == set(TRAIN)


def test_zero_shot_asks_for_the_likeliest_answer(tmp_path: Path, tiny_llama: Path) -> None:
    """Probabilities are the softmax of each answer's mean token log-probability, taken here one text at a time."""
    found, _ = ran(tmp_path, tiny_llama, ASKED, role=Role.CONTROL)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_llama)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    for item, text, _ in ITEMS[48:]:
        means = []
        for label in LABELS:
            prompt, answer = tokenizer(f"{text} stone")["input_ids"], tokenizer(ASKED.answers[label])["input_ids"]
            with torch.no_grad():
                logs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(dim=-1)
            means.append(np.mean([float(logs[len(prompt) - 1 + i, token]) for i, token in enumerate(answer)]))
        expected = np.exp(means) / np.exp(means).sum()
        split = "test" if ("test", item) in found else "validation"
        assert found[(split, item)] == pytest.approx(expected.tolist(), abs=1e-5)


def test_zero_shot_does_not_depend_on_batches(tmp_path: Path, tiny_llama: Path) -> None:
    """One text at a time or all together, the answers are the same."""
    alone, _ = ran(tmp_path / "1", tiny_llama, ASKED, role=Role.CONTROL, eval_batch_size=1)
    together, _ = ran(tmp_path / "64", tiny_llama, ASKED, role=Role.CONTROL, eval_batch_size=64)
    for key, values in alone.items():
        assert values == pytest.approx(together[key], abs=1e-5)


def test_a_long_text_leaves_the_answer_its_place(tmp_path: Path, tiny_llama: Path) -> None:
    """Texts longer than the context are cut at their end: the words behind them and the answer stay."""
    items = [*ITEMS, ("x1", "river " * 60 + "bomb", 0), ("x2", "river " * 60, 1), ("x3", "cloud " * 60, 1)]
    job = write_folder(tmp_path, items, tiny_llama, recipe=recipes.call(ASKED), role=Role.CONTROL, **QUICK)
    assert run_folder(tmp_path) == 0, result_of(tmp_path)["failure"]
    found = predictions_of(tmp_path, job)
    assert found[("test", "x1")] == found[("test", "x2")] != found[("test", "x3")]


def test_an_encoder_cannot_be_asked(tmp_path: Path) -> None:
    """A model that continues no text fails with a message that says so."""
    model = write_tiny_model(tmp_path / "m", "bert", pad_token="<pad>")
    write_folder(tmp_path / "t", ITEMS, model, recipe=recipes.call(ASKED), role=Role.CONTROL, **QUICK)
    assert run_folder(tmp_path / "t") == 1
    assert "no causal language model" in result_of(tmp_path / "t")["failure"]["message"]


@pytest.mark.parametrize("model_type", ["gpt2", "openai-gpt", "gemma2"])
def test_scores_that_are_more_than_the_heads_are_refused(tmp_path: Path, model_type: str) -> None:
    """Probabilities come from the head alone: a model that caps its scores fails, in place of being misread."""
    model = write_tiny_model(tmp_path / "m", "llama" if model_type == "gemma2" else model_type)
    if model_type == "gemma2":
        shape = {
            **SHAPES["llama"],
            "head_dim": 16,
            "final_logit_softcapping": 2.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        config = AutoConfig.for_model("gemma2", vocab_size=320, initializer_range=0.1, pad_token_id=None, **shape)
        AutoModelForCausalLM.from_config(config).save_pretrained(model)  # type: ignore[no-untyped-call]
    write_folder(tmp_path / "t", ITEMS, model, recipe=recipes.call(ASKED), role=Role.CONTROL, **QUICK)
    failed = run_folder(tmp_path / "t") == 1
    assert failed == (model_type == "gemma2")
    if failed:
        assert "gemma2 models scale or cap" in result_of(tmp_path / "t")["failure"]["message"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (StrategyCall(name="nonesuch"), "recipe nonesuch is not known"),
        (recipes.call(ZeroShot(answers={"a": "b", "c": "d"})), "no answer stands for unsafe, safe"),
        (recipes.call(ZeroShot(prompt="river " * 60 + "{text}", answers={"safe": "a", "unsafe": "b"})), "no room"),
    ],
)
def test_what_cannot_be_done_is_named(tmp_path: Path, tiny_llama: Path, call: StrategyCall, message: str) -> None:
    """A recipe that is not known or does not fit fails the trial with the reason."""
    write_folder(tmp_path, ITEMS, tiny_llama, recipe=call, role=Role.CONTROL, **QUICK)
    assert run_folder(tmp_path) == 1
    assert message in result_of(tmp_path)["failure"]["message"]
