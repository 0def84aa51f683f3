"""Which image a name stands for, by the shipped and the user's `images.yaml`: always a digest, never a tag."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from wtsbench.errors import SandboxError, SpecError
from wtsbench.files import exclusive, replace
from wtsbench.settings import IMAGE_BY_DIGEST, manifest_folders, user_manifests
from wtsbench.spec.faults import SpecFaults
from wtsbench.spec.frozen import Frozen
from wtsbench.spec.yaml_file import faults_of
from wtsbench.spec.yaml_tree import read

FILE = "images.yaml"
DEFAULT_IMAGE = "trial"
"""The name of the image that trials run in by default."""
_ID = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HEAD = "# Images by name. Written by wtsbench; a digest stands for one image for ever.\n"


class Built(Frozen):
    """How an image was built."""

    wtsbench: str
    """Version of wtsbench in it."""
    code: str
    """Digest of the code in it that computes results."""
    base: str
    """The image it is built on, with its id."""
    created: str | None = None
    """Date and time, UTC, of a build on this machine."""
    wheels: str | None = None
    """Digest over the names and contents of all packages in it: equal for two builds of the same packages."""
    torch: str | None = None
    """Version of torch with its build, as `2.13.0+cpu`."""
    packages: tuple[str, ...] = ()
    """Packages with strategies that were added to wtsbench and its lock, as `name==version`."""


class ImagePin(Frozen):
    """An image, named by what it is and not by a tag."""

    id: Annotated[str, Field(pattern=_ID.pattern)] | None = None
    """Digest of its configuration, which names all its layers: the same on every engine."""
    reference: Annotated[str, Field(pattern=IMAGE_BY_DIGEST.pattern)] | None = None
    """`repo@sha256:…` if a registry has it: the digest of a manifest, or of an index with one for each platform."""
    tag: str | None = None
    """Its tag in the registry when it was pinned; only for people, nothing is looked up by it."""
    platform: str | None = None
    """Platform of the image that `id` names, as `linux/amd64`."""
    built: Built | None = None
    """How it was made, where that is known."""

    @property
    def digest(self) -> str:
        """What an engine finds the image by."""
        found = self.id or self.reference
        assert found is not None, "a pin names an image"
        return found


def is_tag(image: str) -> bool:
    """Whether this is neither a digest nor a name of a pin but a tag, which may name another image tomorrow."""
    return not any(pattern.fullmatch(image) for pattern in (_ID, IMAGE_BY_DIGEST, _NAME))


def tag_fault(image: str) -> tuple[str, str]:
    """What is wrong with an image named by a tag, and what to do about it."""
    name = _NAME.search(image.rpartition("/")[2])
    command = f"wtsbench image pin {'trial' if name is None else name[0]} {image}"
    return f"image {image} is named by a tag, which can be another image tomorrow", f"pin it with `{command}`"


def resolve_image(image: str) -> ImagePin:
    """The pinned image of a name or of a digest.

    Args:
        image: a name in `images.yaml` (`trial`), `sha256:…` or `repo@sha256:…`.

    Raises:
        SpecError: `image` is a tag, which may be another image tomorrow; or `images.yaml` is wrong.
        SandboxError: nothing is pinned under this name.
    """
    if _ID.fullmatch(image):
        return ImagePin(id=image)
    if IMAGE_BY_DIGEST.fullmatch(image):
        return ImagePin(reference=image)
    if is_tag(image):
        message, remedy = tag_fault(image)
        raise SpecError(message, remedy=f"{remedy}, and use the name it is pinned under.")
    pin = pins().get(image)
    if pin is None:
        raise SandboxError(
            f"no image is pinned under the name {image}",
            remedy="run `wtsbench image build` to build and pin the trial image" if image == "trial" else _known(),
        )
    return pin


def pins() -> dict[str, ImagePin]:
    """Every pinned image by name; the user's own file takes precedence over the shipped one.

    Raises:
        SpecFaults: a file is wrong; the error lists all its faults.
    """
    found: dict[str, ImagePin] = {}
    for folder in reversed(manifest_folders()):
        if (folder / FILE).is_file():
            found |= load_pins(folder / FILE)
    return found


def write_pin(name: str, pin: ImagePin, *, file: Path | None = None) -> Path:
    """Pin an image under a name; the file is replaced whole, its other names and the comment at its top are kept.

    Args:
        name: to pin it under.
        pin: the image.
        file: None is the user's own `images.yaml`.

    Raises:
        SpecError: the name is not allowed, or the file is wrong.
    """
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"{name!r} is not allowed as the name of an image",
            remedy="use letters, digits, dots, dashes and underscores.",
        )
    path = user_manifests() / FILE if file is None else file
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path.parent):
        kept, head = (load_pins(path), _comment(path)) if path.is_file() else ({}, _HEAD)
        entries = {
            key: value.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            for key, value in sorted((kept | {name: pin}).items())
        }
        replace(path, head + yaml.safe_dump(entries, sort_keys=False))
    return path


def _comment(path: Path) -> str:
    """The lines at the top of the file that are comments."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:end])


def load_pins(path: Path) -> dict[str, ImagePin]:
    """The images of a file, by name.

    Raises:
        SpecFaults: the file is wrong; all its faults are in it.
    """
    tree, faults = read(path)
    loaded: dict[str, ImagePin] = {}
    for name, node in tree.children.items():
        try:
            pin = ImagePin.model_validate(node.value)
        except ValidationError as error:
            faults += faults_of(error, node, ImagePin)
            continue
        if pin.id is None and pin.reference is None:
            faults.append(node.fault("names no digest: it needs an id or a reference"))
            continue
        loaded[str(name)] = pin
    if faults:
        raise SpecFaults(faults)
    return loaded


def _known() -> str:
    names = ", ".join(sorted(pins()))
    return f"pinned are: {names}" if names else "nothing is pinned yet; run `wtsbench image build` for the trial image"
