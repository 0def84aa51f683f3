"""Files from public addresses, downloaded, verified and kept in the cache folder."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from wtsbench.data.libraries import disk_fault
from wtsbench.errors import DataError
from wtsbench.files import replacing, sha256
from wtsbench.settings import cache_folder
from wtsbench.spec.source import FileSource

_TIMEOUT = 60
_CHUNK = 1 << 20


def downloaded(source: FileSource, where: str) -> Path:
    """The file in the cache folder, after a download unless it is there.

    Args:
        source: its address and the digest of its content.
        where: name of the source in messages.

    Raises:
        DataError: the server does not give it, it has another digest, or the cache folder cannot be written.
    """
    kept = cache_folder() / "data" / "files" / f"{source.sha256}.{source.format}"
    with suppress(OSError):  # never downloaded, or removed to free space
        if sha256(kept) == source.sha256:
            return kept
    content = hashlib.sha256()
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept, durable=False) as sink:
            for chunk in _chunks(source.url, where):
                content.update(chunk)
                sink.write(chunk)
            if content.hexdigest() != source.sha256:
                raise DataError(
                    f"{where} has sha256 {content.hexdigest()}, its manifest says {source.sha256}",
                    remedy="the file was changed or cut short: try again, or use a mirror (WTSBENCH_DATA_MIRROR).",
                )
    except OSError as error:
        raise disk_fault(error) from error
    return kept


def _chunks(url: str, where: str) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:  # http(s) only: the manifest's pattern
            while chunk := response.read(_CHUNK):
                yield chunk
    except urllib.error.HTTPError as error:
        with error:
            raise DataError(
                f"{where}: the server answers {error.code} {error.reason}",
                remedy="check source.url, or set WTSBENCH_DATA_MIRROR to a folder that holds the data.",
            ) from error
    except (
        OSError,
        HTTPException,
        ValueError,
    ) as error:  # HTTPException: no HTTP, or cut short; ValueError: no address
        raise DataError(
            f"{where} cannot be reached: {str(getattr(error, 'reason', error)).strip()}",
            remedy="set WTSBENCH_DATA_MIRROR to a folder that holds the data.",
        ) from error
