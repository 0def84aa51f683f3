"""The n-gram scorer: TF-IDF of words and of characters, a logistic regression, and its calibration.

Shapes: N texts, F hashed features of one kind of n-gram.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtsbench.errors import ScorerError
from wtsbench.files import read_plain
from wtsbench.scoring.base import Scorer, Scores, checked, once_each
from wtsbench.scoring.labelled import normalised
from wtsbench.spec.identity import digest

TARGET = "P(Perspective TOXICITY >= 0.5)"
"""The event whose calibrated probability a score is, so that .5 means the same as for Perspective."""
FEATURES: dict[str, Any] = {
    "normalisation": 2,
    "hash_bits": 18,
    "word": [1, 2],
    "char_wb": [2, 5],
    "tf": "1 + ln(count)",
    "norm": "l2 of each kind",
}
"""Everything that decides the features of a text; part of the scorer's identity."""

MANIFEST, WEIGHTS, CARD = "scorer.json", "weights.npz", "card.json"
_FORMAT = 1
_KINDS = ("word", "char_wb")
_BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class NgramWeights:
    """The result of training."""

    idf: dict[str, NDArray[np.float32]]
    """Kind of n-gram to [F] inverse document frequencies, `ln((1 + n) / (1 + df)) + 1`."""
    coefficients: dict[str, NDArray[np.float32]]
    """Kind of n-gram to [F]."""
    intercept: float
    slope: float
    """Of the calibration (Platt): score = sigmoid(slope * logit + offset)."""
    offset: float

    def digest(self) -> str:
        """SHA-256 over all weights."""
        content: dict[str, Any] = {"intercept": self.intercept, "slope": self.slope, "offset": self.offset}
        for name, array in self.arrays().items():
            content[name] = hashlib.sha256(np.ascontiguousarray(array, dtype="<f4").tobytes()).hexdigest()
        return digest(content)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The arrays by the names they are stored under."""
        named = {f"idf_{kind}": self.idf[kind] for kind in _KINDS}
        return named | {f"coefficients_{kind}": self.coefficients[kind] for kind in _KINDS}


@dataclass(frozen=True, kw_only=True)
class NgramScorer(Scorer):
    """The calibrated probability that Perspective's TOXICITY of the text is .5 or more.

    An empty text, or one of only links, has no n-gram: the intercept alone decides its score.
    """

    name: str
    weights: NgramWeights
    card: dict[str, Any]
    """Its results on held-out texts, and the data it was trained on."""

    def identity(self) -> dict[str, Any]:
        """The target, the features and the weights."""
        return {"kind": "ngram", "target": TARGET, "features": FEATURES, "weights": self.weights.digest()}

    def score(self, texts: Sequence[str]) -> Scores:
        """[N] scores; see the class."""
        distinct, indices = once_each(texts)
        scores = probabilities(self.weights, [normalised(text) for text in distinct])
        return checked(scores[indices], name=self.name, texts=len(texts))


def probabilities(weights: NgramWeights, texts: Sequence[str]) -> Scores:
    """[N] calibrated probabilities of normalised texts."""
    logits = weights.slope * raw_logits(weights, texts)
    return np.asarray(1 / (1 + np.exp(-(logits + weights.offset))))


def raw_logits(weights: NgramWeights, texts: Sequence[str]) -> NDArray[np.float64]:
    """[N] logits of normalised texts before calibration."""
    blocks = [np.empty(0)]
    for start in range(0, len(texts), _BLOCK):
        block = texts[start : start + _BLOCK]
        logits = np.full(len(block), weights.intercept)
        for kind, counted in zip(_KINDS, counts(block), strict=True):
            logits += tfidf(counted, weights.idf[kind]) @ weights.coefficients[kind].astype(np.float64)
        blocks.append(logits)
    return np.concatenate(blocks)


def counts(texts: Sequence[str]) -> Iterator[Any]:
    """Counts of n-grams in normalised texts: one sparse matrix [N, F] for each kind, words first."""
    from sklearn.feature_extraction.text import HashingVectorizer

    shared = {"n_features": 2 ** FEATURES["hash_bits"], "lowercase": False, "norm": None, "alternate_sign": False}
    yield HashingVectorizer(ngram_range=tuple(FEATURES["word"]), token_pattern=r"\S+", **shared).transform(texts)
    yield HashingVectorizer(ngram_range=tuple(FEATURES["char_wb"]), analyzer="char_wb", **shared).transform(texts)


def tfidf(counted: Any, idf: NDArray[np.float32]) -> Any:
    """[N, F] sparse: (1 + ln count) * idf, each row of length 1; a row without n-grams stays 0."""
    from scipy import sparse

    weighted = counted.astype(np.float64)
    weighted.data = (1 + np.log(weighted.data)) * idf.astype(np.float64)[weighted.indices]
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return sparse.csr_matrix(sparse.diags_array(scale) @ weighted)


def save(scorer: NgramScorer, folder: Path) -> None:
    """Write the scorer's three files into a folder, made if it is not there; equal scorers give equal bytes."""
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **scorer.weights.arrays())
    (folder / WEIGHTS).write_bytes(buffer.getvalue())
    plain = {name: getattr(scorer.weights, name) for name in ("intercept", "slope", "offset")}
    described = {"format": _FORMAT, "identity": scorer.identity(), "digest": scorer.digest, "calibration": plain}
    for name, content in ((CARD, scorer.card), (MANIFEST, described)):
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def load(folder: Path, *, name: str) -> NgramScorer:
    """The scorer of a folder that `save` wrote, checked against its digest.

    Raises:
        ScorerError: a file is missing, damaged, or of another version of the features.
    """
    try:
        described = json.loads(read_plain(folder / MANIFEST))
        card = json.loads(read_plain(folder / CARD))
        with np.load(io.BytesIO(read_plain(folder / WEIGHTS)), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        weights = NgramWeights(
            idf={kind: _vector(arrays[f"idf_{kind}"]) for kind in _KINDS},
            coefficients={kind: _vector(arrays[f"coefficients_{kind}"]) for kind in _KINDS},
            **{key: float(value) for key, value in described["calibration"].items()},
        )
        version, stated = described["format"], described["digest"]
    except FileNotFoundError as error:
        raise ScorerError(
            f"scorer {name}: {folder} lacks {Path(os.fsdecode(error.filename or MANIFEST)).name}",
            remedy="name a folder that `wtsbench scorer train` wrote.",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ScorerError(f"scorer {name}: {folder} is damaged: {error}", remedy="train it again.") from error
    scorer = NgramScorer(name=name, weights=weights, card=card)
    if version != _FORMAT or described.get("identity", {}).get("features") != FEATURES:
        raise ScorerError(
            f"scorer {name}: {folder} was written by another version of wtsbench", remedy="train it again."
        )
    if scorer.digest != stated:
        raise ScorerError(
            f"scorer {name}: {folder} is damaged: its weights are not those it was saved with", remedy="train it again."
        )
    return scorer


def _vector(array: Any) -> NDArray[np.float32]:
    if array.shape != (2 ** FEATURES["hash_bits"],) or array.dtype != np.float32 or not np.isfinite(array).all():
        raise ValueError("an array is not a vector of finite numbers, one per feature")
    return np.asarray(array, dtype=np.float32)
