"""Scorers by name, and what a manifest may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wtsbench.errors import ScorerError, SpecError
from wtsbench.scoring.base import checked, once_each
from wtsbench.scoring.resolve import resolve
from wtsbench.spec import manifests
from wtsbench.spec.scorer import ScorerManifest


def test_shipped_manifests_are_valid() -> None:
    """Every shipped scorer loads under its own name, and there is one of each kind."""
    kinds = {manifests.load_scorer(name)[0].source.kind for name in manifests.names("scorers")}
    assert kinds == {"lexicon", "ngram", "hub"}


def test_a_typo_names_the_nearest() -> None:
    """A name that is not known is told with the one that was meant."""
    with pytest.raises(SpecError, match="did you mean 'toxicity-mini'"):
        resolve("toxicity-min", base=Path())


def test_a_folder_that_is_no_scorer(tmp_path: Path) -> None:
    """A folder without a scorer is told with what it lacks."""
    with pytest.raises(ScorerError, match=r"lacks scorer\.json"):
        resolve("./nothing", base=tmp_path)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"kind": "lexicon", "weights": {}}, "at least 1"),
        ({"kind": "lexicon", "weights": {"Bad": 0.5}}, "lower-case"),
        ({"kind": "lexicon", "weights": {"two words": 0.5}}, "one word"),
        ({"kind": "lexicon", "weights": {"bad": 1.5}}, "less than or equal to 1"),
        ({"kind": "ngram", "digest": "short"}, "digest"),
    ],
)
def test_a_wrong_source_is_refused(source: dict[str, Any], told: str) -> None:
    """What a source must not say is told."""
    with pytest.raises(ValueError, match=told):
        ScorerManifest.model_validate({"name": "x", "summary": "x", "source": source})


@pytest.mark.parametrize("bad", [[0.5], [0.5, float("nan")], [0.5, 1.1], [-0.1, 0.5]])
def test_scores_outside_the_contract_are_refused(bad: list[float]) -> None:
    """Too few scores, NaN, or one outside [0, 1] is an error, and no number."""
    with pytest.raises(ScorerError):
        checked(np.array(bad), name="x", texts=2)


def test_rounding_errors_are_cut_off() -> None:
    """A hair beyond 0 or 1 is 0 or 1."""
    assert checked(np.array([-1e-12, 1 + 1e-12]), name="x", texts=2).tolist() == [0.0, 1.0]


def test_once_each() -> None:
    """Repeated texts are there once, and each text finds its own."""
    different, which = once_each(["a", "b", "a"])
    assert different == ["a", "b"]
    assert [different[i] for i in which] == ["a", "b", "a"]
