"""Images as files: reproducible layers, and archives that engines and other tools read.

An image is a configuration (JSON that names the layers by the SHA-256 of their tar files) and those tar files. The
SHA-256 of the configuration is the image's id.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from wtsbench.errors import SandboxError
from wtsbench.images.docker_engine import said_by_engine

if TYPE_CHECKING:
    import docker

CHUNK = 2**20
EPOCH = "1970-01-01T00:00:00Z"
"""The date of everything in an image, as a true one would give the same content another id."""
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIGURATION = ("Cmd", "Entrypoint", "Env", "Labels", "User", "WorkingDir")


class Part(Protocol):
    """The bytes of a layer, wherever they are."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def open(self) -> IO[bytes]:
        """A reader of them, at the first byte."""


@dataclass(frozen=True)
class File:
    """Bytes in a file of their own."""

    path: Path

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.path.stat().st_size

    def open(self) -> IO[bytes]:
        """A reader of them."""
        return self.path.open("rb")


def tag_of(image: str) -> str:
    """The tag of an image with this id; it keeps the engine's clean-up from taking the image for unused."""
    return f"wtsbench-trial:{image.removeprefix('sha256:')[:12]}"


def sha256(content: bytes) -> str:
    """`sha256:…` of bytes, as images name their parts."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def archived(client: docker.DockerClient, image: str, folder: str) -> Iterator[Iterable[bytes]]:
    """The tar file that an engine makes of a folder of an image, in chunks. Nothing in the image is run for it."""
    container = client.containers.create(image, ["nothing"], network_mode="none")
    try:
        chunks, _ = container.get_archive(folder, chunk_size=CHUNK)
        yield chunks
    finally:
        container.remove(force=True, v=True)


def make_layer(chunks: Iterable[bytes], path: Path, *, inside: str) -> str:
    """Write the layer of a folder without what differs from build to build; returns the layer's digest.

    Args:
        chunks: the tar file that an engine makes of the folder (`archived`), in the order of names.
        path: where the layer, itself a tar file, is written.
        inside: path of the parent folder in the image, as `opt`.
    """
    with path.open("wb") as file:
        sink = _Hashing(file)
        with (
            tarfile.open(fileobj=io.BufferedReader(_Chunks(chunks), CHUNK), mode="r|", bufsize=CHUNK) as source,
            tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as made,
        ):
            for member in source:
                content = source.extractfile(member) if member.isreg() else None
                made.addfile(_normal(member, inside), content)
        return sink.digest


def _normal(member: tarfile.TarInfo, inside: str) -> tarfile.TarInfo:
    plain = tarfile.TarInfo(f"{inside}/{member.name.strip('/')}")
    plain.type, plain.size = member.type, member.size
    plain.linkname = f"{inside}/{member.linkname}" if member.islnk() else member.linkname
    plain.mode = 0o777 if member.issym() else 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return plain  # owned by root, dated to the epoch, by default


def configuration(base: Mapping[str, Any], settings: Mapping[str, Any], layers: Sequence[str]) -> bytes:
    """The configuration of an image, byte by byte the same for the same arguments.

    Args:
        base: what an engine says of the image built on (`docker inspect`).
        settings: what a container of the image starts with (`Config` of `docker inspect`).
        layers: digests of the layers on top of the base's.
    """
    below = base["RootFS"]["Layers"]
    origins = [f"of the base {base['Id']}"] * len(below) + ["wtsbench image build"] * len(layers)
    return json.dumps(
        {
            "architecture": base["Architecture"],
            "os": base["Os"],
            **({"variant": base["Variant"]} if base.get("Variant") else {}),
            "created": EPOCH,
            "config": {key: settings[key] for key in _CONFIGURATION if settings.get(key)},
            "rootfs": {"type": "layers", "diff_ids": [*below, *layers]},
            "history": [{"created": EPOCH, "created_by": origin} for origin in origins],
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


def layers_of(config: bytes) -> list[str]:
    """Digests of an image's layers, from the lowest up."""
    return [str(digest) for digest in json.loads(config)["rootfs"]["diff_ids"]]


