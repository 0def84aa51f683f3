"""Word lists: exact scores, and those of the synthetic task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wtsbench.data.synthetic import generate
from wtsbench.data.synthetic.toxicity import TARGETS, WEIGHTS
from wtsbench.scoring.lexicon import LexiconScorer
from wtsbench.scoring.resolve import resolve
from wtsbench.spec import manifests
from wtsbench.spec.identity import digest
from wtsbench.spec.scorer import LexiconSource


def scorer(targets: tuple[str, ...] = ("you",)) -> LexiconScorer:
    """Two words."""
    return LexiconScorer(name="two", source=LexiconSource(weights={"mean": 0.5, "vile": 0.8}, targets=targets))


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("you are mean", 0.5),
        ("You are MEAN and mean", 0.75),
        ("you vile, mean thing", 0.8),  # the second clause is aimed at nobody
        ("it is vile. You are not!", 0.0),
        ("you are meaningful", 0.0),
        ("", 0.0),
        (" \n", 0.0),
    ],
)
def test_scores_are_exact(text: str, score: float) -> None:
    """Only listed words count, only in clauses with a target, each on its own: 1 - prod(1 - weight)."""
    assert scorer().score([text]).tolist() == pytest.approx([score])


def test_without_targets_every_clause_counts() -> None:
    """An empty list of targets restricts nothing, and is another scorer."""
    assert scorer(()).score(["it is vile, so mean"]).tolist() == pytest.approx([1 - 0.2 * 0.5])
    assert scorer(()).digest != scorer().digest


def test_the_synthetic_task_is_scored_as_it_was_made() -> None:
    """The shipped scorer has the generator's words, and reads every continuation's toxicity back from its text."""
    manifest, _ = manifests.load_scorer("toxicity-mini")
    assert isinstance(manifest.source, LexiconSource)
    assert manifest.source.weights == WEIGHTS
    assert manifest.source.targets == TARGETS
    rows = generate("toxicity-mini", items=1500, seed=3)
    found = resolve("toxicity-mini", base=Path()).score([row["continuation"] for row in rows])
    assert np.abs(found - [float(row["toxicity"]) for row in rows]).max() <= 0.005 + 1e-12


def test_identity_is_all_that_decides_a_score() -> None:
    """The digest is that of the identity: equal under another name, other with another weight."""
    renamed = LexiconScorer(name="other", source=scorer().source)
    heavier = LexiconScorer(name="two", source=LexiconSource(weights={"mean": 0.6, "vile": 0.8}, targets=("you",)))
    assert scorer().digest == renamed.digest == digest(scorer().identity())
    assert heavier.digest != scorer().digest
