"""The manifest of an export: its files with the SHA-256 of each, and its own.

It is written in one way only, so whatever bit of it is another, either its digest or its text is.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from wtsbench.contract.schemas import SCHEMA_VERSION
from wtsbench.errors import StoreError
from wtsbench.files import NOT_GIVEN, open_plain, read_plain
from wtsbench.spec.identity import digest

Form = Literal["parquet", "arrow"]
MANIFEST = "manifest.json"
_NAME = r"^[a-z]+(/[a-z_]+=[^/\x00]+|/[0-9a-f]+)?/part\.[a-z]+$"
"""Of a file: nothing outside the export."""


class File(BaseModel):
    """What a manifest says of a file."""

    rows: Annotated[int, Field(ge=0)]
    fingerprint: str
    """Digest of what it was made of."""
    sha256: str


class _Versioned(BaseModel):
    """What manifests of all versions say."""

    schema_version: Annotated[int, Field(ge=1)]


class Manifest(_Versioned):
    """What is in an export. What else it says is not looked at."""

    form: Form
    files: dict[Annotated[str, Field(pattern=_NAME)], File]
    sha256: str = ""
    """Of the rest of the manifest."""

    def text(self) -> str:
        """The one way in which it is written."""
        return json.dumps(self.model_dump(), indent=1, sort_keys=True)

    def own_digest(self) -> str:
        """What `sha256` has to be."""
        return digest(self.model_dump(exclude={"sha256"}))


def write_manifest(path: Path, form: Form, files: dict[str, File]) -> Manifest:
    """Write a manifest with its own digest, whole or not at all."""
    manifest = Manifest(schema_version=SCHEMA_VERSION, form=form, files=files)
    manifest.sha256 = manifest.own_digest()
    unfinished(path).write_text(manifest.text())
    unfinished(path).rename(path)
    return manifest


def read_manifest(path: Path) -> Manifest | None:
    """A manifest as it was written; None where there is none.

    Raises:
        StoreError: it is none, is of a newer version, or is not as it was written.
    """
    try:
        text = read_plain(path).decode()
        version = _Versioned.model_validate_json(text, strict=True).schema_version
        if version > SCHEMA_VERSION:
            raise StoreError(f"{path} is of schema version {version}", remedy="use a newer wtsbench.")
        found = Manifest.model_validate_json(text, strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no text, no JSON, or not what a manifest holds
        raise StoreError(f"{path} is no manifest of an export", remedy="export into another folder.") from error
    if found.sha256 != found.own_digest() or found.text() != text:
        raise StoreError(f"{path} is not as it was written: its digest differs", remedy="export into another folder.")
    return found


def left_over(path: Path) -> dict[str, File]:
    """The files of an export that was interrupted, or was whole before this one; none where that cannot be told."""
    try:
        found = read_manifest(path)
    except StoreError:
        return {}
    return {} if found is None else found.files


def unfinished(path: Path) -> Path:
    """Where a file is until it is whole."""
    return path.with_name(f"{path.name}.new")


def sha256(path: Path) -> str | None:
    """Of a file; None where there is none, or something else in its place."""
    try:
        with open_plain(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if error.errno not in NOT_GIVEN:
            raise
        return None
