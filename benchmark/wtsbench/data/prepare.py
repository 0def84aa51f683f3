"""Preparing a task's data: locate, read, check, build, cache."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from wtsbench.data import cache
from wtsbench.data.dataset import Dataset, of_manifest, with_digest
from wtsbench.data.protocol import build
from wtsbench.data.rows import Row, rows_of
from wtsbench.data.sources import Rows, locate
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest


def prepare(
    manifest: TaskManifest, settings: DataSettings, *, mirror: Path | None = None, folder: Path | None = None
) -> Dataset:
    """The task's items: deduplicated, grouped, split, balanced and capped; from the cache if nothing changed.

    Args:
        manifest: the task.
        settings: data seed and caps of the grid.
        mirror: folder with data to use in place of its canonical source.
        folder: the manifest's folder, to which a `path` source is relative.

    Raises:
        DataError: the data cannot be read, does not fit the manifest, or is too small.
    """
    elsewhere, source, other = _located(manifest, mirror, folder)
    key = cache.cache_key(manifest, settings, source.report, None if other is None else other.report)
    kept = cache.load(key, manifest)
    if kept is not None:
        return kept
    rows, read = _read(manifest, source)
    strangers = None
    report: dict[str, Any] = {"source": source.report, **read}
    if elsewhere is not None and other is not None:
        strangers, ood_counts = _read(elsewhere, other)
        report["ood"] = {"source": other.report, **ood_counts}
    items, counts = build(manifest, settings, rows, strangers)
    if strangers is not None:
        counts["ood"] = {**report["ood"], **counts["ood"]}
    report = json.loads(json.dumps({**report, **counts}))  # as the cache gives it back: lists in place of tuples
    dataset = of_manifest(manifest, items, report)
    dataset = replace(dataset, items=with_digest(items, dataset.data_digest))
    cache.save(key, dataset)
    return dataset


def kept_file(
    manifest: TaskManifest, settings: DataSettings, *, mirror: Path | None = None, folder: Path | None = None
) -> Path:
    """Path in the cache of what `prepare` returns for the same arguments."""
    _, source, other = _located(manifest, mirror, folder)
    return cache.path_of(cache.cache_key(manifest, settings, source.report, None if other is None else other.report))


def _located(
    manifest: TaskManifest, mirror: Path | None, folder: Path | None
) -> tuple[TaskManifest | None, Rows, Rows | None]:
    """The manifest of the out-of-distribution set, if there is one, and the sources of the rows."""
    elsewhere = manifest.ood_manifest()
    source = locate(manifest, mirror, folder)
    return elsewhere, source, None if elsewhere is None else locate(elsewhere, mirror, folder)


def _read(manifest: TaskManifest, source: Rows) -> tuple[list[Row], dict[str, int]]:
    """The rows of a source, checked."""
    values = manifest.label.values if manifest.label is not None else {}
    if manifest.mirror is not None and manifest.mirror.values and source.report["kind"] == "mirror":
        values = manifest.mirror.values
    return rows_of(manifest, source.read(manifest.columns), values, source.where)