def take_layers(client: docker.DockerClient, image: str, wanted: Collection[str], folder: Path) -> dict[str, Path]:
    """Have an engine write the layers of one of its images into files of a folder.

    They are recognised by their digests, whatever the engine names them.

    Args:
        client: the engine.
        image: id of the image.
        wanted: digests of the layers.
        folder: where the files are written.

    Raises:
        SandboxError: the engine does not give a layer of this digest.
    """
    paths: dict[str, Path] = {}
    with said_by_engine(f"image {image} cannot be taken out of the engine"):
        chunks = client.images.get(image).save(chunk_size=CHUNK)
        with tarfile.open(fileobj=io.BufferedReader(_Chunks(chunks), CHUNK), mode="r|", bufsize=CHUNK) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    continue
                path = folder / "taken"
                with path.open("wb") as file:
                    sink = _Hashing(file)
                    shutil.copyfileobj(content, sink, CHUNK)
                if sink.digest in wanted:
                    paths[sink.digest] = path.rename(folder / sink.digest.removeprefix("sha256:"))
                else:
                    path.unlink()
    lacking = sorted(set(wanted) - paths.keys())
    if lacking:
        raise SandboxError(
            f"the engine does not give layer {lacking[0]} of image {image} as it was made",
            remedy="build or pull the image on an engine with the ordinary image store (overlay2)",
        )
    return paths


def put_image(client: docker.DockerClient, config: bytes, layers: Mapping[str, Part], tag: str) -> str:
    """Give an engine an image, and return its id.

    Args:
        client: the engine.
        config: the image's configuration.
        layers: its layers by digest. Layers left out must be in images that the engine has already.
        tag: a name for it, so that no clean-up takes it for unused.

    Raises:
        SandboxError: the engine lacks a layer, finds that one is not what its digest says, or makes another image.
    """
    wanted = sha256(config)
    with said_by_engine("the engine does not take the image"):
        client.images.load(_engine_archive(config, layers, tag))
        image = client.images.get(tag)
        repository, _, version = tag.rpartition(":")
        image.tag(repository, version)  # the engine notes the time of a tag; the image itself has no date
    if image.id != wanted:
        raise SandboxError(
            f"the engine calls the image {image.id} where its configuration is {wanted}",
            remedy="use an engine with the ordinary image store (overlay2): others compute ids in another way",
        )
    return wanted


def _engine_archive(config: bytes, layers: Mapping[str, Part], tag: str) -> Iterator[bytes]:
    """The archive that every engine loads, as `docker save` of version 1.10 and later writes it."""
    named = {digest: f"{digest.removeprefix('sha256:')}/layer.tar" for digest in layers_of(config)}
    name = f"{sha256(config).removeprefix('sha256:')}.json"
    listed = {"Config": name, "RepoTags": [tag], "Layers": list(map(named.__getitem__, layers_of(config)))}
    for digest, part in layers.items():
        with part.open() as file:
            yield from _member(named[digest], part.size, _read(file))
    yield from _member(name, len(config), [config])
    manifest = json.dumps([listed]).encode()
    yield from _member("manifest.json", len(manifest), [manifest])
    yield bytes(2 * tarfile.BLOCKSIZE)


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _member(name: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = size
    yield info.tobuf()
    yield from chunks
    yield bytes(-size % tarfile.BLOCKSIZE)


def layout(config: bytes, sizes: Mapping[str, int], name: str) -> dict[str, bytes]:
    """The small files of an OCI image layout, by name; the layers are beside them under their `blob_name`.

    Args:
        config: the image's configuration.
        sizes: of its layers' tar files, by digest.
        name: the image's name in tools that load the layout.
    """
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": sha256(config), "size": len(config)},
            "layers": [{"mediaType": _LAYER, "digest": layer, "size": sizes[layer]} for layer in layers_of(config)],
        }
    ).encode()
    named = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
    entry = {"mediaType": MANIFEST, "digest": sha256(manifest), "size": len(manifest), "annotations": named}
    return {
        "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
        blob_name(sha256(manifest)): manifest,
        blob_name(sha256(config)): config,
    }


def blob_name(digest: str) -> str:
    """The path of a blob in a layout, by its digest."""
    return f"blobs/{digest.replace(':', '/')}"


def read_layout(read: Callable[[str], bytes]) -> bytes:
    """The configuration of the only image of a layout, whose blobs must have been checked against their names.

    Args:
        read: returns a small file of the layout by its name.

    Raises:
        ValueError: it is not the layout of one image with uncompressed layers.
    """
    [entry] = json.loads(read("index.json"))["manifests"]
    manifest = json.loads(read(blob_name(entry["digest"])))
    config = read(blob_name(manifest["config"]["digest"]))
    if [layer["digest"] for layer in manifest["layers"]] != layers_of(config):
        raise ValueError("the layers of the manifest are not those of the configuration")
    return config


class _Hashing(io.RawIOBase):
    """Writes to a file and computes the digest on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, content: Any) -> int:
        self._hash.update(content)
        return self._file.write(content)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class _Chunks(io.RawIOBase):
    """The chunks that an engine sends, as a file to read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
