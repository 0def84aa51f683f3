"""Pinning and verifying images against a real registry, through a real engine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Wtsbench, environment, wtsbench  # noqa: F401  # fixtures
from tests.conftest import REQUIRE
from tests.images.registries import CODE, Registry, make_image, registry_is_there, running_registry
from wtsbench.images import registry as registries
from wtsbench.images.docker_engine import CODE_LABEL, connect, local_image
from wtsbench.images.pins import ImagePin, pins, write_pin
from wtsbench.images.registry import find_pin
from wtsbench.images.verify import Finding, standing, verify
from wtsbench.sandbox.choice import make_sandbox

pytestmark = pytest.mark.docker


@pytest.fixture(autouse=True)
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of manifests of the test's own."""
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path / "manifests"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """An empty registry."""
    if not registry_is_there():
        if "docker" in os.environ.get(REQUIRE, "").split(","):
            pytest.fail("docker-registry is required here; `.ci/docker-engine start` installs it", pytrace=False)
        pytest.skip("docker-registry is not installed")
    with running_registry(tmp_path) as found:
        yield found


@pytest.fixture
def client(registry: Registry) -> Iterator[Any]:
    """The engine's client; the test's images are removed at the end."""
    with connect() as found:
        yield found
        for image in found.images.list():
            if any(registry.address in name for name in (*image.tags, *(image.attrs["RepoDigests"] or ()))):
                found.images.remove(image.id, force=True)


def pushed(client: Any, registry: Registry, folder: Path, tag: str = "trial:1", **changes: Any) -> tuple[str, str]:
    """Push a new image; its reference with tag, and its id."""
    reference = f"{registry.address}/{tag}"
    image_id = make_image(client, folder, reference, **changes)
    said = [json.loads(line) for line in client.images.push(reference).splitlines()]
    assert not [line for line in said if "error" in line], said
    return reference, image_id


def quiet(line: str) -> None:
    """Nobody is told."""


def verified(*, pull: bool = False) -> Finding:
    """How the only pinned image stands."""
    [finding] = verify(pins(), pull=pull, note=quiet)
    return finding


def test_a_tag_is_pinned_and_pulled_by_its_digest(client: Any, registry: Registry, tmp_path: Path) -> None:
    """The pin says digest, id, platform and labels; an engine without the image gets the same one by the digest."""
    reference, image_id = pushed(client, registry, tmp_path)

    pin = find_pin(reference, note=quiet)
    write_pin("trial", pin)

    assert pin.id == image_id
    assert pin.reference is not None
    assert pin.reference.startswith(f"{registry.address}/trial@sha256:")
    assert (pin.tag, pin.platform) == (reference, "linux/amd64")
    assert pin.built is not None
    assert (pin.built.wtsbench, len(pin.built.code)) == ("1.0", 64)
    assert pins()["trial"] == pin
    assert (verified().state, verified().where) == ("ok", "engine")

    client.images.remove(image_id, force=True)
    sandbox = make_sandbox("auto")
    assert (sandbox.name, f"docker pull {pin.reference}" in str(sandbox.notice)) == ("process", True)
    assert (verified().state, verified().where) == ("ok", "registry")
    assert (verified(pull=True).state, verified().where) == ("ok", "engine")
    assert make_sandbox("docker").image_digest == image_id


@pytest.mark.parametrize("part", ["layer", "configuration", "manifest"])
def test_an_image_that_was_tampered_with_is_refused(client: Any, registry: Registry, tmp_path: Path, part: str) -> None:
    """One changed byte in the registry's storage, in whichever part, and neither pull nor verify takes the image."""
    reference, image_id = pushed(client, registry, tmp_path)
    write_pin("trial", find_pin(reference, note=quiet))
    pin = pins()["trial"]
    assert pin.reference is not None
    manifest = registry.manifest("trial", "1")
    digests = {
        "layer": manifest["layers"][0]["digest"],
        "configuration": manifest["config"]["digest"],
        "manifest": pin.reference.partition("@")[2],
    }
    client.images.remove(image_id, force=True)

    registry.tamper(digests[part])
    finding = verified(pull=True)

    assert finding.state == "wrong", finding
    assert "the engine refused it" in " ".join(finding.faults)
    assert local_image(client, image_id) is None
    assert local_image(client, pin.reference) is None
    with pytest.raises(registries.DamagedImage):
        find_pin(reference, note=quiet)


def test_a_tag_that_moves_moves_no_pin(client: Any, registry: Registry, tmp_path: Path) -> None:
    """The pin gives the image it gave before, and verify says that the tag is another one now."""
    reference, first = pushed(client, registry, tmp_path / "first")
    write_pin("trial", find_pin(reference, note=quiet))
    _, second = pushed(client, registry, tmp_path / "second")
    client.images.remove(first, force=True)

    finding = verified(pull=True)

    assert first != second
    assert make_sandbox("docker").image_digest == first
    assert finding.state == "ok"
    assert f"tag {reference} is sha256:" in " ".join(finding.notes)
    assert find_pin(reference, note=quiet).id == second


