"""Which weights a trial computes with: measured by the trial itself, and held against its plan before it trains."""

from __future__ import annotations

import hashlib
from pathlib import Path

from wtsbench.models.layout import PICKLED, SAFETENSORS, content_digests, matching, revision_of, stamps
from wtsbench.spec.trial import ModelRef
from wtsbench.trial.faults import UnusableModelError


class Weights:
    """A model folder as it was when the trial began.

    Raises:
        UnusableModelError: the model is a folder, and its files are not those that the trial was planned with.
    """

    def __init__(self, folder: Path, model: ModelRef) -> None:
        self._folder, self._name = folder, model.name
        self._stamps = stamps(folder)
        self._digests = content_digests(folder)
        found = revision_of(self._digests)
        if model.kind == "folder" and found != model.revision:
            raise UnusableModelError(
                f"the weights are not those of the plan: the files of model {model.name} have revision {found[:12]}, "
                f"planned was {model.revision[:12]}; submit the grid again"
            )

    @property
    def sha256(self) -> str:
        """Of the weights: of the one file, or of the digests of its shards in order of name."""
        names = matching(self._digests, SAFETENSORS) or matching(self._digests, PICKLED)
        digests = [self._digests[name] for name in sorted(names) if not name.endswith(".index.json")]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def require_unchanged(self) -> None:
        """Refuse a result whose model was changed between its measurement and the end.

        Raises:
            UnusableModelError: it was.
        """
        if stamps(self._folder) != self._stamps and content_digests(self._folder) != self._digests:
            raise UnusableModelError(f"the files of model {self._name} were changed while the trial ran")
