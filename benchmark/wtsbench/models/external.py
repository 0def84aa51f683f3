"""Supervisors that wtsbench does not train: a file of labels, or a prompted model behind an endpoint.

Both are resolved when a grid is planned. Their predictions are taken outside the sandbox, in place of a trial.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wtsbench.errors import ModelError
from wtsbench.models import endpoint, label_file
from wtsbench.spec.model import Endpoint, LabelFile, ModelManifest
from wtsbench.spec.trial import ModelRef

Floats = NDArray[np.float64]
PREDICTIONS = pa.schema(
    [("split", pa.string()), ("item_id", pa.string()), ("probabilities", pa.list_(pa.float64()))],
)
_EXAMPLES = 5
"""Number of answers without a class that the statistics quote."""


def reference(manifest: ModelManifest, path: Path) -> ModelRef:
    """The supervisor of a manifest, resolved to the digest of everything that decides its labels.

    Args:
        manifest: one whose source is `labels` or `endpoint`.
        path: the manifest's file; a relative path to the labels starts from its folder.

    Raises:
        ModelError: the file of labels cannot be read.
    """
    source = manifest.source
    assert source is not None, "the manifest names labels or an endpoint"
    if source.labels is not None:
        return ModelRef(
            name=manifest.name,
            kind="labels",
            id=Path(source.labels.path).name,
            revision=label_file.revision(source.labels, path.parent, what=f"model {manifest.name}"),
            path=str(path.resolve()),
        )
    assert source.endpoint is not None, "the manifest names labels or an endpoint"
    return ModelRef(
        name=manifest.name,
        kind="endpoint",
        id=source.endpoint.model,
        revision=endpoint.revision(source.endpoint),
        path=str(path.resolve()),
    )


def check(ref: ModelRef, items: pa.Table, labels: tuple[str, ...]) -> None:
    """Find in advance what `predict` would refuse: items without a label, classes that are not the task's.

    An endpoint is not asked. Arguments as for `predict`.

    Raises:
        ModelError: `predict` would raise it, whatever an endpoint answers.
    """
    source, folder, what = _source(ref)
    if isinstance(source, LabelFile):
        _from_file(source, folder, items, labels, what)
    else:
        _check_answers(source, labels, what)


def require_access(ref: ModelRef) -> None:
    """Check that the key of an endpoint exists, if its manifest names one.

    Raises:
        ModelError: it does not exist.
    """
    source, folder, what = _source(ref)
    if isinstance(source, Endpoint):
        endpoint.read_key(source, folder, what=what)


def predict(ref: ModelRef, items: pa.Table, labels: tuple[str, ...]) -> tuple[pa.Table, dict[str, Any]]:
    """The predictions of a supervisor of kind `labels` or `endpoint` on items.

    Args:
        ref: from `reference`; its manifest is read again.
        items: item_id, split, text; further columns are ignored. Every item is predicted, whatever its split.
        labels: the task's class names.

    Returns:
        A table of split, item_id, probabilities (one row per item, in the order of `items`), and statistics that can
        be written as JSON: `kind`, `coverage` by split, and
        labels: `sha256` of the file, how many rows, annotators and labels per item, class shares, `pairwise_agreement`,
        `cohen_kappa`, `fleiss_kappa`, `krippendorff_alpha`, `one_annotator_share`; null where not defined.
        endpoint: `url`, `model`, how many answers were read from `logprobs` or `text` or were `unreadable` (by split,
        with examples), how many were `from_cache`.

    Raises:
        ModelError: the file has no label for some of the items (the message counts them by split), the file or the
            manifest has changed since planning, or the endpoint does not answer.
    """
    source, folder, what = _source(ref)
    if isinstance(source, LabelFile):
        values, statistics = _from_file(source, folder, items, labels, what)
    else:
        values, statistics = _from_endpoint(source, folder, items, labels, what)
    columns = [items["split"].cast(pa.string()), items["item_id"].cast(pa.string()), pa.array(values.tolist())]
    table = pa.table(columns, names=PREDICTIONS.names).cast(PREDICTIONS)
    sizes = Counter(items["split"].to_pylist())
    coverage = {split: {"items": count, "labelled": count} for split, count in sorted(sizes.items())}
    return table, {"kind": ref.kind, "coverage": coverage, **statistics}


def _source(ref: ModelRef) -> tuple[LabelFile | Endpoint, Path, str]:
    """What the supervisor's manifest, read again, names; the manifest's folder; and the name in messages."""
    from wtsbench.spec.yaml_file import load

    assert ref.path is not None, "a supervisor that is not trained has a manifest"
    path, what = Path(ref.path), f"model {ref.name}"
    manifest = load(path, ModelManifest)
    source = None if manifest.source is None else manifest.source.labels or manifest.source.endpoint
    if source is None or reference(manifest, path).revision != ref.revision:
        raise ModelError(f"{what}: its manifest or file has changed since the grid was planned", remedy="submit again.")
    return source, path.parent, what


def _check_answers(source: Endpoint, labels: tuple[str, ...], what: str) -> None:
    if set(source.answers) != set(labels):
        raise ModelError(
            f"{what}: answers are given for {', '.join(source.answers)}; the task's classes are {', '.join(labels)}",
            remedy="give a word for each class of the task in `endpoint.answers`.",
        )


def _from_file(
    source: LabelFile, folder: Path, items: pa.Table, labels: tuple[str, ...], what: str
) -> tuple[Floats, dict[str, Any]]:
    file_labels = label_file.load(source, folder, labels, what=what)
    keys = [
        file_labels.key_of(item, text)
        for item, text in zip(items["item_id"].to_pylist(), items["text"].to_pylist(), strict=True)
    ]
    distributions = [file_labels.distribution(key) for key in keys]
    splits = items["split"].to_pylist()
    sizes = Counter(splits)
    missing = Counter(split for split, distribution in zip(splits, distributions, strict=True) if distribution is None)
    if missing:
        counts = ", ".join(f"{count} of {sizes[split]} items of {split}" for split, count in sorted(missing.items()))
        raise ModelError(
            f"{what}: {Path(source.path).name} has no label for {counts}",
            remedy="add them to the file; an item is identified by "
            + ("its text, as `text` says." if file_labels.by_text else "wtsbench's item id, as `item_id` says."),
        )
    statistics = {"sha256": label_file.file_sha256(source, folder, what=what)}
    values = np.array([distribution for distribution in distributions if distribution is not None]).reshape(
        -1, len(labels)
    )
    return values, statistics | label_file.statistics(file_labels, keys, len(labels))


def _from_endpoint(
    source: Endpoint, folder: Path, items: pa.Table, labels: tuple[str, ...], what: str
) -> tuple[Floats, dict[str, Any]]:
    _check_answers(source, labels, what)
    texts, splits = items["text"].to_pylist(), items["split"].to_pylist()
    answers = endpoint.ask(source, folder, texts, what=what)
    readings = {text: endpoint.read(answer, source, labels) for text, answer in answers.items()}
    ways = Counter(readings[text].how for text in texts)
    unreadable = Counter(split for split, text in zip(splits, texts, strict=True) if readings[text].how == "unreadable")
    examples = [answers[text].content[:80] for text in answers if readings[text].how == "unreadable"]
    statistics = {
        "url": source.url,
        "model": source.model,
        "answers": len(answers),
        "from_cache": sum(answer.cached for answer in answers.values()),
        "logprobs": ways["logprobs"],
        "text": ways["text"],
        "unreadable": dict(sorted(unreadable.items())),
        "unreadable_examples": examples[:_EXAMPLES],
    }
    return np.array([readings[text].probabilities for text in texts]).reshape(-1, len(labels)), statistics
