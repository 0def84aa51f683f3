"""Loads a bundle on a machine without a network; all of it is checked before anything is changed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

import wtsbench
from wtsbench.errors import SandboxError, SpecError
from wtsbench.execution.bundling import CACHE, HUB_CACHE, MANIFESTS, MIRROR, WHEELS
from wtsbench.files import exclusive, remove_tree, sha256
from wtsbench.images import oci
from wtsbench.images.bundle import Bundle, BundleFault, Entry, opened
from wtsbench.images.docker_engine import connect, local_image, probe
from wtsbench.images.pins import ImagePin, is_tag, pins, write_pin
from wtsbench.images.registry import PULL_SECONDS
from wtsbench.settings import cache_folder, data_mirror, user_manifests

_WHOLE = ("models/embedded/", "scorers/")
"""Parts of the cache in which a folder counts as complete if it exists."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What was loaded."""

    digest: str
    """Digest of the bundle's listing, as writing it reported."""
    about: Mapping[str, Any]
    image: ImagePin | None
    placed: int
    """Number of files that were written."""
    kept: int
    """Number of files that existed already."""
    mirror: Path | None
    """The folder that `WTSBENCH_DATA_MIRROR` must name; None if the bundle needs none."""
    wheels: bool
    """Whether wtsbench and its packages are in the bundle."""


def load_bundle(
    path: Path,
    *,
    image: bool = True,
    name: str | None = None,
    mirror: Path | None = None,
    note: Callable[[str], None],
) -> Loaded:
    """Check a bundle, give its image to the engine, and put models, data and manifests where a submission looks.

    Existing files are left as they are, so an interrupted load is completed by another one.

    Args:
        path: a file that `write_bundle` wrote.
        image: whether to load the image and pin it.
        name: to pin the image under; None takes the name in the bundle.
        mirror: where files of the data mirror go; None takes `WTSBENCH_DATA_MIRROR`, or a folder in the cache.
        note: called with a line about what takes time.

    Raises:
        BundleFault: something in it does not match its digest.
        SandboxError: the engine does not answer, or does not accept the image.
        SpecError: other files, or another pin, are in the place of the bundle's.
    """
    note("checking the bundle")
    with opened(path) as bundle:
        places = _Places(mirror=mirror or data_mirror() or cache_folder() / "mirror")
        targets = {entry: target for entry in bundle.entries.values() if (target := places.of(entry.name)) is not None}
        with _disk_errors(path):
            missing = {entry: target for entry, target in targets.items() if not target.exists()}
        _refuse_conflicts({entry: target for entry, target in targets.items() if entry not in missing})
        pin = _pin_of(bundle, name) if image else None
        if pin is not None:
            probe()
            _load_image(bundle, pin[1], note)
        note("putting models and data in place")
        with _disk_errors(path):
            _place(missing)
        if pin is not None:
            write_pin(*pin)
        mirrored = any(entry.name.startswith(MIRROR) for entry in targets)
        return Loaded(
            digest=bundle.digest,
            about=bundle.about,
            image=None if pin is None else pin[1],
            placed=len(missing),
            kept=len(targets) - len(missing),
            mirror=places.mirror if mirrored else None,
            wheels=any(entry.name.startswith(WHEELS) for entry in bundle.entries.values()),
        )


@dataclass(frozen=True, kw_only=True)
class _Places:
    mirror: Path

    def of(self, name: str) -> Path | None:
        """Where a file of a bundle goes on this machine."""
        from huggingface_hub import constants

        for prefix, folder in (
            (CACHE, cache_folder()),
            (HUB_CACHE, Path(constants.HF_HUB_CACHE)),
            (MIRROR, self.mirror),
            (MANIFESTS, user_manifests()),
        ):
            if name.startswith(prefix):
                inside = name.removeprefix(prefix)
                if prefix == CACHE and any(
                    inside.startswith(part) and inside.count("/") == part.count("/") for part in _WHOLE
                ):
                    raise BundleFault(
                        f"{name} of the bundle would be a file in the place of a folder", remedy="bundle again."
                    )
                return folder / inside
        return None


def _refuse_conflicts(existing: Mapping[Entry, Path]) -> None:
    """Refuse existing files that differ. In the cache they are left: elsewhere they would be other models or data."""
    other = [
        str(target)
        for entry, target in existing.items()
        if not entry.name.startswith(CACHE) and _is_other(entry, target)
    ]
    if other:
        raise SpecError(
            f"{len(other)} files exist here and differ from those of the bundle: {', '.join(other[:5])}",
            remedy="move them away to use the bundle's; nothing was changed.",
        )


