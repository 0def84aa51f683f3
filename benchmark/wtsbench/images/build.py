"""Building the trial image on this machine's Docker engine, and pinning it by its id."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import wtsbench
from wtsbench.errors import SandboxError
from wtsbench.images import extras, oci
from wtsbench.images.code import code_digest, copy_code
from wtsbench.images.docker_engine import connect, probe, said_by_engine
from wtsbench.images.pins import DEFAULT_IMAGE, Built, ImagePin, write_pin
from wtsbench.images.wheelhouse import contents, wheelhouse
from wtsbench.settings import shipped
from wtsbench.spec.identity import digest

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

DEFAULT_BASE = "python:3.11-slim-bookworm"
"""As in the Dockerfile."""
PACKAGES_LABEL = "wtsbench.packages"
"""Label of an image: digest of everything that decides its layer of packages."""
_INSIDE = "/opt/wtsbench"
_BUILD_SECONDS = 3600.0
_STEP_MADE = re.compile(r"---> ([0-9a-f]{12})")
"""The engine's line that names the image made by one step of a build."""
_OLDEST_PYTHON = (3, 11)


def build(
    *,
    base: str | None = None,
    name: str = DEFAULT_IMAGE,
    gpu: bool | None = None,
    strategies: Sequence[str] = (),
    note: Callable[[str], None] | None = None,
) -> ImagePin:
    """Build the trial image from the wtsbench that runs here, and pin it in the user's `images.yaml`.

    The same code, packages and base give the same image id, on every engine and at any time. After a change of code
    only the layer of the code is made anew: that of the packages is taken from an image that the engine holds.

    Args:
        base: image to build on, with Python and its venv module; pulled where the engine does not have it. None takes
            `DEFAULT_BASE`.
        name: to pin it under.
        gpu: whether torch should come with CUDA; None looks whether this machine has a GPU.
        strategies: packages of others that bring in strategies: `name==version`, wheels, or folders of sources.
        note: called with a line about each step that takes time.

    Raises:
        SandboxError: no engine answers, the base image or a package cannot be fetched, or the build fails.
        SpecError: a package in `strategies` is named wrongly, or needs another one.
    """
    say = note or (lambda line: None)
    probe()
    with connect(seconds=_BUILD_SECONDS) as client, tempfile.TemporaryDirectory(prefix="wtsbench-image-") as scratch:
        base_image = _base_image(client, base or DEFAULT_BASE, say)
        python = _python_of(client, base_image)
        lock = shipped("containers") / "trial-requirements.txt"
        wheels = wheelhouse(lock, python=python, gpu=_has_gpu() if gpu is None else gpu, note=say)
        context = Path(scratch) / "context"
        copy_code(context / "wtsbench")
        packages = extras.unpack(strategies, context / "strategies", python=python, lock=lock)
        shutil.copy(shipped("containers") / "Dockerfile", context)
        digests = contents(wheels)
        recipe = (context / "Dockerfile").read_text()
        built = Built(
            wtsbench=wtsbench.__version__,
            code=code_digest(),
            base=f"{base or DEFAULT_BASE} ({base_image.id})",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            wheels=digest(digests),
            torch=next((name.split("-")[1] for name in digests if name.startswith("torch-")), "absent"),
            packages=packages,
        )
        parts = _Build(
            client=client,
            base=base_image,
            context=context,
            scratch=Path(scratch),
            key=digest([str(base_image.id), recipe, lock.read_text(), digests]),
            built=built,
        )
        try:
            image_id = parts.assemble(parts.packages(wheels, lock, say), say)
        finally:
            parts.clear()
    pin = ImagePin(
        id=image_id,
        platform="/".join(str(base_image.attrs[key]).lower() for key in ("Os", "Architecture")),
        built=built,
    )
    write_pin(name, pin)
    return pin