def test_of_several_platforms_the_index_is_pinned(client: Any, registry: Registry, tmp_path: Path) -> None:
    """The digest is that of the index, the id that of the image for this engine, and the user is told so."""
    here, image_id = pushed(client, registry, tmp_path / "here", "trial:here")
    there, _ = pushed(client, registry, tmp_path / "there", "trial:there", architecture="arm64")
    digests = [registries.registry_digest(client, one)[0] for one in (here, there)]
    index = registry.push_index("trial", "1", dict(zip(("amd64", "arm64"), digests, strict=True)))
    told: list[str] = []

    pin = find_pin(f"{registry.address}/trial:1", note=told.append)
    write_pin("trial", pin)

    assert pin.reference == f"{registry.address}/trial@{index}"
    assert (pin.id, pin.platform) == (image_id, "linux/amd64")
    assert "linux/amd64, linux/arm64" in " ".join(told)
    assert verified().state == "ok"


def test_a_label_that_lies_is_found_out(client: Any, registry: Registry, tmp_path: Path) -> None:
    """An image with other code than its label says is wrong, though its digest is the pinned one."""
    reference, _ = pushed(
        client, registry, tmp_path, code={**CODE, "trial/run.py": b"cheat()\n"}, **{CODE_LABEL: "1" * 64}
    )
    write_pin("trial", find_pin(reference, note=quiet))

    finding = verified()

    assert finding.state == "wrong"
    assert "the code in it has digest" in " ".join(finding.faults)


def test_a_pin_of_another_image_is_found_out(client: Any, registry: Registry, tmp_path: Path) -> None:
    """A pin whose id, platform or labels are those of another image is wrong, each told by itself."""
    reference, _ = pushed(client, registry, tmp_path)
    pin = find_pin(reference, note=quiet)
    assert pin.built is not None
    other = {
        "id": "sha256:" + "0" * 64,
        "platform": "linux/riscv64",
        "built": pin.built.model_copy(update={"code": "0"}),
    }
    write_pin("trial", pin.model_copy(update=other))

    finding = verified()

    assert finding.state == "wrong"
    assert len(finding.faults) == 3


def test_doctor_tells_what_is_here_and_what_it_holds(client: Any, registry: Registry, tmp_path: Path) -> None:
    """An image with other code, and one that the engine lacks, are told apart, and neither is good to go."""
    reference, image_id = pushed(client, registry, tmp_path)
    write_pin("trial", find_pin(reference, note=quiet))

    assert [("other code" in how, good) for how, good in standing().values()] == [(True, False)]
    client.images.remove(image_id, force=True)
    assert [("not on this engine" in how, good) for how, good in standing().values()] == [(True, False)]


def test_an_image_that_no_registry_knows_is_pinned_by_its_id(client: Any, registry: Registry, tmp_path: Path) -> None:
    """What only this engine has needs no registry; once it is gone from there, verify says so."""
    reference = f"{registry.address}/trial:local"
    image_id = make_image(client, tmp_path, reference)

    pin = find_pin(reference, note=quiet)
    write_pin("trial", pin)
    assert (pin.id, pin.reference) == (image_id, None)
    assert verified().state == "ok"

    client.images.remove(image_id, force=True)
    assert verified(pull=True).state == "wrong"


def test_the_command_line_tells_absent_from_unreachable(
    client: Any,
    registry: Registry,
    tmp_path: Path,
    wtsbench: Wtsbench,  # noqa: F811
) -> None:
    """Exit code 2 for a tag that is not there, 1 for a pin that is nowhere, 5 with a remedy for a silent registry."""
    reference, image_id = pushed(client, registry, tmp_path / "image")
    made = wtsbench("image", "pin", "mine", reference, "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["id"] == image_id
    absent = wtsbench("image", "pin", "other", f"{registry.address}/trial:2")
    assert (absent.returncode, "docker push" in absent.stderr) == (2, True)
    assert wtsbench("image", "verify").returncode == 0
    assert json.loads(wtsbench("image", "list", "--json").stdout)[0]["name"] == "mine"
    write_pin("gone", ImagePin(reference=f"{registry.address}/trial@sha256:{'0' * 64}"))
    assert wtsbench("image", "verify", "gone").returncode == 1
    assert wtsbench("image", "verify", "mine").returncode == 0

    registry.stop()
    silent = wtsbench("image", "pin", "other", f"{registry.address}/trial:2")
    assert (silent.returncode, "docker login" in silent.stderr) == (5, True)
    here = wtsbench("image", "verify", "mine", "--json")  # it is on the engine, so nothing is missing
    assert (here.returncode, json.loads(here.stdout)[0]["state"]) == (0, "ok")
    client.images.remove(image_id, force=True)
    gone = wtsbench("image", "verify", "mine", "--json")
    assert (gone.returncode, json.loads(gone.stdout)[0]["state"]) == (5, "unreachable")
    assert "registry" in gone.stderr
