"""The file that carries an image and more to machines without a network: a tar file in which everything has a digest.

It is an OCI image layout (`oci-layout`, `index.json`, `blobs/`), so other tools can take the image out of it, with
`wtsbench/bundle.json` and the files that this lists beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any

from pydantic import BaseModel, Field

from wtsbench.errors import ExitCode, UserError
from wtsbench.files import naming, open_plain, sha256
from wtsbench.images import oci
from wtsbench.visible import first_line, shortened, storable

LISTING = "wtsbench/bundle.json"
FORMAT = 1
LISTING_BYTES = 64 * 2**20
"""Limit of the listing and of an image's small files: names and digests of thousands of files take some megabytes."""
NAME_BYTES = 240
"""Limit of a file's or folder's name: file systems take 255 bytes, and a file has a longer name while it is written."""
PATH_BYTES = 2000
"""Limit of a file's path in a bundle: the kernel takes 4,095 bytes, including the folder it is unpacked into."""
_REMEDY = "name a file that `wtsbench image bundle` wrote."


class BundleFault(UserError):
    """A bundle does not match its listing, or cannot be read."""

    exit_code = ExitCode.TRIALS_FAILED


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file of a bundle."""

    name: str
    """Its path in the bundle."""
    sha256: str
    size: int
    part: oci.Part

    @classmethod
    def of_file(cls, name: str, path: Path) -> Entry:
        """A file of this machine.

        Raises:
            OSError: it cannot be read.
        """
        return cls(name=name, sha256=sha256(path), size=path.stat().st_size, part=oci.File(path))

    @classmethod
    def of_bytes(cls, name: str, content: bytes) -> Entry:
        """A small file."""
        return cls(name=name, sha256=hashlib.sha256(content).hexdigest(), size=len(content), part=_Bytes(content))


@dataclass(frozen=True)
class _Bytes:
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def open(self) -> IO[bytes]:
        return io.BytesIO(self.content)


def write(out: Path, about: Mapping[str, Any], entries: Mapping[str, Entry]) -> str:
    """Write a bundle whole or not at all; returns the digest of its listing, which covers everything in it.

    Args:
        out: the file, replaced if it exists.
        about: what the listing says besides the files.
        entries: by name.

    Raises:
        BundleFault: a file has changed since it was looked at.
        OSError: the file cannot be written.
    """
    files = {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in sorted(entries.items())}
    listing = json.dumps({"format": FORMAT, **about, "files": files}, indent=1, ensure_ascii=False).encode()
    partial = out.with_name(f".{out.name}.partial")
    try:
        with naming(out), partial.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, Entry.of_bytes(LISTING, listing))
                for name in sorted(entries):
                    _add(tar, entries[name])
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return hashlib.sha256(listing).hexdigest()


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.name)
    info.size, info.mode = entry.size, 0o644
    with entry.part.open() as file:
        reader = _HashingReader(file)
        tar.addfile(info, reader)
    if reader.sha256 != entry.sha256:
        raise BundleFault(f"{entry.name} has changed while it was bundled", remedy="bundle again.")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose files were all checked against the listing."""

    path: Path
    digest: str
    """SHA-256 of the listing."""
    about: Mapping[str, Any]
    entries: Mapping[str, Entry]
    """All files but the listing, by name."""
    config: bytes | None
    """The image's configuration; None if the bundle has no image."""

    def read(self, name: str) -> bytes:
        """A small file.

        Raises:
            KeyError: no file has this name.
            ValueError: the file is larger than `LISTING_BYTES`.
        """
        if self.entries[name].size > LISTING_BYTES:
            raise ValueError(f"{name} has {self.entries[name].size:,} bytes")
        with self.entries[name].part.open() as file:
            return file.read()


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """A bundle, with every digest in it checked; its files can be read while it is open.

    Raises:
        BundleFault: it is no bundle, or a file in it is missing, changed, or not listed.
    """
    try:
        file = open_plain(path)
    except FileNotFoundError:
        raise BundleFault(f"there is no file {path}", remedy=_REMEDY) from None
    except OSError as error:
        raise BundleFault(f"{path} cannot be read: {error.strerror}", remedy=_REMEDY) from error
    with file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                bundle = _checked(path, tar)
        except (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            remedy = "copy it again; decompress a bundle that was compressed for transport."
            raise BundleFault(f"{path} is not a complete bundle: {first_line(error)}", remedy=remedy) from error
        yield bundle


def _checked(path: Path, tar: tarfile.TarFile) -> Bundle:
    first = tar.next()
    if first is None or first.name != LISTING:
        raise BundleFault(f"{path} is no bundle of wtsbench", remedy=_REMEDY)
    if first.size > LISTING_BYTES:
        raise BundleFault(
            f"{path}: its listing has {first.size:,} bytes, more than any bundle's", remedy="copy it again."
        )
    listing = _content(tar, first).read()
    about, listed = _read_listing(path, listing)
    entries: dict[str, Entry] = {}
    faults = []
    for member in tar:
        if member.name == LISTING:
            continue
        plain = member.isreg() and not member.issparse()  # of a sparse file `_Member` would read other bytes
        if member.name not in listed or not plain or not _below(member.name) or member.name in entries:
            faults.append(f"{shortened(member.name)} is not listed")
            continue
        digest = hashlib.file_digest(_content(tar, member), "sha256").hexdigest()
        if (digest, member.size) != listed[member.name]:
            faults.append(f"{member.name} is not what its digest says")
        part = _Member(path, member.offset_data, member.size)
        entries[member.name] = Entry(name=member.name, sha256=digest, size=member.size, part=part)
    faults += [f"{name} is missing" for name in sorted(listed.keys() - entries.keys())]
    faults += [f"{name} is both a file and a folder" for name in _folders_too(entries)]
    faults += [
        f"{name} has other content than its name says" for name, entry in entries.items() if not _fits_name(name, entry)
    ]
    if faults:
        raise BundleFault(
            f"{path} was damaged or changed: {'; '.join(faults[:5])}{' and more' if len(faults) > 5 else ''}",
            remedy="copy it again, or bundle again; nothing of it was taken.",
        )
    bundle = Bundle(path=path, digest=hashlib.sha256(listing).hexdigest(), about=about, entries=entries, config=None)
    if about.get("image") is None:
        return bundle
    try:
        config = oci.read_layout(bundle.read)
        lacking = [layer for layer in oci.layers_of(config) if oci.blob_name(layer) not in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleFault(f"{path}: its image cannot be read: {first_line(error)}", remedy="bundle again.") from error
    if lacking or oci.sha256(config) != about["image"]["id"]:
        raise BundleFault(f"{path}: its image is not the one that it names", remedy="bundle again.")
    return replace(bundle, config=config)


def _read_listing(path: Path, listing: bytes) -> tuple[dict[str, Any], dict[str, tuple[str, int]]]:
    """A listing, and the digest and size of each file in it."""
    try:
        about = json.loads(listing)
        version = about["format"]
        if version != FORMAT:
            raise BundleFault(
                f"{path} has format {version}, and this wtsbench reads format {FORMAT}",
                remedy="install the wtsbench that is in it (wtsbench/wheels/).",
            )
        checked = _Listing.model_validate(about)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleFault(
            f"{path}: its listing cannot be read: {first_line(error)}", remedy="copy it again."
        ) from error
    return about, {name: (file.sha256, file.size) for name, file in checked.files.items()}


class _Listed(BaseModel):
    sha256: str
    size: Annotated[int, Field(strict=True, ge=0)]


class _Image(BaseModel):
    """What is read of the image before it is compared with its configuration; `ImagePin` reads the rest."""

    id: str
    name: str


class _Listing(BaseModel):
    """What a listing must have; anything else in it is for people."""

    files: dict[str, _Listed]
    grids: list[str] = []
    image: _Image | None = None
    left_out: list[str] = []


def _below(name: str) -> bool:
    """Whether a name is a clean relative path that stays below the folder it is unpacked into."""
    path = PurePosixPath(name)
    whole = not path.is_absolute() and ".." not in path.parts and path.as_posix() == name
    if not whole or storable(name) != name or "\0" in name or len(name.encode()) > PATH_BYTES:
        return False
    return all(len(part.encode()) <= NAME_BYTES for part in path.parts)


def _folders_too(names: Collection[str]) -> list[str]:
    """Names of files that are also folders of other files."""
    folders = {parent.as_posix() for name in names for parent in PurePosixPath(name).parents}
    return sorted(folders & set(names))


def _fits_name(name: str, entry: Entry) -> bool:
    return not name.startswith("blobs/") or name == oci.blob_name(f"sha256:{entry.sha256}")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> io.BufferedReader:
    content = tar.extractfile(member)
    if not isinstance(content, io.BufferedReader):
        raise BundleFault(f"{member.name} is no file", remedy=_REMEDY)
    return content


@dataclass(frozen=True)
class _Member:
    """A file inside a bundle, read through a handle of its own, so that several can be open at once."""

    path: Path
    offset: int
    size: int

    def open(self) -> IO[bytes]:
        return io.BufferedReader(_Range(self.path, self.offset, self.size), oci.CHUNK)


class _Range(io.RawIOBase):
    """A range of bytes of a file."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = open_plain(path)
        self._file.seek(offset)
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(min(len(buffer), self._left))
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


class _HashingReader(io.RawIOBase):
    """Reads a file and computes its digest on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._hash.update(content)
        return content

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()