@dataclass(frozen=True, kw_only=True)
class _Build:
    """The parts of one build."""

    client: docker.DockerClient
    base: Image
    context: Path
    scratch: Path
    key: str
    """Digest of everything that decides the layer of packages."""
    built: Built
    made: list[str] = field(default_factory=list)
    """Ids of intermediate images, which only this build needs."""

    def packages(self, wheels: Path, lock: Path, say: Callable[[str], None]) -> _Packages:
        """The layer of packages: that of an image on this engine, or made from the wheels."""
        with said_by_engine("the engine cannot look for images"):
            candidates = self.client.images.list(filters={"label": f"{PACKAGES_LABEL}={self.key}"})
        below = self.base.attrs["RootFS"]["Layers"]
        for image in candidates:
            layers = image.attrs["RootFS"]["Layers"]
            if layers[: len(below)] == below and len(layers) == len(below) + 2 and image.attrs["Created"] == oci.EPOCH:
                return _Packages(digest=layers[len(below)], donor=str(image.id), layer=None)
        say("installing the packages of the trial image")
        shutil.copy(lock, self.context)
        _link_all(wheels, self.context / "wheels")
        made, layer = self._layer("packages")
        shutil.rmtree(self.context / "wheels")
        self.clear()  # more than a gigabyte, and in the layer by now
        return _Packages(digest=made, donor=str(self.base.id), layer=layer)

    def clear(self) -> None:
        """Remove the intermediate images: they have no name, and the final image has what is needed of them."""
        import docker.errors

        for image in reversed(self.made):  # one may be made from another before it
            with contextlib.suppress(docker.errors.DockerException):  # another build may use or have removed it
                self.client.images.remove(image)
        self.made.clear()

    def assemble(self, packages: _Packages, say: Callable[[str], None]) -> str:
        """The image of all parts, on the engine; its id."""
        say("building the trial image")
        code, layer = self._layer("code")
        with said_by_engine("the engine cannot look for what it built"):
            settings = self.client.images.get(self._stage("settings")).attrs["Config"]
        config = oci.configuration(self.base.attrs, settings, [packages.digest, code])
        tag = oci.tag_of(oci.sha256(config))
        layers = {code: layer}
        if packages.layer is not None:
            layers[packages.digest] = packages.layer
        try:
            return oci.put_image(self.client, config, layers, tag)
        except SandboxError:  # an engine that wants every layer, even those it has
            lacking = [layer for layer in oci.layers_of(config) if layer not in layers]
            exported = oci.take_layers(self.client, packages.donor, lacking, self.scratch)
            layers |= {layer: oci.File(path) for layer, path in exported.items()}
            return oci.put_image(self.client, config, layers, tag)

    def _layer(self, target: str) -> tuple[str, oci.File]:
        """Digest and file of the layer that a stage of the Dockerfile makes."""
        stage, path = self._stage(target), self.scratch / f"{target}.tar"
        with (
            said_by_engine("what was built cannot be taken out of the engine"),
            oci.archived(self.client, stage, _INSIDE) as chunks,
        ):
            return oci.make_layer(chunks, path, inside=str(Path(_INSIDE).parent)[1:]), oci.File(path)

    def _stage(self, target: str) -> str:
        """Id of a stage of the Dockerfile, built unless the engine has it in its cache."""
        arguments = {
            "BASE": str(self.base.id),
            "BASE_ID": str(self.base.id),
            "VERSION": self.built.wtsbench,
            "CODE": self.built.code,
            "PACKAGES": self.key,
            "STRATEGIES": ",".join(self.built.packages),
            "TORCH": self.built.torch or "absent",
        }
        lines: list[str] = []
        last: list[str] = []
        built: str | None = None
        with said_by_engine("the trial image cannot be built"):
            for step in self.client.api.build(
                path=str(self.context),
                target=target,
                buildargs=arguments,
                network_mode="none",
                rm=True,
                forcerm=True,
                decode=True,
            ):
                line = step.get("stream", "").strip()
                step_made = _STEP_MADE.fullmatch(line)
                if step_made is not None and step_made[1] not in str(self.base.id):
                    last = [step_made[1]]
                if "error" in step:
                    self.made.extend(last)
                    tail = " | ".join(lines[-5:])
                    raise SandboxError(f"the trial image cannot be built: {step['error']} ({tail})")
                if line:
                    lines.append(line)
                if "ID" in (step.get("aux") or {}):
                    built = step["aux"]["ID"]
                    self.made.append(built)  # the stage asked for, or one that it needs
        if built is None:
            raise SandboxError(f"the trial image cannot be built: the engine names no image ({' | '.join(lines[-5:])})")
        return built


@dataclass(frozen=True, kw_only=True)
class _Packages:
    """The layer of packages."""

    digest: str
    donor: str
    """Id of an image on the engine that has the layers below, and this one too if `layer` is None."""
    layer: oci.File | None


def _base_image(client: docker.DockerClient, base: str, say: Callable[[str], None]) -> Image:
    import docker.errors

    with said_by_engine(f"the base image {base} cannot be fetched"):
        try:
            return client.images.get(base)
        except docker.errors.ImageNotFound:
            say(f"pulling the base image {base}")
        try:
            return client.images.pull(base)
        except docker.errors.DockerException as error:
            raise SandboxError(
                f"the base image {base} is not on this engine and cannot be pulled",
                remedy="name another with --base: any image with python3 (3.11 or newer) and its venv module",
            ) from error


def _python_of(client: docker.DockerClient, base: Image) -> str:
    """Version of the base image's Python, as `3.11`."""
    with said_by_engine("the base image does not run"):
        container = client.containers.create(
            str(base.id),
            ["python3", "-c", "import ensurepip, sys, venv; print(*sys.version_info[:2], sep='.')"],
            entrypoint=[],
            network_mode="none",
        )
        try:
            container.start()
            code = container.wait()["StatusCode"]
            output = container.logs().decode(errors="replace").strip()
        finally:
            container.remove(force=True, v=True)
    if code != 0:
        reason = output.splitlines()[-1] if output else f"exit code {code}"
        raise SandboxError(f"the base image has no usable Python: {reason}")
    version: str = output.splitlines()[-1]
    if tuple(int(part) for part in version.split(".")) < _OLDEST_PYTHON:
        raise SandboxError(f"the base image has Python {version}; wtsbench needs 3.11 or newer")
    return version


def _has_gpu() -> bool:
    program = shutil.which("nvidia-smi")
    return program is not None and subprocess.run([program, "-L"], capture_output=True).returncode == 0


def _link_all(wheels: Path, folder: Path) -> None:
    """Put the wheels into the build's context, as hard links where these can be made."""
    folder.mkdir()
    for wheel in sorted(wheels.iterdir()):
        try:
            os.link(wheel, folder / wheel.name)
        except OSError:  # another file system
            shutil.copy(wheel, folder / wheel.name)
