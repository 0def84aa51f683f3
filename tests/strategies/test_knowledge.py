"""Strategies that use more than the weak labels, against code that shares nothing with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from tests.strategies.students import LinearStudent, Recorder, supervision, texts_of
from tests.strategies.test_formulas import SEEDS, batch, numpy_softmax, step
from tests.strategies.test_losses import made
from wtsbench.errors import SpecError
from wtsbench.spec.generation import ZeroShot
from wtsbench.spec.trial import Role
from wtsbench.strategies import prior, recipes
from wtsbench.strategies.base import Floats, Labelled, PlanningContext, Strategy, Supervision, Supervisor
from wtsbench.strategies.noisy_channel import NoisyChannel
from wtsbench.strategies.trust import Trust

ASKING = ZeroShot(prompt="{text} Is it?", answers={"a": " no", "b": " yes"})
CONTEXT = PlanningContext(weak="small", strong="large", ladder=(), seed=4, zero_shot=ASKING)
PLAIN = Supervisor(role=Role.WEAK, model="small", seed=4)
UNTRAINED = Supervisor(role=Role.WEAK, model="large", seed=0, recipe=recipes.call(recipes.Prior(**dict(ASKING))))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 20), classes=st.integers(2, 4), hard=st.booleans())
def test_reverse_kl(seed: int, size: int, classes: int, hard: bool) -> None:
    """The loss is the mean of u KL(f || w), class by class, with w kept off 0; the gradient is that of the formula."""
    logits, targets, weights = batch(seed, size, classes)
    if hard:
        targets = np.eye(classes)[targets.argmax(axis=1)]
    own, losses, slopes = numpy_softmax(logits), [], []
    for f, w, u in zip(own, targets, weights, strict=True):
        raised = [max(p, 0.01) for p in w]
        ratios = [np.log(p * sum(raised) / q) for p, q in zip(f, raised, strict=True)]
        divergence = sum(p * r for p, r in zip(f, ratios, strict=True))
        losses.append(u * divergence)
        slopes.append([u * p * (r - divergence) / size for p, r in zip(f, ratios, strict=True)])
    given_step = step(logits, targets, weights, 0.5)
    loss = made("reverse_kl", floor=0.01).loss(given_step)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-9, abs=1e-12)
    assert given_step.logits.grad is not None
    assert given_step.logits.grad.numpy() == pytest.approx(np.array(slopes), rel=1e-7, abs=1e-12)


def decoded(weak: Floats, own: Floats, *, weight: float, smoothing: float, rounds: int) -> Floats:
    """Expectation-maximisation, item by item and class by class."""
    size, classes = weak.shape
    both = [(y, said) for y in range(classes) for said in range(classes)]
    r = [{(y, said): weak[i, said] * (weak[i, y] + own[i, y]) / 2 for y, said in both} for i in range(size)]
    for _ in range(rounds):
        channel = {}
        for y, said in both:
            whole = sum(r[i][y, other] for i in range(size) for other in range(classes))
            channel[y, said] = (smoothing + sum(r[i][y, said] for i in range(size))) / (classes * smoothing + whole)
        for i in range(size):
            likely = {(y, said): own[i, y] ** weight * channel[y, said] * weak[i, said] for y, said in both}
            r[i] = {key: value / sum(likely.values()) for key, value in likely.items()}
    return np.array([[sum(row[y, said] for said in range(classes)) for y in range(classes)] for row in r])


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, classes=st.integers(2, 4), rounds=st.integers(1, 6), weight=st.sampled_from([0.0, 0.5, 1.0]))
def test_noisy_channel(seed: int, classes: int, rounds: int, weight: float) -> None:
    """The labels are those of the algorithm written out item by item."""
    random = np.random.default_rng(seed)
    weak, own = (random.dirichlet(np.ones(classes), size=15) for _ in range(2))
    channel = made("noisy_channel", prior_weight=weight, smoothing=0.5, iterations=rounds)
    found = channel.prepare(supervision([f"{i}" for i in range(15)], weak, own)).targets
    expected = decoded(weak, own, weight=weight, smoothing=0.5, rounds=rounds)
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_channel_is_seen_through() -> None:
    """A weak model that takes half of one class for the other is put right by a prior that is right more often."""
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1], 500)
    said = np.where((truth == 0) & (random.random(1000) < 0.5), 1, truth)
    own = np.where(random.random(1000) < 0.8, truth, 1 - truth)
    weak, sure = np.eye(2)[said] * 0.9 + 0.05, np.eye(2)[own] * 0.6 + 0.2
    channel = made("noisy_channel")
    assert isinstance(channel, NoisyChannel)
    found = channel.decoded(weak, sure).argmax(axis=1)
    assert (found == truth).mean() > max((said == truth).mean(), (own == truth).mean()) + 0.05
    assert (
        made("noisy_channel", labels="hard")
        .prepare(supervision([f"{i}" for i in range(1000)], weak, sure))
        .targets.tolist()
        == np.eye(2)[found].tolist()
    )


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, penalty=st.sampled_from([0.01, 0.1, 1.0]))
def test_the_probability_that_a_label_is_right(seed: int, penalty: float) -> None:
    """It is that of scikit-learn's logistic regression on features standardised by those it learns from."""
    random = np.random.default_rng(seed)
    known, wanted = random.normal(3, 2, size=(40, 5)), random.normal(3, 2, size=(7, 5))
    right = known @ random.normal(size=5) + random.normal(size=40) > np.median(known.sum(axis=1))
    if right.all() or not right.any():
        return
    mean, spread = known.mean(axis=0), known.std(axis=0)
    # Two weight vectors with a penalty each are one of their difference with half the penalty.
    model = LogisticRegression(C=2 / (penalty * 40), tol=1e-10, max_iter=10_000).fit((known - mean) / spread, right)
    expected = model.predict_proba((wanted - mean) / spread)[:, 1]
    assert prior.probability_right(known, right, wanted, penalty) == pytest.approx(expected, abs=1e-4)


