"""Prepared items and their digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.contract.schemas import ITEMS
from wtsbench.json_text import parsed
from wtsbench.spec.identity import digest
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.trial import Split


@dataclass(frozen=True)
class Dataset:
    """A task's items, ready for trials."""

    data_digest: str
    task: str
    form: str
    """`classification` or `generation`."""
    labels: tuple[str, ...]
    """Class names; `label` in the items is an index into them. Empty for `generation`."""
    metric: str
    settings: dict[str, Any] | None
    """For `generation`: its GenerationSettings as JSON values."""
    items: pa.Table
    """The store's `items` table, ordered by split (weak_train, transfer, validation, test, ood), then by item id."""
    report: dict[str, Any]
    """Counts of the preparation, as JSON values. `report["source"]` says where the rows came from; it may differ
    between two datasets of one digest, as a mirror and the canonical place give the same items."""

    def size(self, split: Split) -> int:
        """Number of items of a split; 0 if the task does not have it."""
        return int(self.report["splits"].get(split.value, {"items": 0})["items"])

    def characters(self, split: Split) -> int:
        """Total characters of the texts of a split."""
        texts = self.items.filter(pc.field("split") == split.value)["text"]
        return int(pc.sum(pc.utf8_length(texts)).as_py() or 0)


def of_manifest(manifest: TaskManifest, items: pa.Table, report: dict[str, Any]) -> Dataset:
    """The dataset of a task's items with its digest; the items' first column is not filled in."""
    settings = None if manifest.generation is None else manifest.generation.model_dump(mode="json")
    data_digest = digest_items(
        task=manifest.name,
        labels=manifest.labels,
        metric=manifest.metric,
        items=items,
        settings=settings,
        balance=report.get("balance"),
    )
    return Dataset(
        data_digest=data_digest,
        task=manifest.name,
        form=manifest.form,
        labels=manifest.labels,
        metric=manifest.metric,
        settings=settings,
        items=items,
        report=report,
    )


def digest_items(
    *,
    task: str,
    labels: tuple[str, ...],
    metric: str,
    items: pa.Table,
    settings: dict[str, Any] | None = None,
    balance: str | None = None,
) -> str:
    """The data digest: SHA-256 over task, class names, metric and every item in order (id, group, split, text, label).

    For a generative task also over its settings, and over targets in place of labels. For classification also over
    `balance`, if classes were balanced, so that a table's statement about it holds for every trial in it. Otherwise the
    digest covers the items only, not how they were made, so it can be verified from the store.
    """
    last = "label" if settings is None else "target"
    columns = (items[name].to_pylist() for name in ("item_id", "group_id", "split", "text", last))
    made_of: dict[str, Any] = {
        "task": task,
        "labels": labels,
        "metric": metric,
        "items": list(zip(*columns, strict=True)),
    }
    if settings is not None:
        made_of["settings"] = settings
    if balance not in (None, "none"):
        made_of["balance"] = balance
    return digest(made_of)


def balance_in(report: Any) -> str | None:
    """The balance in a stored report (JSON); None for generation, or if the report has none."""
    try:
        values = parsed(report)
    except (TypeError, ValueError):  # a client may have sent anything
        return None
    balance = values.get("balance") if isinstance(values, dict) else None
    return balance if isinstance(balance, str) else None


def with_digest(items: pa.Table, data_digest: str) -> pa.Table:
    """`items` with its first column filled in."""
    return items.set_column(0, ITEMS.field("data_digest"), pa.array([data_digest] * items.num_rows, pa.string()))
