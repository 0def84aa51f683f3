"""Checks that every pinned image exists and is what its pin says."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wtsbench.errors import SandboxError
from wtsbench.images import oci, registry
from wtsbench.images.code import code_digest, digest_of
from wtsbench.images.docker_engine import CODE_LABEL, connect, local_image, probe, said_by_engine
from wtsbench.images.pins import ImagePin, pins

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

State = Literal["ok", "wrong", "unreachable"]
_CODE = "/opt/wtsbench/code/wtsbench"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The state of one pinned image."""

    name: str
    pin: ImagePin
    state: State
    """`wrong`: it is nowhere, or is not what the pin says; `unreachable`: the registry does not answer."""
    where: Literal["engine", "registry"] | None
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What is worth knowing but no fault."""


def verify(wanted: Mapping[str, ImagePin], *, pull: bool, note: Callable[[str], None]) -> list[Finding]:
    """Look for every pinned image on the engine, then in its registry, and compare it with its pin.

    Images on the engine are checked: id, labels, platform, and the code in them. An image that only a registry has
    is known to exist there, and is checked after it was pulled.

    Args:
        wanted: pins by name.
        pull: whether to fetch what the engine lacks.
        note: called with a line about what takes time.

    Raises:
        SandboxError: no engine answers.
    """
    probe()
    with connect(seconds=registry.PULL_SECONDS) as client:
        return [_verified(client, name, pin, pull, note) for name, pin in sorted(wanted.items())]


def standing() -> dict[str, tuple[str, bool]]:
    """For every pinned image: its state on this engine as text, and whether trials can run in it as they should.

    Neither registries are asked nor the contents of images read.

    Raises:
        SandboxError: no engine answers.
    """
    states = {}
    with connect() as client:
        for name, pin in sorted(pins().items()):
            image = local_image(client, pin.digest)
            short = pin.digest.rpartition("sha256:")[2][:12]
            if image is None:
                states[name] = (f"({short}) is not on this engine", False)
                continue
            notes = notes_of(image)
            torch = image.labels.get(registry.TORCH_LABEL)
            kind = f", torch {torch}" if torch else ""
            words = "; ".join(note.partition("; ")[0] for note in notes) or "is here, with this installation's code"
            states[name] = (f"({short}{kind}): {words}" if notes else f"({short}{kind}) {words}", not notes)
    return states


def _verified(
    client: docker.DockerClient, name: str, pin: ImagePin, pull: bool, note: Callable[[str], None]
) -> Finding:
    image = local_image(client, pin.digest)
    if image is None and pin.reference is not None:
        image = local_image(client, pin.reference)
    try:
        if image is None:
            if pin.reference is None:
                fault = "is not on this engine, and no registry is named for it; `wtsbench image build` builds it"
                return Finding(name=name, pin=pin, state="wrong", where=None, faults=(fault,))
            if not pull:
                registry.registry_digest(client, pin.reference)
                note_of_registry = "the registry has it; --pull fetches and checks it"
                return Finding(
                    name=name, pin=pin, state="ok", where="registry", notes=(note_of_registry, *_moved(client, pin))
                )
            note(f"pulling {pin.reference}")
            image = registry.pull(client, pin.reference)
    except registry.RegistryUnreachable as error:
        return Finding(name=name, pin=pin, state="unreachable", where=None, faults=(error.message,))
    except SandboxError as error:
        return Finding(name=name, pin=pin, state="wrong", where=None, faults=(error.message,))
    faults = faults_of(client, image, pin)
    notes = (*notes_of(image), *_moved(client, pin))
    return Finding(name=name, pin=pin, state="wrong" if faults else "ok", where="engine", faults=faults, notes=notes)


def faults_of(client: docker.DockerClient, image: Image, pin: ImagePin) -> tuple[str, ...]:
    """Where an image on the engine differs from its pin, or from its own labels."""
    faults = []
    if pin.id is not None and image.id != pin.id:
        faults.append(f"the engine has {image.id}, the pin says {pin.id}")
    if pin.platform is not None and registry.platform_of(image) != pin.platform:
        faults.append(f"it is for {registry.platform_of(image)}, the pin says {pin.platform}")
    labelled = registry.describe(image, reference=None, tag=None).built
    if pin.built is not None:
        for field in ("wtsbench", "code", "torch", "packages"):
            pinned, label = getattr(pin.built, field), None if labelled is None else getattr(labelled, field)
            if pinned is not None and pinned != label:
                faults.append(f"its label for {field} is {label}, the pin says {pinned}")
    if labelled is not None:
        inside = code_inside(client, str(image.id))
        if inside != labelled.code:
            faults.append(f"the code in it has digest {inside}, its label says {labelled.code}")
    return tuple(faults)


def notes_of(image: Image) -> tuple[str, ...]:
    """How an image's code relates to that of this installation."""
    code = image.labels.get(CODE_LABEL)
    if code is None:
        return ("it has no label of wtsbench, so which code is in it is not known",)
    if code != code_digest():
        return ("it holds other code than this installation; `wtsbench image build` builds one with this code",)
    return ()


def code_inside(client: docker.DockerClient, image: str) -> str | None:
    """Digest of the code that an image holds, as `code_digest` computes it; None if it holds none.

    Nothing in the image is run for this.
    """
    import docker.errors

    with said_by_engine("the contents of the image cannot be read"):
        try:
            with oci.archived(client, image, _CODE) as chunks:
                archive = b"".join(chunks)
        except docker.errors.ImageNotFound:  # removed meanwhile, which says nothing about its code
            raise
        except docker.errors.NotFound:
            return None
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() and member.name.endswith(".py") else None
            if content is not None:
                files[member.name.partition("/")[2]] = content.read()
    return digest_of(files)


def _moved(client: docker.DockerClient, pin: ImagePin) -> tuple[str, ...]:
    """A note if the pinned tag names another image by now."""
    if pin.tag is None or pin.reference is None:
        return ()
    try:
        now, _ = registry.registry_digest(client, pin.tag)
    except SandboxError as error:
        return (f"whether tag {pin.tag} has moved is not known: {error.message}",)
    pinned = pin.reference.partition("@")[2]
    return () if now == pinned else (f"tag {pin.tag} is {now} by now; the pin still means {pinned}",)
