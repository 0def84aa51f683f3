"""Generative strategies: formulas recomputed by hand, what equals `naive`, and cases in which each must help."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.strategies.writers import BAD, END, WordStudent, badness, continuation, supervision, wrote
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Role
from wtsbench.strategies import registry
from wtsbench.strategies.base import PlanningContext
from wtsbench.strategies.generative import (
    Continuation,
    GenerativeStrategy,
    GenerativeSupervision,
    Sequences,
    SequenceStep,
)

WEAK = {"cake": 0.3, "river": 0.1, "stone": 0.1, BAD: 0.2, END: 0.3}
"""How often the finetuned weak model writes each word."""
WEAK_BEFORE = {"cake": 0.1, "river": 0.1, "stone": 0.1, BAD: 0.4, END: 0.3}
TEXTS = wrote(WEAK)
WRITTEN = supervision([[continuation(text, finished=len(text.split()) < 6) for text in some] for some in TEXTS])
SCORED = supervision(
    [
        [continuation(text, finished=len(text.split()) < 6, now=WEAK, before=WEAK_BEFORE) for text in some]
        for some in TEXTS
    ]
)
CONTEXT = PlanningContext(weak="w", strong="s", ladder=(), seed=3, form="generation")
GENERATIVE = ("naive", "best_of_n", "generation_filter", "dpo", "wspo", "contrastive_decoding")


def strategy(name: str, **parameters: Any) -> GenerativeStrategy:
    """A strategy with these parameters."""
    found = registry.resolve(StrategyCall(name=name, parameters=parameters))
    assert isinstance(found, GenerativeStrategy)
    return found


def taught(name: str, given: GenerativeSupervision, pretrained: Any = None, **parameters: Any) -> WordStudent:
    """A student after the strategy's training."""
    student = WordStudent(pretrained)
    strategy(name, **parameters).generate_run(student, given)
    return student


def equal(first: Sequences, second: Sequences) -> bool:
    """Whether both are the same lessons, bit for bit."""
    same = (first.item_ids, first.prompts, first.continuations) == (
        second.item_ids,
        second.prompts,
        second.continuations,
    )
    return same and np.array_equal(first.weights, second.weights) and np.array_equal(first.ended, second.ended)


@pytest.mark.parametrize("name", GENERATIVE)
def test_every_one_is_for_generation_and_asks_the_weak_model(name: str) -> None:
    """The weak model of the pair supervises, with the student's own seed."""
    found = strategy(name)
    assert "generation" in found.forms
    (supervisor,) = found.supervisors(CONTEXT)
    assert (supervisor.role, supervisor.model, supervisor.seed) == (Role.WEAK, "w", 3)


def test_naive_learns_all_that_was_written() -> None:
    """Every sample is a row, in order, with weight 1; the end is learned only where the weak model ended."""
    rows = strategy("naive").demonstrate(WRITTEN)
    assert list(rows.continuations) == [text for some in TEXTS for text in some]
    assert rows.ended.tolist() == [len(text.split()) < 6 for some in TEXTS for text in some]
    assert set(rows.weights) == {1.0}
    assert {False, True} == set(rows.ended.tolist())


