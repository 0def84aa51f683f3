"""Batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wtsbench.trial.batching import Rows, pad, prediction_batches, training_batches


def padding_share(lengths: Sequence[int], batches: Sequence[Rows]) -> float:
    """Share of the padded tokens among all that the model computes on."""
    size = np.asarray(lengths)
    computed = sum(int(size[rows].max()) * len(rows) for rows in batches)
    return 1 - sum(int(size[rows].sum()) for rows in batches) / computed


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, batch_size=st.integers(1, 20), seed=st.integers(0, 5))
def test_every_item_is_in_exactly_one_batch(lengths: list[int], batch_size: int, seed: int) -> None:
    """Training and prediction batches hold every item once, and at most one batch is smaller than asked."""
    for batches in (
        training_batches(lengths, batch_size, np.random.default_rng(seed)),
        prediction_batches(lengths, batch_size),
    ):
        assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
        assert sum(len(rows) != batch_size for rows in batches) <= 1


def test_a_seed_decides_the_order() -> None:
    """The same seed gives the same batches, another seed others."""
    lengths = list(np.random.default_rng(0).integers(1, 50, size=200))

    def flat(seed: int) -> list[int]:
        return [int(i) for i in np.concatenate(training_batches(lengths, 16, np.random.default_rng(seed)))]

    assert flat(3) == flat(3)
    assert flat(3) != flat(4)


def test_little_is_padded() -> None:
    """Bucketing leaves a small part of the padding that random batches of skewed lengths would need."""
    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(3, 0.7, size=1000).astype(int), 1, 256).tolist()
    order = random.permutation(len(lengths))
    at_random = padding_share(lengths, [order[at : at + 16] for at in range(0, len(order), 16)])
    assert padding_share(lengths, training_batches(lengths, 16, random)) < at_random / 4


def test_equal_lengths_are_mixed_between_epochs() -> None:
    """Items of one length meet other neighbours in each epoch."""
    random = np.random.default_rng(0)
    first, second = ({frozenset(map(int, rows)) for rows in training_batches([5] * 64, 4, random)} for _ in range(2))
    assert not first & second


def test_padding_is_on_the_right_and_masked() -> None:
    """Rows keep their tokens at the front; the mask is 1 on exactly these."""
    ids, mask = pad([[5, 6, 7], [8]], 9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
