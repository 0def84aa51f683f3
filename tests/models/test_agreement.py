"""Agreement of annotators, against published examples and counted another way."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wtsbench.models.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha, pairwise_agreement


def test_the_example_of_fleiss() -> None:
    """14 raters, 10 subjects, 5 categories: Fleiss' textbook table has kappa 0.210."""
    counts = np.array(
        [
            [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
        ]
    )  # fmt: skip
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)


def test_the_example_of_krippendorff() -> None:
    """4 observers, 12 units, missing values: the nominal alpha of Krippendorff's worked example is 0.743."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
    counts = np.array([[column.count(label) for label in range(1, 6)] for column in zip(*observers, strict=True)])
    assert krippendorff_alpha(counts) == pytest.approx(0.743, abs=5e-4)


def test_a_table_of_two_annotators() -> None:
    """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: agreement 0.7, chance 0.5, kappa 0.4."""
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen_kappa(first, second, 2) == pytest.approx(0.4)


labels_of_items = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=12)


@given(labels_of_items)
def test_alpha_by_the_coincidence_matrix(items: list[list[int]]) -> None:
    """Alpha is what the matrix of all ordered pairs of labels of one item gives."""
    coincidences = np.zeros((3, 3))
    for labels in items:
        for one, other in permutations(range(len(labels)), 2):
            coincidences[labels[one], labels[other]] += 1 / (len(labels) - 1)
    size, margins = coincidences.sum(), coincidences.sum(axis=0)
    counts = np.array([[labels.count(label) for label in range(3)] for labels in items])
    found = krippendorff_alpha(counts)
    expected = (size**2 - (margins**2).sum()) / (size - 1) if size else 0.0
    if expected <= 1e-12:
        assert found is None
    else:
        assert found == pytest.approx(1 - (size - np.trace(coincidences)) / expected)


@given(labels_of_items)
def test_agreement_by_counting_pairs(items: list[list[int]]) -> None:
    """Pairwise agreement is the share of equal pairs."""
    pairs = [a == b for labels in items for i, a in enumerate(labels) for b in labels[i + 1 :]]
    counts = np.array([[labels.count(label) for label in range(3)] for labels in items])
    found = pairwise_agreement(counts)
    assert found is None if not pairs else found == pytest.approx(np.mean(pairs))


def test_what_is_not_defined() -> None:
    """Where chance explains everything, or nobody labelled twice, there is no coefficient, rather than 0 or 1."""
    one_class = np.array([[2, 0], [2, 0]])
    assert fleiss_kappa(one_class) is None
    assert krippendorff_alpha(one_class) is None
    assert pairwise_agreement(one_class) == 1
    single = np.array([[1, 0], [0, 1]])
    assert fleiss_kappa(single) is None
    assert krippendorff_alpha(single) is None
    assert pairwise_agreement(single) is None
    assert fleiss_kappa(np.array([[2, 0], [1, 2]])) is None
    assert cohen_kappa(np.zeros(3, int), np.zeros(3, int), 2) is None
    assert cohen_kappa(np.zeros(0, int), np.zeros(0, int), 2) is None