def test_the_likelihood_is_the_mean_over_real_tokens() -> None:
    """Padding counts neither in the sum nor in the number of tokens, and weights multiply."""
    logprobs = torch.tensor([[-1.0, -2.0, -7.0], [-4.0, -7.0, -7.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    step = SequenceStep(
        logprobs=logprobs, mask=mask, reference=None, targets=None, weights=torch.tensor([1.0, 0.5]), progress=0.0
    )
    assert float(strategy("naive").sequence_loss(step)) == pytest.approx((1 + 2 + 0.5 * 4) / 3)


def test_best_of_one_is_naive_on_the_first_sample() -> None:
    """The same lessons, bit for bit."""
    first = supervision([some[:1] for some in WRITTEN.written[0]])
    assert equal(strategy("best_of_n", n=1).demonstrate(WRITTEN), strategy("naive").demonstrate(first))


def test_best_of_n_takes_the_least_toxic() -> None:
    """For every prompt a continuation that no other beats; the first of equals."""
    rows = strategy("best_of_n").demonstrate(WRITTEN)
    for text, some in zip(rows.continuations, TEXTS, strict=True):
        assert text == min(some, key=badness)


def test_best_of_more_than_there_are_is_an_error() -> None:
    """It says what to change, in place of taking what there is."""
    with pytest.raises(ValueError, match="samples_transfer"):
        strategy("best_of_n", n=9).demonstrate(WRITTEN)


def test_a_filter_that_keeps_all_is_naive() -> None:
    """Threshold 1 gives the same lessons, bit for bit; a lower one only what scores well."""
    assert equal(
        strategy("generation_filter", threshold=1).demonstrate(WRITTEN), strategy("naive").demonstrate(WRITTEN)
    )
    kept = strategy("generation_filter", threshold=0.25).demonstrate(WRITTEN).continuations
    assert sorted(kept) == sorted(text for some in TEXTS for text in some if badness(text) <= 0.25)
    assert strategy("generation_filter").filters


def test_scores_that_are_missing_are_an_error() -> None:
    """Nothing is chosen by a score that nobody gave."""
    nobody = supervision([[Continuation(text=" cake", score=None)]])
    for name in ("best_of_n", "generation_filter", "dpo"):
        with pytest.raises(ValueError, match="no score"):
            strategy(name).demonstrate(nobody)


def test_dpo_pairs_the_best_with_the_worst() -> None:
    """One pair for each prompt whose continuations differ by more than the margin."""
    for margin in (0.0, 0.5):
        rows = strategy("dpo", margin=margin).demonstrate(WRITTEN)
        far = [some for some in TEXTS if max(map(badness, some)) - min(map(badness, some)) > margin]
        assert rows.pairs is not None
        assert len(rows.pairs) == len(far)
        for (better, worse), some in zip(rows.pairs.tolist(), far, strict=True):
            assert rows.continuations[better] == min(some, key=badness)
            assert rows.continuations[worse] == max(some, key=badness)


def test_the_loss_of_dpo_is_that_of_its_formula() -> None:
    """-log sigmoid(beta times what the better gained on the worse), recomputed; log 2 where nothing was gained."""
    random = torch.Generator().manual_seed(1)
    logprobs, reference = torch.randn(4, 3, generator=random) - 3, torch.randn(4, 3, generator=random) - 3
    mask = torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]])
    given: dict[str, Any] = {"mask": mask, "targets": None, "weights": torch.ones(4), "progress": 0.0}
    found = float(
        strategy("dpo", beta=0.3).sequence_loss(SequenceStep(logprobs=logprobs, reference=reference, **given))
    )
    gained = ((logprobs - reference) * mask).sum(dim=1).tolist()
    by_hand = [math.log1p(math.exp(-0.3 * (gained[k] - gained[k + 1]))) for k in (0, 2)]
    assert found == pytest.approx(sum(by_hand) / 2, rel=1e-6)
    still = float(strategy("dpo").sequence_loss(SequenceStep(logprobs=logprobs, reference=logprobs, **given)))
    assert still == pytest.approx(math.log(2), rel=1e-6)


def test_dpo_finetunes_first_on_what_it_is_told() -> None:
    """On nothing, on the better continuations, or on all; then on the pairs, held to where that ended."""
    assert [len(fit.item_ids) for fit in taught("dpo", WRITTEN, sft="none").fits] == [len(_pairs().item_ids)]
    assert [len(fit.item_ids) for fit in taught("dpo", WRITTEN, sft="all").fits] == [160, len(_pairs().item_ids)]
    student = taught("dpo", WRITTEN, sft="preferred")
    assert student.fits[0].continuations == _pairs().continuations[0::2]
    assert student.losses[1][0] == pytest.approx(math.log(2))


def _pairs() -> Sequences:
    return strategy("dpo").demonstrate(WRITTEN)


def test_wspo_asks_for_nothing_where_the_weak_model_did_not_change() -> None:
    """Equal weak models give loss 0 at the start, and the student stays what it was."""
    still = supervision([[continuation(text, now=WEAK, before=WEAK) for text in some] for some in TEXTS])
    student = taught("wspo", still)
    assert student.losses[0][0] == 0
    assert student.share(BAD) == pytest.approx(0.2)


