"""Registries, asked through the engine: which digest a tag stands for now, and whether a registry has a digest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wtsbench.errors import ExitCode, SandboxError
from wtsbench.images import extras
from wtsbench.images.docker_engine import CODE_LABEL, connect, local_image, probe, said_by_engine
from wtsbench.images.pins import Built, ImagePin

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

VERSION_LABEL = "org.opencontainers.image.version"
BASE_LABEL = "org.opencontainers.image.base.digest"
TORCH_LABEL = "wtsbench.torch"
PULL_SECONDS = 3600.0

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_ABSENT = re.compile(r"manifest unknown|not found|name unknown|no such manifest|repository does not exist", re.I)
_REFUSED = re.compile(r"unauthori[sz]ed|denied|authentication required|forbidden|no basic auth", re.I)
_DAMAGED = re.compile(r"verification failed|digest mismatch|does not match|unexpected EOF|invalid diffID", re.I)


class RegistryUnreachable(SandboxError):
    """The registry does not answer, or refuses this user."""


class NoSuchImage(SandboxError):
    """The registry answers that it has no such image."""

    exit_code = ExitCode.USAGE


class DamagedImage(SandboxError):
    """The registry sends content that does not match its digest."""

    exit_code = ExitCode.TRIALS_FAILED


def find_pin(reference: str, *, note: Callable[[str], None]) -> ImagePin:
    """The pin of an image as it is now: its digest in the registry, its id, and what its labels say.

    An image that this engine built, and that no registry has given a digest, is pinned by its id. For any other the
    registry is asked, and it is pulled if the engine lacks it: a pin that cannot be pulled is useless. For an image of
    several platforms the digest is that of the index of all, and the id that of the image for this engine.

    Args:
        reference: `registry/repo:tag`, `repo@sha256:…` or an id, `sha256:…`.
        note: called with a line about what takes time, and what is special about the image.

    Raises:
        RegistryUnreachable: the registry does not answer.
        NoSuchImage: neither registry nor engine has it.
        DamagedImage: the registry sends content that does not match its digest.
        SandboxError: no engine answers.
    """
    probe()
    with connect(seconds=PULL_SECONDS) as client:
        if reference.startswith("sha256:"):
            image = local_image(client, reference)
            if image is None:
                raise NoSuchImage(
                    f"no image {reference} is on this engine", remedy="docker images --no-trunc lists ids."
                )
            references = sorted(image.attrs.get("RepoDigests") or ())
            return describe(image, reference=references[0] if references else None, tag=None)
        repository, tag = _split(reference)
        image = local_image(client, reference)
        if image is not None and not _digests(image, repository):
            note("no registry has given this image a digest: it is pinned by its id, and is on this engine only")
            return describe(image, reference=None, tag=None)
        digest, platforms = registry_digest(client, reference, local=image)
        exact = f"{repository}@{digest}"
        image = local_image(client, exact)
        if image is None:
            note(f"pulling {exact}")
            image = pull(client, exact)
        if platforms:
            note(f"the digest is of an index of {len(platforms)} platforms ({', '.join(platforms)})")
        return describe(image, reference=exact, tag=None if tag is None else reference)


def describe(image: Image, *, reference: str | None, tag: str | None) -> ImagePin:
    """The pin of an image on an engine, with what its labels say."""
    labels = image.labels
    built = None
    if CODE_LABEL in labels:
        packages = labels.get(extras.LABEL, "")
        built = Built(
            wtsbench=labels.get(VERSION_LABEL, ""),
            code=labels[CODE_LABEL],
            base=labels.get(BASE_LABEL, ""),
            torch=labels.get(TORCH_LABEL) or None,
            packages=tuple(packages.split(",")) if packages else (),
        )
    return ImagePin(id=str(image.id), reference=reference, tag=tag, platform=platform_of(image), built=built)


def platform_of(image: Image) -> str:
    """`linux/amd64`."""
    return f"{image.attrs['Os']}/{image.attrs['Architecture']}"


def registry_digest(
    client: docker.DockerClient, reference: str, *, local: Image | None = None
) -> tuple[str, tuple[str, ...]]:
    """The digest that a registry has for a reference, and the platforms if there are several.

    Args:
        client: the engine, which asks the registry with its own credentials.
        reference: with a tag or a digest.
        local: the engine's image of this reference, for the remedy.

    Raises:
        RegistryUnreachable: the registry does not answer.
        NoSuchImage: it has no such image.
    """
    with _registry_errors(reference, local):
        data = client.images.get_registry_data(reference)
    descriptor = data.attrs["Descriptor"]
    several = descriptor.get("mediaType") in _INDEXES
    platforms = [
        f"{entry['os']}/{entry['architecture']}" for entry in data.attrs.get("Platforms") or () if entry.get("os")
    ]
    return str(descriptor["digest"]), tuple(platforms) if several else ()


def pull(client: docker.DockerClient, exact: str) -> Image:
    """Fetch an image by its digest; the engine checks every part.

    Raises:
        RegistryUnreachable: the registry does not answer.
        NoSuchImage: it has no such image.
        DamagedImage: a part does not match its digest.
    """
    import docker.errors

    repository, _, digest = exact.partition("@")
    with _registry_errors(exact, None):
        for step in client.api.pull(repository, tag=digest, stream=True, decode=True):
            if "error" in step:  # the SDK's own `pull` ignores errors in the stream
                raise docker.errors.APIError(step["error"])
        image: Image = client.images.get(exact)
    return image


@contextmanager
def _registry_errors(reference: str, local: Image | None) -> Iterator[None]:
    """Turns errors of registries, and of the connection to them, into errors that say what the user can do."""
    import docker.errors

    try:
        with said_by_engine(f"image {reference} cannot be fetched"):
            yield
    except SandboxError as error:
        cause = error.__cause__
        missing = isinstance(cause, docker.errors.NotFound) or _ABSENT.search(error.message) is not None
        if _DAMAGED.search(error.message):
            raise DamagedImage(
                f"the registry gives other content for {reference} than its digest says, and the engine refused it"
                f" ({error.message.partition(': ')[2]})",
                remedy="push the image again from where it was built, or use another registry.",
            ) from cause
        if missing and not _REFUSED.search(error.message):
            raise NoSuchImage(
                f"the registry has no image {reference}", remedy="check the name; push it with `docker push`."
            ) from cause
        alternative = "" if local is None else f"; or pin what this engine has by its id: {local.id}"
        raise RegistryUnreachable(
            f"the registry of {reference} does not answer, or refuses you: {error.message.partition(': ')[2]}",
            remedy=f"start it, check the address, or sign in with `docker login`{alternative}.",
        ) from cause


def _split(reference: str) -> tuple[str, str | None]:
    """Repository and tag; the tag is None if the reference has a digest."""
    repository, at, _ = reference.partition("@")
    if at:
        return repository, None
    head, colon, tail = repository.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (repository, "latest")


def _digests(image: Image, repository: str) -> list[str]:
    """Digests that a registry gave the image in a repository."""
    return [digest for digest in image.attrs.get("RepoDigests") or () if digest.partition("@")[0] == repository]
