"""What a model folder's configuration tells before anything is loaded, so that a plan can refuse impossible trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wtsbench.files import read_plain
from wtsbench.json_text import parsed
from wtsbench.spec.trial import ModelRef

ENCODERS = frozenset(
    (
        "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet",
        "roberta", "xlm-roberta",
    )
)  # fmt: skip
"""Common model types in transformers that read a text as a whole. A trial refuses the rarer ones: it asks transformers
itself, which takes seconds to import."""


def writes(model: ModelRef) -> bool | None:
    """Whether a model continues texts; None if its configuration is not on this machine, or does not tell."""
    if model.kind == "embedded":
        return True
    if model.kind != "folder" or model.path is None:
        return None
    config = configuration(Path(model.path))
    return bool(config.get("is_decoder", False)) if str(config.get("model_type")) in ENCODERS else None


def configuration(folder: Path) -> dict[str, Any]:
    """What config.json of a model folder says; empty if it cannot be read, for the trial reports what is wrong."""
    try:
        config = parsed(read_plain(folder / "config.json"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
