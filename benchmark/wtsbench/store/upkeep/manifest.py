"""The manifest of an export: its files with the SHA-256 of each, and the manifest's own.

Its text is canonical: any changed bit shows either in its digest or as a difference from that text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from wtsbench.contract.schemas import SCHEMA_VERSION
from wtsbench.errors import StoreError
from wtsbench.files import NOT_GIVEN, read_plain, sha256
from wtsbench.spec.identity import digest

Form = Literal["parquet", "arrow"]
MANIFEST = "manifest.json"
_NAME = r"^[a-z]+(/[a-z_]+=[^/\x00]+|/[0-9a-f]+)?/part\.[a-z]+$"
"""Pattern of a file's name, which cannot lead out of the export."""


class File(BaseModel):
    """A file's entry in a manifest."""

    rows: Annotated[int, Field(ge=0)]
    fingerprint: str
    """Digest of the contents of the store that it was made from."""
    sha256: str


class _Versioned(BaseModel):
    """The fields common to manifests of all versions."""

    schema_version: Annotated[int, Field(ge=1)]


class Manifest(_Versioned):
    """The list of an export's files. Unknown keys are ignored."""

    form: Form
    files: dict[Annotated[str, Field(pattern=_NAME)], File]
    sha256: str = ""
    """Digest of the rest of the manifest."""

    def text(self) -> str:
        """Its canonical text."""
        return json.dumps(self.model_dump(), indent=1, sort_keys=True)

    def own_digest(self) -> str:
        """The correct value of `sha256`."""
        return digest(self.model_dump(exclude={"sha256"}))


def write_manifest(path: Path, form: Form, files: dict[str, File]) -> Manifest:
    """Write a manifest with its own digest, atomically."""
    manifest = Manifest(schema_version=SCHEMA_VERSION, form=form, files=files)
    manifest.sha256 = manifest.own_digest()
    unfinished(path).write_text(manifest.text())
    unfinished(path).rename(path)
    return manifest


def read_manifest(path: Path) -> Manifest | None:
    """A manifest, checked to be unchanged; None if the file does not exist.

    Raises:
        StoreError: the file is no manifest, has a newer version, or was changed.
    """
    try:
        text = read_plain(path).decode()
        version = _Versioned.model_validate_json(text, strict=True).schema_version
        if version > SCHEMA_VERSION:
            raise StoreError(f"{path} is of schema version {version}", remedy="use a newer wtsbench.")
        manifest = Manifest.model_validate_json(text, strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no text, no JSON, or no manifest
        raise StoreError(f"{path} is no manifest of an export", remedy="export into another folder.") from error
    if manifest.sha256 != manifest.own_digest() or manifest.text() != text:
        raise StoreError(f"{path} is not as it was written: its digest differs", remedy="export into another folder.")
    return manifest


def left_over(path: Path) -> dict[str, File]:
    """The files of a previous export, interrupted or complete; empty if its manifest cannot be read."""
    try:
        manifest = read_manifest(path)
    except StoreError:
        return {}
    return {} if manifest is None else manifest.files


def unfinished(path: Path) -> Path:
    """Temporary name of a file that is being written."""
    return path.with_name(f"{path.name}.new")


def digest_of(path: Path) -> str | None:
    """Digest of a file; None if there is no plain file."""
    try:
        return sha256(path)
    except OSError as error:
        if error.errno not in NOT_GIVEN:
            raise
        return None