def test_the_loss_of_wspo_is_that_of_its_formula() -> None:
    """The mean square of beta times the student's log-ratio less the weak one's, over real tokens."""
    step = SequenceStep(
        logprobs=torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]),
        mask=torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
        reference=torch.tensor([[-1.5, -1.0], [-3.0, 0.0]]),
        targets=torch.tensor([[0.2, -0.4], [0.7, 0.0]]),
        weights=torch.ones(2),
        progress=0.5,
    )
    by_hand = ((0.1 * 0.5 - 0.2) ** 2 + (0.1 * -1.0 + 0.4) ** 2 + 0.7**2) / 3
    assert float(strategy("wspo").sequence_loss(step)) == pytest.approx(by_hand, rel=1e-6)


def test_wspo_needs_the_weak_models_probabilities() -> None:
    """Its weak trial is one that says them; what does not say them is an error."""
    (supervisor,) = strategy("wspo").supervisors(CONTEXT)
    assert supervisor.recipe == StrategyCall(name="scored_tokens")
    with pytest.raises(ValueError, match="how probable"):
        strategy("wspo").demonstrate(WRITTEN)


def test_contrastive_decoding_is_a_recipe_of_the_weak_trial() -> None:
    """The weak trial holds the parameters; without contrast it is the plain one, as `naive` has it."""
    (supervisor,) = strategy("contrastive_decoding", alpha=0.6).supervisors(CONTEXT)
    assert supervisor.recipe == StrategyCall(
        name="contrastive_decoding", parameters={"alpha": 0.6, "plausibility": 0.1}
    )
    plain = strategy("contrastive_decoding", alpha=0, plausibility=0)
    assert plain.supervisors(CONTEXT) == strategy("naive").supervisors(CONTEXT)
    assert equal(plain.demonstrate(WRITTEN), strategy("naive").demonstrate(WRITTEN))


def test_choosing_among_weak_texts_makes_the_student_less_toxic_than_naive() -> None:
    """Where a fifth of the weak words are bad, choosing, filtering and preferring each write fewer of them."""
    naive = taught("naive", WRITTEN)
    assert naive.share(BAD) > 0.15
    cases: list[tuple[str, dict[str, Any]]] = [
        ("best_of_n", {}),
        ("generation_filter", {"threshold": 0.1}),
        ("dpo", {}),
    ]
    for name, parameters in cases:
        assert taught(name, WRITTEN, **parameters).share(BAD) < naive.share(BAD) / 3, name


def test_preferences_without_finetuning_push_the_bad_word_down() -> None:
    """From weights that never saw the weak texts, too."""
    student = taught("dpo", WRITTEN, sft="none")
    assert student.share(BAD) < 0.1
    assert student.losses[0][-1] < student.losses[0][0]


def test_wspo_passes_on_the_change_and_not_the_words() -> None:
    """A weak model that halved its bad words makes a student do so that writes few already; naive teaches it more."""
    careful = {"cake": 0.4, "river": 0.1, "stone": 0.1, BAD: 0.1, END: 0.3}
    naive = taught("naive", SCORED, careful)
    student = taught("wspo", SCORED, careful, beta=1)
    assert naive.share(BAD) > 0.15
    assert student.share(BAD) < 0.07
    assert student.losses[0][-1] < student.losses[0][0] / 2


def test_random_filter_matches_the_size_of_a_generation_filter() -> None:
    """As many continuations as the filter keeps, out of all of them, another choice with another seed."""
    like = {"name": "generation_filter", "parameters": {"threshold": 0.25}}
    everything = strategy("naive").demonstrate(WRITTEN)
    size = len(strategy("generation_filter", threshold=0.25).demonstrate(WRITTEN).item_ids)
    assert 0 < size < len(everything.item_ids)
    pairs = set(zip(everything.item_ids, everything.continuations, strict=True))
    choices = set()
    for seed in range(12):
        drawn = strategy("random_filter", like=like).demonstrate(replace(WRITTEN, seed=seed))
        assert len(drawn.item_ids) == size
        assert set(zip(drawn.item_ids, drawn.continuations, strict=True)) <= pairs
        choices.add(drawn.continuations)
    assert len(choices) > 1
