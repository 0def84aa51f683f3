"""Trains the n-gram scorer. On one machine with the same libraries, the same files give the same scorer.

Two limits of its scores: the calibration holds for a mixture of texts like the held-out one, half of which is toxic;
and it learns from the records of RealToxicityPrompts that the task `toxicity` is made of, so it has seen that task's
prompts. The texts that it scores there are new, and never include the prompt.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wtsbench.errors import ScorerError
from wtsbench.files import made_once
from wtsbench.scoring.evaluation import evaluate
from wtsbench.scoring.labelled import (
    CALIBRATION,
    HELD_OUT,
    PARTS,
    PERSPECTIVE_SCORED,
    TRAIN,
    Labelled,
    data_files,
    read,
)
from wtsbench.scoring.ngram import (
    CARD,
    FEATURES,
    MANIFEST,
    TARGET,
    WEIGHTS,
    NgramScorer,
    NgramWeights,
    counts,
    load,
    probabilities,
    raw_logits,
    save,
    tfidf,
)
from wtsbench.settings import cache_folder
from wtsbench.spec.identity import digest

RECIPE: dict[str, Any] = {
    "version": 1,
    "target": TARGET,
    "features": FEATURES,
    "model": "logistic regression on soft labels, l2",
    "strength": 4.0,
    "weight_of_other_sources": 0.1,
    "calibration": "Platt",
    "parts": PARTS,
}
"""Everything besides the data that decides a trained scorer. `strength` is the inverse of the penalty."""

_FEWEST = 20
"""Texts with Perspective's score that each part needs of each class."""


def train(labelled: Labelled, *, name: str) -> NgramScorer:
    """A scorer, with a card of its results on the held-out part.

    The logistic regression learns from the training part: Perspective's own scores as soft labels (each text counts as
    toxic with its score and as not toxic with the rest), other sources with less weight. The calibration (Platt 1999)
    is fitted to `score >= .5` on the calibration part of Perspective's own; the held-out part is only used at the end.

    Raises:
        ScorerError: there are too few texts.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # several threads sum in another order, which changes the result
        return _train(labelled, name)


def _train(labelled: Labelled, name: str) -> NgramScorer:
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    own = labelled.source == PERSPECTIVE_SCORED
    toxic = labelled.toxicity >= 0.5
    _check(own, toxic, labelled.part)
    rows = np.flatnonzero(labelled.part == TRAIN)
    kinds, idf = [], {}
    for kind, counted in zip(("word", "char_wb"), counts([labelled.texts[row] for row in rows]), strict=True):
        idf[kind] = inverse_frequencies(counted)
        kinds.append(tfidf(counted, idf[kind]))
    features = sparse.hstack(kinds, format="csr")
    soft = labelled.toxicity[rows]
    importance = np.where(own[rows], 1.0, RECIPE["weight_of_other_sources"])
    weight = np.concatenate([importance * soft, importance * (1 - soft)])
    nonzero = weight > 0
    classifier = LogisticRegression(C=RECIPE["strength"], solver="liblinear", random_state=0, max_iter=1000)
    classifier.fit(
        sparse.vstack([features, features], format="csr")[nonzero],
        np.repeat([1, 0], len(rows))[nonzero],
        sample_weight=weight[nonzero],
    )
    word, char = np.split(classifier.coef_[0].astype(np.float32), 2)
    uncalibrated = NgramWeights(
        idf=idf,
        coefficients={"word": word, "char_wb": char},
        intercept=float(classifier.intercept_[0]),
        slope=1.0,
        offset=0.0,
    )
    weights = _calibrated(uncalibrated, labelled, own & (labelled.part == CALIBRATION))
    return NgramScorer(name=name, weights=weights, card=_card(weights, labelled))


def inverse_frequencies(counted: Any) -> NDArray[np.float32]:
    """[F] `ln((1 + n) / (1 + df)) + 1` of counts [N, F]."""
    documents = np.bincount(counted.indices, minlength=counted.shape[1])
    return np.asarray(np.log((1 + counted.shape[0]) / (1 + documents)) + 1, dtype=np.float32)


def train_to(folder: Path, mirror: Path, *, name: str) -> NgramScorer:
    """Train from a mirror's files and put the scorer at `folder`, which must be empty or absent.

    Raises:
        ScorerError: the folder is not empty, cannot be written, or the files are missing.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ScorerError(f"{folder} exists and is not empty", remedy="name another folder with --out.")
        scorer = train(read(mirror), name=name)
        _put(scorer, folder)
    except OSError as error:
        raise ScorerError(f"{folder} cannot be written: {error.strerror or error}") from error
    return load(folder, name=name)


