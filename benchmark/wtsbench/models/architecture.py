"""Whether a model can continue texts, from its configuration alone, so that a plan can refuse impossible trials."""

from __future__ import annotations

import json
from pathlib import Path

from wtsbench.files import read_plain
from wtsbench.spec.trial import ModelRef

ENCODERS = frozenset(
    (
        "albert",
        "bert",
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "modernbert",
        "mpnet",
        "roberta",
        "xlm-roberta",
    )
)
"""Common model types in transformers that read a text as a whole. A trial refuses the rarer ones: it asks transformers
itself, which takes seconds to import."""


def writes(model: ModelRef) -> bool | None:
    """Whether a model continues texts; None if its configuration is not on this machine, or does not tell."""
    if model.kind == "embedded":
        return True
    folder = Path(model.path) if model.kind == "folder" and model.path is not None else None
    if folder is None:
        return None
    try:
        config = json.loads(read_plain(folder / "config.json"))
    except (OSError, ValueError):  # the trial reports what is wrong with it
        return None
    if not isinstance(config, dict) or config.get("model_type") not in ENCODERS:
        return None
    return bool(config.get("is_decoder", False))
