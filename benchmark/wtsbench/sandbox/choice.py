"""Which sandbox runs the trials, by its name on the command line."""

from __future__ import annotations

from pathlib import Path

from wtsbench.errors import SandboxError, SpecError
from wtsbench.images.pins import DEFAULT_IMAGE
from wtsbench.sandbox.base import Sandbox
from wtsbench.sandbox.docker import DockerSandbox
from wtsbench.sandbox.process import ProcessSandbox


def make_sandbox(name: str, *, image: str | None = None, place: Path | None = None) -> Sandbox:
    """The sandbox with a name, checked but not started. Takes well under a second where there is no engine.

    Args:
        name: `process`, `docker`, or `auto`: docker where an engine answers and has the pinned image,
            else process, with a notice that says so.
        image: name in `images.yaml`, `repo@sha256:…` or `sha256:…`; None is the trial image.
        place: where a sandbox may make folders of its own, on the file system of the trial folders; None is beside
            each trial folder.

    Raises:
        SandboxError: docker was asked for and cannot be used here.
        SpecError: the image is named by a tag, no sandbox has this name, or the pod's image is not named by digest.
    """
    if name == "process":
        return ProcessSandbox()
    if name not in ("auto", "docker"):
        raise SpecError(f"there is no sandbox {name!r}", remedy="choose auto, process or docker.")
    try:
        return DockerSandbox.here(image or DEFAULT_IMAGE, place=place)
    except SandboxError as error:
        if name != "auto":
            raise
        return ProcessSandbox(because=error)
