"""A bundle put in place on a machine without a network: all of it is checked before anything is changed."""

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
from wtsbench.files import exclusive, remove_tree
from wtsbench.images import oci
from wtsbench.images.build import REPOSITORY
from wtsbench.images.bundle import Bundle, BundleFault, Entry, opened
from wtsbench.images.docker_engine import connect, probe
from wtsbench.images.pins import ImagePin, is_tag, pins, write_pin
from wtsbench.images.registry import PULL_SECONDS, local_image
from wtsbench.models.layout import sha256
from wtsbench.settings import cache_folder, data_mirror, user_manifests

_WHOLE = ("models/embedded/", "scorers/")
"""Folders of the cache in which a folder that is there counts as finished."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What was put in place."""

    digest: str
    """Of the bundle's listing, as `bundle` told it."""
    about: Mapping[str, Any]
    image: ImagePin | None
    placed: int
    """Files."""
    kept: int
    """Files that were there already."""
    mirror: Path | None
    """The folder that `WTSBENCH_DATA_MIRROR` must name; None where the bundle needs none."""
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

    What is there already is left as it is, so an interrupted load is mended by another.

    Args:
        path: a file that `write_bundle` wrote.
        image: whether to load the image and pin it.
        name: to pin the image under; None takes the bundle's.
        mirror: where files of the data mirror go; None takes `WTSBENCH_DATA_MIRROR`, or a folder in the cache.
        note: told what takes time.

    Raises:
        BundleFault: something in it is not what its digest says.
        SandboxError: the engine does not answer, or does not take the image.
        SpecError: other files, or another pin, are where the bundle's belong.
    """
    note("checking the bundle")
    with opened(path) as bundle:
        places = _Places(mirror=mirror or data_mirror() or cache_folder() / "mirror")
        targets = {entry: target for entry in bundle.entries.values() if (target := places.of(entry.name)) is not None}
        with _said(path):
            missing = {entry: target for entry, target in targets.items() if not target.exists()}
        _refuse_conflicts({entry: target for entry, target in targets.items() if entry not in missing})
        pin = _pin_of(bundle, name) if image else None
        if pin is not None:
            probe()
            _load_image(bundle, pin[1], note)
        note("putting models and data in place")
        with _said(path):
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
                    inside.startswith(one) and inside.count("/") == one.count("/") for one in _WHOLE
                ):
                    raise BundleFault(
                        f"{name} of the bundle would be a file in the place of a folder", remedy="bundle again."
                    )
                return folder / inside
        return None


def _refuse_conflicts(there: Mapping[Entry, Path]) -> None:
    """The cache can be made again and is left as it is; elsewhere another file would be another model or other data."""
    other = [
        str(target) for entry, target in there.items() if not entry.name.startswith(CACHE) and _is_other(entry, target)
    ]
    if other:
        raise SpecError(
            f"{len(other)} files are here already and are not those of the bundle: {', '.join(other[:5])}",
            remedy="move them away if the bundle's are meant; nothing was changed.",
        )


def _is_other(entry: Entry, target: Path) -> bool:
    try:
        return sha256(target) != entry.sha256
    except OSError:  # a folder, a pipe, or closed to us
        return True


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """An error of the disk on the way, in words."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise SandboxError(
            f"{path} cannot be put in place: {where}{error.strerror or error}",
            remedy="mend that and load it again: what is in place by now is kept.",
        ) from error


def _pin_of(bundle: Bundle, name: str | None) -> tuple[str, ImagePin] | None:
    """The pin of the bundle's image and its name, held against what is pinned here."""
    if bundle.config is None:
        return None
    fields = {key: value for key, value in bundle.about["image"].items() if key not in ("name", "tag")}
    called = name or str(bundle.about["image"]["name"])
    try:
        pin = ImagePin.model_validate(fields)
    except ValidationError as error:
        raise BundleFault(
            f"{bundle.path}: what it says of its image is no pin: {error.errors()[0]['msg']}", remedy="bundle again."
        ) from error
    if ":" in called or "@" in called:  # the grid names it by its digest, and needs no pin
        called = f"bundle-{str(pin.id).removeprefix('sha256:')[:12]}"
    elif is_tag(called):
        raise BundleFault(f"{bundle.path}: its image has no name to pin it under", remedy="give it one with --name.")
    known = pins().get(called)
    if known is not None and known.id not in (None, pin.id):
        raise SpecError(
            f"image {called} is pinned as {known.id} here, and the bundle's is {pin.id}",
            remedy="give the bundle's another name with --name, or remove the pin from images.yaml; "
            "nothing was changed.",
        )
    return called, pin


def _load_image(bundle: Bundle, pin: ImagePin, note: Callable[[str], None]) -> None:
    assert bundle.config is not None, "a bundle with a pin has an image"
    with connect(seconds=PULL_SECONDS) as client:
        if local_image(client, str(pin.id)) is not None:
            return
        note("giving the image to the engine")
        layers = {digest: bundle.entries[oci.blob_name(digest)].part for digest in oci.layers_of(bundle.config)}
        tag = f"{REPOSITORY}:{str(pin.id).removeprefix('sha256:')[:12]}"
        found = oci.put_image(client, bundle.config, layers, tag)
    if found != pin.id:
        raise SandboxError(f"the engine made image {found} where the bundle says {pin.id}")


def _place(missing: Mapping[Entry, Path]) -> None:
    """Write each file under another name and rename it; folders that count as finished by being there, as a whole.

    The other names are always the same ones, so what a load that was killed had begun is overwritten by the next.
    """
    whole: dict[Path, dict[str, Entry]] = {}
    cache_folder().mkdir(parents=True, exist_ok=True)
    with exclusive(cache_folder() / ".load.lock"):
        for entry, target in missing.items():
            inside = entry.name.removeprefix(CACHE)
            start = next((one for one in _WHOLE if entry.name.startswith(CACHE) and inside.startswith(one)), None)
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
    """What is left to do on this machine, a line each."""
    lines = []
    here = (wtsbench.__version__, f"{sys.version_info.major}.{sys.version_info.minor}")
    made = (loaded.about.get("wtsbench"), loaded.about.get("python"))
    if made != here:
        lines.append(
            f"made by wtsbench {made[0]} under Python {made[1]}, and here is {here[0]} under {here[1]}: "
            "install the bundle's wtsbench, or data is prepared anew and trials are others"
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
