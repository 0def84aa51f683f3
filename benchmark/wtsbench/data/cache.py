"""Cache of prepared data. A damaged or foreign file counts as missing."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from wtsbench.contract.schemas import ITEMS
from wtsbench.data.dataset import Dataset, of_manifest
from wtsbench.data.libraries import disk_fault
from wtsbench.files import replacing
from wtsbench.settings import cache_folder
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.identity import digest
from wtsbench.spec.task import TaskManifest

_REPORT, _DIGEST, _SEAL = b"wtsbench.report", b"wtsbench.data_digest", b"wtsbench.seal"


def cache_key(
    manifest: TaskManifest, settings: DataSettings, source: dict[str, Any], elsewhere: dict[str, Any] | None
) -> str:
    """Cache key: digest of everything that decides the items: manifest, settings, content of the sources and code."""
    made_of = {
        "manifest": manifest.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "source": source,
        "ood": elsewhere,
        "code": _code(),
    }
    return digest(made_of)


def load(key: str, manifest: TaskManifest) -> Dataset | None:
    """The dataset of this key, verified; None if it is missing or damaged."""
    try:
        items = pa.ipc.open_file(pa.BufferReader(path_of(key).read_bytes())).read_all()
    except (OSError, pa.ArrowException):
        return None
    kept = items.schema.metadata or {}
    if not items.schema.equals(ITEMS) or kept.get(_SEAL) != _seal(kept.get(_REPORT, b""), kept.get(_DIGEST, b"")):
        return None
    dataset = of_manifest(manifest, items.replace_schema_metadata(None), json.loads(kept[_REPORT]))
    return dataset if dataset.data_digest == kept[_DIGEST].decode() else None


def save(key: str, dataset: Dataset) -> None:
    """Store a dataset: written under a temporary name, synced and renamed.

    Raises:
        DataError: the cache folder cannot be written.
    """
    report, data_digest = json.dumps(dataset.report).encode(), dataset.data_digest.encode()
    kept = {_REPORT: report, _DIGEST: data_digest, _SEAL: _seal(report, data_digest)}
    path = path_of(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as sink, pa.ipc.new_file(sink, ITEMS.with_metadata(kept)) as writer:
            writer.write_table(dataset.items.replace_schema_metadata(kept))
    except OSError as error:
        raise disk_fault(error) from error


def path_of(key: str) -> Path:
    """Path of the dataset of this key."""
    return cache_folder() / "data" / "prepared" / f"{key}.arrow"


def _seal(report: bytes, data_digest: bytes) -> bytes:
    return hashlib.sha256(report + b"\n" + data_digest).hexdigest().encode()


@cache
def _code() -> str:
    """Digest of this package's source, generators included: changed code does not use older entries."""
    package = Path(__file__).parent
    hasher = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        hasher.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()
