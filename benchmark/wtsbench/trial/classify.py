"""A finished classifier's scores of texts, in a process of its own: torch is imported in this room only.

    python -m wtsbench.trial.classify FOLDER

reads `request.json` and `texts.json` (a list of strings) in FOLDER and writes `scores.npy`, float64, one a text; where
it fails, `failure.json` with a failure's class and message.

Shapes: N texts, B texts of a batch, C classes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from wtsbench.spec.frozen import Frozen

REQUEST, TEXTS, SCORES, FAILURE = "request.json", "texts.json", "scores.npy", "failure.json"


class Request(Frozen):
    """What to score with."""

    model: str
    """A folder in Hugging Face layout, with a trained head."""
    label: str | int
    """The class whose probability is asked for: its name in the configuration, or its index."""
    activation: Literal["auto", "softmax", "sigmoid"]
    max_length: int
    batch_size: int
    threads: int


def scores(request: Request, texts: Sequence[str]) -> Any:
    """[N] float64 probabilities of the class, in [0, 1]; float32 arithmetic, on a GPU where there is one.

    Texts are batched by length, longest first, and cut on the right at what the model can take in.

    Raises:
        UnusableModelError: the folder holds no trained classifier, or none with this class.
        DivergedError: the model gives NaN.
    """
    import numpy as np
    import torch

    from wtsbench.trial.batching import pad, prediction_batches
    from wtsbench.trial.faults import DivergedError
    from wtsbench.trial.models import load_tokenizer

    torch.set_num_threads(request.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = Path(request.model)
    tokenizer = load_tokenizer(folder, request.max_length)
    classifier, config = _trained(folder)
    classifier.to(device).eval()
    which, sigmoid = _class_of(request, config)
    rows = tokenizer.encode(list(texts))
    found = np.full(len(rows), np.nan)
    with torch.inference_mode():
        for batch in prediction_batches([len(row) for row in rows], request.batch_size):
            ids, mask = pad([rows[i] for i in batch], tokenizer.pad_id)
            logits = classifier(ids.to(device), mask.to(device)).double()  # [B, C]
            probabilities = torch.sigmoid(logits) if sigmoid else torch.softmax(logits, dim=-1)
            found[batch] = probabilities[:, which].cpu().numpy()
    if np.isnan(found).any():
        raise DivergedError("the classifier gives NaN")
    return found


def _trained(folder: Path) -> tuple[Any, Any]:
    """The classifier of a folder with the head it was saved with, and its configuration."""
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    from wtsbench.trial.classifier import Classifier
    from wtsbench.trial.faults import UnusableModelError

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnusableModelError(f"the classifier cannot be loaded: {first}") from error
    absent = sorted(info["missing_keys"])
    if absent:
        raise UnusableModelError(f"the weights are not those of a trained classifier: they lack {absent[0]}")
    return Classifier(model), model.config


def _class_of(request: Request, config: Any) -> tuple[int, bool]:
    """The index of the class asked for, and whether its probability is a sigmoid of its own logit."""
    from wtsbench.trial.faults import UnusableModelError

    names = {int(index): str(name) for index, name in config.id2label.items()}
    if isinstance(request.label, int):
        which = request.label if request.label in names else None
    else:
        which = next((index for index, name in names.items() if name == request.label), None)
    if which is None:
        known = ", ".join(f"{index} {name}" for index, name in sorted(names.items()))
        raise UnusableModelError(f"the classifier has no class {request.label!r}; it has {known}")
    several = config.problem_type == "multi_label_classification" or len(names) == 1
    return which, several if request.activation == "auto" else request.activation == "sigmoid"


def main(arguments: Sequence[str]) -> int:
    """Score the texts of a folder: 0 done, 1 failed with `failure.json`, 2 wrong use, anything else no result."""
    if len(arguments) != 1 or not (Path(arguments[0]) / REQUEST).is_file():
        print("usage: python -m wtsbench.trial.classify FOLDER   (with request.json and texts.json)", file=sys.stderr)
        return 2
    from wtsbench.trial import environment

    environment.prepare()
    import numpy as np

    from wtsbench.trial.faults import failure_of

    folder = Path(arguments[0])
    request = Request.model_validate_json((folder / REQUEST).read_text("utf-8"))
    texts = json.loads((folder / TEXTS).read_text("utf-8"))
    try:
        found = scores(request, texts)
    except Exception as error:  # noqa: BLE001  # every failure has a class; the caller tells it
        (folder / FAILURE).write_text(failure_of(error).model_dump_json(), "utf-8")
        return 1
    np.save(folder / SCORES, found, allow_pickle=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
