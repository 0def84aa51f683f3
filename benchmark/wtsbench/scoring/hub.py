"""A sequence classifier from the hub or a folder as a scorer. It runs in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wtsbench.errors import ModelError, ScorerError, ScorerUnavailable
from wtsbench.models.fetch import fetch
from wtsbench.models.resolve import HUB
from wtsbench.models.resolve import resolve as resolve_model
from wtsbench.sandbox.environment import python_path
from wtsbench.scoring.base import Scorer, Scores, checked, once_each
from wtsbench.settings import user_path
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.scorer import HubClassifierSource, ScorerManifest
from wtsbench.spec.trial import ModelRef

_VERSION = 2
_DECIMALS = 6
"""Decimals that scores are rounded to: later ones depend on the other texts in a batch, and on the machine."""


@dataclass(frozen=True, kw_only=True)
class HubScorer(Scorer):
    """The probability that a classifier gives to one of its classes.

    A text is cut on the right at the model's longest input. The empty text is what the tokenizer makes of it:
    its special tokens, or a single special token if it adds none.
    """

    name: str
    model: ModelRef
    source: HubClassifierSource

    def identity(self) -> dict[str, Any]:
        """The weights, by commit or by their digest; the class and how its logit becomes a probability."""
        return {
            "kind": "hub",
            "version": _VERSION,
            "model": self.model.id if self.model.kind == "hub" else None,
            "revision": self.model.revision,
            "label": self.source.label,
            "activation": self.source.activation,
            "max_length": self.source.max_length,
        }

    def score(self, texts: Sequence[str]) -> Scores:
        """[N] scores; see the class. The model is downloaded if necessary.

        Raises:
            ScorerUnavailable: the process was killed, or the machine is at fault.
            ScorerError: the model cannot be fetched, or is no classifier with this class.
        """
        if not texts:
            return np.empty(0)
        distinct, indices = once_each(texts)
        try:
            folder = fetch(self.model)
        except ModelError as error:
            raise ScorerError(f"scorer {self.name}: {error.message}", remedy=error.remedy) from error
        with tempfile.TemporaryDirectory(prefix="wtsbench-scorer-") as work:
            scores = self._classify(folder, distinct, Path(work))
        return checked(np.round(scores, _DECIMALS)[indices], name=self.name, texts=len(texts))

    def _classify(self, model: Path, texts: list[str], work: Path) -> Scores:
        request = {
            "model": str(model),
            "label": self.source.label,
            "activation": self.source.activation,
            "max_length": self.source.max_length,
            "batch_size": self.source.batch_size,
            "threads": len(os.sched_getaffinity(0)),
        }
        (work / "request.json").write_text(json.dumps(request), "utf-8")
        (work / "texts.json").write_text(json.dumps(texts), "utf-8")
        process = subprocess.run(
            [sys.executable, "-m", "wtsbench.trial.classify", str(work)],
            env={**os.environ, "PYTHONPATH": python_path()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if process.returncode == 0:
            return np.asarray(np.load(work / "scores.npy", allow_pickle=False), dtype=np.float64)
        if process.returncode == 1 and (work / "failure.json").is_file():
            raise self._failed(Failure.model_validate_json((work / "failure.json").read_text("utf-8")))
        last_lines = process.stdout.strip().splitlines()[-15:]
        raise ScorerUnavailable(
            f"scorer {self.name}: its process ended with exit code {process.returncode}",
            remedy="\n  ".join(["its last output:", *last_lines])
            if last_lines
            else "was it killed for lack of memory?",
        )

    def _failed(self, failure: Failure) -> ScorerError:
        if failure.failure_class is FailureClass.INFRASTRUCTURE:
            return ScorerUnavailable(f"scorer {self.name}: {failure.message}")
        remedy = None
        if failure.failure_class is FailureClass.OUT_OF_MEMORY:
            remedy = "lower batch_size or max_length in its manifest."
        return ScorerError(f"scorer {self.name}: {failure.message}", remedy=remedy)


def resolve_hub(
    manifest: ScorerManifest, source: HubClassifierSource, *, folder: Path, mirror: Path | None
) -> HubScorer:
    """The scorer with its exact weights: a branch is resolved to a commit, a folder to its digest.

    Raises:
        ScorerError: the model cannot be found or is not usable.
    """
    if source.path is not None:
        model_name, base = source.path, folder
    elif mirror is not None and manifest.mirror is not None and (mirror / manifest.mirror).is_dir():
        model_name, base = manifest.mirror, mirror
    else:
        model_name, base = f"{HUB}{source.hub}@{source.revision}", folder
    if not model_name.startswith(HUB):
        model_name = str((base / user_path(model_name)).resolve())
    try:
        model, _ = resolve_model(model_name, base=base)
    except ModelError as error:
        raise ScorerError(f"scorer {manifest.name}: {error.message}", remedy=error.remedy) from error
    return HubScorer(name=manifest.name, model=model, source=source)