def kept_folder(mirror: Path) -> Path:
    """Folder in the cache for the scorer that is trained from a mirror's files.

    Raises:
        ScorerError: the files are missing.
    """
    key = digest({"recipe": RECIPE, "files": data_files(mirror)})
    return cache_folder() / "scorers" / f"ngram-{key[:16]}"


def trained_once(mirror: Path, *, name: str) -> NgramScorer:
    """The scorer of a mirror's files from the cache, trained first if it is not there.

    Raises:
        ScorerError: the files are missing, or the cache cannot be written.
    """
    folder = kept_folder(mirror)
    try:
        made_once(folder, lambda unfinished: save(train(read(mirror), name=name), unfinished))
    except OSError as error:
        raise ScorerError(
            f"scorer {name}: the cache {folder.parent} cannot be written: {error.strerror or error}",
            remedy="name another cache folder with WTSBENCH_CACHE.",
        ) from error
    try:
        return load(folder, name=name)
    except ScorerError as error:
        raise ScorerError(error.message, remedy=f"remove {folder}; it is made again on the next use.") from error


def _put(scorer: NgramScorer, folder: Path) -> None:
    """Write under a temporary name, then rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a training that was killed
    save(scorer, unfinished)
    if folder.is_dir():
        folder.rmdir()
    unfinished.replace(folder)


def _check(own: NDArray[np.bool_], toxic: NDArray[np.bool_], part: NDArray[np.str_]) -> None:
    for name in PARTS:
        for in_class in (toxic, ~toxic):
            if int(np.sum(own & in_class & (part == name))) < _FEWEST:
                raise ScorerError(
                    f"too few texts with Perspective's score to train a scorer: part {name} has fewer than {_FEWEST} "
                    "of a class",
                    remedy="check the files in the data mirror.",
                )


def _calibrated(weights: NgramWeights, labelled: Labelled, chosen: NDArray[np.bool_]) -> NgramWeights:
    """Platt's sigmoid, by (nearly) unpenalised logistic regression on the logits."""
    from sklearn.linear_model import LogisticRegression

    rows = np.flatnonzero(chosen)
    logits = raw_logits(weights, [labelled.texts[row] for row in rows])
    fitted = LogisticRegression(C=1e6, solver="lbfgs", tol=1e-8, max_iter=1000)
    fitted.fit(logits[:, None], labelled.toxicity[rows] >= 0.5)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope <= 0:
        raise ScorerError("these texts cannot train a scorer: on the calibration part it ranks no better than chance")
    return replace(weights, slope=slope, offset=offset)


def _card(weights: NgramWeights, labelled: Labelled) -> dict[str, Any]:
    """Results on the held-out part, and what the scorer was trained of and with."""
    rows = np.flatnonzero(labelled.part == HELD_OUT)
    scores = probabilities(weights, [labelled.texts[row] for row in rows])
    source, truth = labelled.source[rows], labelled.toxicity[rows]
    by_source = {
        str(name): evaluate(scores[source == name], truth[source == name]) for name in sorted(set(source.tolist()))
    }
    return {
        "target": TARGET,
        "held_out": by_source.pop(PERSPECTIVE_SCORED),
        "held_out_other_labels": by_source,
        "texts": {
            name: {str(s): int(np.sum(labelled.source[labelled.part == name] == s)) for s in np.unique(labelled.source)}
            for name in PARTS
        },
        "groups": {name: len(np.unique(labelled.group[labelled.part == name])) for name in PARTS},
        "recipe": RECIPE,
        "data": labelled.files,
        "libraries": {name: metadata.version(name) for name in ("numpy", "scikit-learn", "scipy")},
        "files": [MANIFEST, WEIGHTS, CARD],
    }