def _is_other(entry: Entry, target: Path) -> bool:
    try:
        return sha256(target) != entry.sha256
    except OSError:  # a folder, a pipe, or not readable
        return True


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turns errors of the disk into `SandboxError`."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise SandboxError(
            f"{path} cannot be put in place: {where}{error.strerror or error}",
            remedy="correct that and load it again: files that are in place are kept.",
        ) from error


def _pin_of(bundle: Bundle, name: str | None) -> tuple[str, ImagePin] | None:
    """The pin of the bundle's image with its name, checked against the pins of this machine."""
    if bundle.config is None:
        return None
    fields = {key: value for key, value in bundle.about["image"].items() if key not in ("name", "tag")}
    pin_name = name or str(bundle.about["image"]["name"])
    try:
        pin = ImagePin.model_validate(fields)
    except ValidationError as error:
        raise BundleFault(
            f"{bundle.path}: its description of the image is not valid: {error.errors()[0]['msg']}",
            remedy="bundle again.",
        ) from error
    if ":" in pin_name or "@" in pin_name:  # the grid names it by its digest, and needs no pin
        pin_name = f"bundle-{str(pin.id).removeprefix('sha256:')[:12]}"
    elif is_tag(pin_name):
        raise BundleFault(f"{bundle.path}: its image has no name to pin it under", remedy="give it one with --name.")
    existing = pins().get(pin_name)
    if existing is not None and existing.id not in (None, pin.id):
        raise SpecError(
            f"image {pin_name} is pinned as {existing.id} here, and the bundle's is {pin.id}",
            remedy="give the bundle's another name with --name, or remove the pin from images.yaml; "
            "nothing was changed.",
        )
    return pin_name, pin


def _load_image(bundle: Bundle, pin: ImagePin, note: Callable[[str], None]) -> None:
    assert bundle.config is not None, "a bundle with a pin has an image"
    with connect(seconds=PULL_SECONDS) as client:
        if local_image(client, str(pin.id)) is not None:
            return
        note("giving the image to the engine")
        layers = {digest: bundle.entries[oci.blob_name(digest)].part for digest in oci.layers_of(bundle.config)}
        image_id = oci.put_image(client, bundle.config, layers, oci.tag_of(str(pin.id)))
    if image_id != pin.id:
        raise SandboxError(f"the engine made image {image_id} where the bundle says {pin.id}")


def _place(missing: Mapping[Entry, Path]) -> None:
    """Write each file under a temporary name and rename it; folders that must be complete are renamed as a whole.

    The temporary names are fixed, so that the next load overwrites what a killed one had begun.
    """
    whole: dict[Path, dict[str, Entry]] = {}
    cache_folder().mkdir(parents=True, exist_ok=True)
    with exclusive(cache_folder() / ".load.lock"):
        for entry, target in missing.items():
            inside = entry.name.removeprefix(CACHE)
            start = next((part for part in _WHOLE if entry.name.startswith(CACHE) and inside.startswith(part)), None)
            if start is None:
                _write(entry, target)
                continue
            first, _, rest = inside.removeprefix(start).partition("/")
            whole.setdefault(cache_folder() / start / first, {})[rest] = entry
        for folder, files in whole.items():
            if folder.is_dir():
                continue
            unfinished = folder.with_name(f".{folder.name}.loading")
            remove_tree(unfinished)
            for name, entry in files.items():
                _write(entry, unfinished / PurePosixPath(name))
            unfinished.replace(folder)


def _write(entry: Entry, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.loading")
    with unfinished.open("wb") as sink, entry.part.open() as source:
        shutil.copyfileobj(source, sink, oci.CHUNK)
        sink.flush()
        os.fsync(sink.fileno())
    unfinished.chmod(0o644)
    unfinished.replace(target)


def advice(loaded: Loaded, path: Path) -> list[str]:
    """What is left to do on this machine, one line each."""
    lines = []
    here = (wtsbench.__version__, f"{sys.version_info.major}.{sys.version_info.minor}")
    maker = (loaded.about.get("wtsbench"), loaded.about.get("python"))
    if maker != here:
        lines.append(
            f"made by wtsbench {maker[0]} under Python {maker[1]}, and here is {here[0]} under {here[1]}: "
            "install the bundle's wtsbench, or data is prepared again and trials get other ids"
        )
    if loaded.wheels:
        lines.append(
            f"wtsbench for further machines: tar -xf {path} wtsbench/wheels && "
            "python3 -m pip install --no-index --find-links wtsbench/wheels wtsbench"
        )
    if loaded.mirror is not None and loaded.mirror != data_mirror():
        lines.append(f"before submitting: export WTSBENCH_DATA_MIRROR={loaded.mirror}")
    lines += [f"not in the bundle: {line}" for line in loaded.about.get("left_out", ())]
    return lines
