"""Prepared items and their digest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.contract.schemas import ITEMS
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
    """Class names; `label` in the items is an index into them. Of `generation`: none."""
    metric: str
    settings: dict[str, Any] | None
    """Of `generation`: its GenerationSettings, as JSON has them."""
    items: pa.Table
    """The store's `items` table, ordered by split (weak_train, transfer, validation, test, ood), then by item id."""
    report: dict[str, Any]
    """What preparation found and did, as JSON-able counts. Where the rows came from is in `report["source"]`, and may
    differ between two datasets of one digest: a mirror and the canonical place give the same items."""

    def size(self, split: Split) -> int:
        """Number of items of a split; 0 of one that the task has not."""
        return int(self.report["splits"].get(split.value, {"items": 0})["items"])

    def characters(self, split: Split) -> int:
        """Characters of all texts of a split."""
        texts = self.items.filter(pc.field("split") == split.value)["text"]
        return int(pc.sum(pc.utf8_length(texts)).as_py() or 0)


def of_manifest(manifest: TaskManifest, items: pa.Table, report: dict[str, Any]) -> Dataset:
    """The dataset of a task's items, its digest computed; the items' first column stays as it is."""
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

    Of a generative task also over its settings, and over the targets in place of labels. Of a classification also over
    its `balance`, where classes were evened out: what tables say of it is then true of every trial that they show. All
    else of the digest is what the items are and not how they came about, so it can be verified from what is stored.
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
    """The balance that a stored report tells, as JSON; None of generation, and where it tells none."""
    try:
        told = json.loads(report)
    except (TypeError, ValueError):  # whatever a client sent
        return None
    balance = told.get("balance") if isinstance(told, dict) else None
    return balance if isinstance(balance, str) else None


def with_digest(items: pa.Table, data_digest: str) -> pa.Table:
    """`items` with its first column filled in."""
    return items.set_column(0, ITEMS.field("data_digest"), pa.array([data_digest] * items.num_rows, pa.string()))


def plain(report: dict[str, Any]) -> dict[str, Any]:
    """The report as it is after a way through JSON, so that a cached one equals a fresh one."""
    result: dict[str, Any] = json.loads(json.dumps(report))
    return result