def test_nothing_to_tell_apart() -> None:
    """Where every known label is right, the surest of the others are trusted most."""
    known, wanted = np.ones((3, 2)), np.array([[5.0, 0.6], [1.0, 0.9]])
    assert prior.probability_right(known, np.ones(3, dtype=bool), wanted, 0.1).tolist() == [0.6, 0.9]


class Marked:
    """Items whose second number says where the weak model errs, and a third of which is labelled."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        first, mark = random.normal(size=600), random.random(600) < 0.3
        self.truth = (first > 0).astype(int)
        said = np.where(mark, 1 - self.truth, self.truth)
        self.texts = texts_of(np.stack([first, np.where(mark, 2.0, -2.0)], axis=1))
        self.weak = np.eye(2)[said] * 0.8 + 0.1
        self.wrong = mark

    def given(self, *labels: Floats) -> Supervision:
        """The first 400 items to learn from, the others as the labelled ones."""
        every = labels or (self.weak,)
        truth = Labelled(
            item_ids=tuple(f"t{i}" for i in range(200)),
            texts=self.texts[400:],
            targets=np.eye(2)[self.truth[400:]],
            weights=np.ones(200),
        )
        plain = supervision(self.texts[:400], *(each[:400] for each in every))
        return replace(plain, truth=truth, said_of_truth=np.stack([each[400:] for each in every]))


def learned(strategy: Strategy, given_labels: Supervision) -> Labelled:
    """What the student was trained on last."""
    student = Recorder(2)
    strategy.run(student, given_labels)
    return student.items


def test_trust_keeps_the_labels_that_are_right() -> None:
    """Where errors can be told by the item, the kept items have hardly any; without trust a third of them are wrong."""
    world = Marked(0)
    items = learned(made("trust", labelled=200, keep=0.5), world.given())
    kept = [int(item[1:]) for item in items.item_ids]
    assert len(kept) == 200 == made("trust", keep=0.5).kept(world.given())
    assert world.wrong[kept].mean() < 0.02 < 0.25 < world.wrong[:400].mean()
    assert items.targets == pytest.approx(world.weak[kept])


def test_a_chain_of_trust_goes_on_with_the_students_labels() -> None:
    """The second student learns the items that are trusted of what the first one says, from the start."""
    world = Marked(1)
    trust = made("trust", labelled=200, keep=0.5, rounds=2)
    assert isinstance(trust, Trust)
    first, second, third = (LinearStudent(2, steps=40) for _ in range(3))
    made("trust", labelled=200, keep=0.5).run(first, world.given())
    trust.run(second, world.given())
    given_labels = world.given()
    assert given_labels.truth is not None
    said, of_truth = (first.predict(texts) for texts in (given_labels.texts, given_labels.truth.texts))
    seen, activations = (first.activations(texts) for texts in (given_labels.truth.texts, given_labels.texts))
    kept = trust.trusted(seen, of_truth, given_labels.truth.targets, activations, said)
    third.fit(trust.prepare(replace(given_labels, probabilities=said[None])).subset(kept), trust)
    assert second.predict(world.texts) == pytest.approx(third.predict(world.texts))
    assert second.predict(world.texts) != pytest.approx(first.predict(world.texts), abs=1e-5)


def test_selective_answers_itself_where_it_knows() -> None:
    """Where the strong model knows the answer its own is the label, and the weak label elsewhere."""
    world = Marked(3)
    own = np.where(world.wrong, world.truth, 1 - world.truth)  # it knows just what the weak model does not
    answers = np.eye(2)[own] * 0.2 + 0.4
    items = learned(made("selective", labelled=200), world.given(world.weak, answers))
    wrong = world.wrong[:400]
    assert items.targets[wrong] == pytest.approx(np.eye(2)[world.truth[:400]][wrong])
    assert items.targets[~wrong] == pytest.approx(world.weak[:400][~wrong])
    assert len(items.item_ids) == 400


def test_no_own_answer_is_taken_at_a_threshold_that_none_reaches() -> None:
    """The labels are those of `naive`."""
    world = Marked(4)
    noise = np.random.default_rng(4).dirichlet(np.ones(2), size=600)
    items = learned(made("selective", threshold=1.0), world.given(world.weak, noise))
    assert items.targets == pytest.approx(world.weak[:400])


def test_self_labels_are_the_answers() -> None:
    """By default the likeliest answer; with `soft` the probabilities."""
    said = np.array([[0.4, 0.6], [0.51, 0.49]])
    given_labels = supervision(["1", "2"], said)
    assert made("self_labels").prepare(given_labels).targets.tolist() == [[0, 1], [1, 0]]
    assert made("self_labels", labels="soft").prepare(given_labels).targets.tolist() == said.tolist()


def test_whom_they_learn_from() -> None:
    """The untrained strong model is asked once for all seeds; what a task does not say how to ask is refused."""
    assert made("reverse_kl").supervisors(CONTEXT) == (PLAIN,)
    assert made("selective").supervisors(CONTEXT) == made("noisy_channel").supervisors(CONTEXT) == (PLAIN, UNTRAINED)
    assert made("self_labels").supervisors(CONTEXT) == (UNTRAINED,)
    kept_out = recipes.call(recipes.Reserved(items=60))
    assert made("trust", labelled=60).supervisors(CONTEXT) == (replace(PLAIN, recipe=kept_out),)
    for name in ("selective", "noisy_channel", "self_labels"):
        with pytest.raises(SpecError, match=f"strategy {name}: the task does not say how an untrained model is asked"):
            made(name).supervisors(replace(CONTEXT, zero_shot=None))


def test_matched_controls() -> None:
    """Filters are held against a random choice, what asks the strong model against its answers alone."""
    expected = {"trust": "random_filter", "confidence_filter": "random_filter", "selective": "self_labels"}
    expected |= {"noisy_channel": "self_labels"}
    unmatched = ("naive", "reverse_kl", "self_labels", "random_filter")
    assert {name: made(name).matched for name in (*expected, *unmatched)} == expected | dict.fromkeys(unmatched)
