"""Files from public addresses, downloaded, verified and kept in the cache folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtsbench.data.libraries import disk_fault
from wtsbench.data.reading import Columns, read_file
from wtsbench.errors import DataError
from wtsbench.files import open_plain
from wtsbench.settings import cache_folder
from wtsbench.spec.source import FileSource

_TIMEOUT = 60
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Download:
    """A file at a public address, kept in the cache folder after download and verification."""

    task: str
    source: FileSource

    @property
    def where(self) -> str:
        """The address."""
        return f"{self.task}: {self.source.url}"

    @property
    def report(self) -> dict[str, Any]:
        """The address and the digest of the content."""
        return {"kind": "file", "url": self.source.url, "sha256": self.source.sha256}

    def read(self, columns: Sequence[str]) -> Columns:
        """These columns, after a download if the file is not cached."""
        return read_file(self._fetch(), self.source.format, columns, self.where, self.source.columns)

    def _fetch(self) -> Path:
        kept = cache_folder() / "data" / "files" / f"{self.source.sha256}.{self.source.format}"
        with suppress(FileNotFoundError):  # never downloaded, or removed to free space
            if sha256(kept) == self.source.sha256:
                return kept
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".fetch-", dir=kept.parent)
        except OSError as error:
            raise disk_fault(error) from error
        try:
            with os.fdopen(handle, "wb") as sink:
                self._stream(sink)
            content = sha256(Path(name))
            if content != self.source.sha256:
                raise DataError(
                    f"{self.where} has sha256 {content}, its manifest says {self.source.sha256}",
                    remedy="the file was changed or cut short: try again, or use a mirror (WTSBENCH_DATA_MIRROR).",
                )
            Path(name).replace(kept)
        finally:
            Path(name).unlink(missing_ok=True)
        return kept

    def _stream(self, sink: Any) -> None:
        try:
            response = urllib.request.urlopen(self.source.url, timeout=_TIMEOUT)  # http(s) only: the manifest's pattern
        except urllib.error.HTTPError as error:
            with error:
                raise DataError(
                    f"{self.where}: the server answers {error.code} {error.reason}",
                    remedy="check source.url, or set WTSBENCH_DATA_MIRROR to a folder that holds the data.",
                ) from error
        except OSError as error:
            raise self._unreachable(error) from error
        with response:
            while True:
                try:
                    chunk = response.read(_CHUNK)
                except OSError as error:
                    raise self._unreachable(error) from error
                if not chunk:
                    return
                try:
                    sink.write(chunk)
                except OSError as error:
                    raise disk_fault(error) from error

    def _unreachable(self, error: OSError) -> DataError:
        reason = getattr(error, "reason", error)
        return DataError(
            f"{self.where} cannot be reached: {reason}",
            remedy="set WTSBENCH_DATA_MIRROR to a folder that holds the data.",
        )


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with open_plain(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
