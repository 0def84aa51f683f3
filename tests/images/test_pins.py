"""Names of images, digests and tags."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wtsbench.errors import SandboxError, SpecError
from wtsbench.images.pins import Built, ImagePin, pins, resolve_image, write_pin
from wtsbench.planning.check import load_checked_grid
from wtsbench.settings import shipped

ID = "sha256:" + "a1" * 32
OTHER = "sha256:" + "b2" * 32


@pytest.fixture(autouse=True)
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder of manifests, which is not there yet."""
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path / "manifests"))
    return tmp_path / "manifests"


def test_a_pin_is_found_by_its_name() -> None:
    """What was pinned under a name is what the name stands for, and pinning another name changes nothing about it."""
    built = Built(wtsbench="1.0", code="c" * 64, base="debian", created="2020-01-01T00:00:00+00:00")
    pin = ImagePin(id=ID, built=built)
    write_pin("trial", pin)
    write_pin("other", ImagePin(id=OTHER, reference=f"registry.example/trial@{OTHER}"))

    assert resolve_image("trial") == pin
    assert set(pins()) == {"trial", "other"}


def test_pinning_again_replaces_the_file_whole(manifests: Path) -> None:
    """The newest pin of a name counts, and no other file is left beside it."""
    write_pin("trial", ImagePin(id=ID))
    write_pin("trial", ImagePin(id=OTHER))

    assert resolve_image("trial").id == OTHER
    assert [path.name for path in manifests.iterdir()] == ["images.yaml"]


@pytest.mark.parametrize("image", ["trial:latest", "registry.example/trial", "registry.example:5000/trial:1", "t@1"])
def test_a_tag_is_refused_with_the_command_that_pins_it(image: str) -> None:
    """A tag can be another image tomorrow."""
    with pytest.raises(SpecError, match="tag") as refused:
        resolve_image(image)

    assert refused.value.remedy is not None
    assert f"`wtsbench image pin {'t' if image == 't@1' else 'trial'} {image}`" in refused.value.remedy


def test_a_tag_in_a_grid_is_a_fault_with_its_line(tmp_path: Path) -> None:
    """Validation names file, line and the command; a pinned name and a digest are no faults."""
    path = tmp_path / "grid.yaml"
    text = (
        "apiVersion: wtsbench/v1\nname: g\ntasks: [safety-mini]\npairs: [{weak: nano-1, strong: nano-2}]\n"
        "strategies: [naive]\nimage: %s\n"
    )
    path.write_text(text % "registry.example/trial:1")

    with pytest.raises(SpecError) as wrong:
        load_checked_grid(path)

    assert "grid.yaml:6: image: " in str(wrong.value)
    assert "`wtsbench image pin trial registry.example/trial:1`" in str(wrong.value)
    for image in ("trial", ID, f"registry.example:5000/trial@{ID}"):
        path.write_text(text % image)
        load_checked_grid(path)


def test_a_digest_needs_no_pin() -> None:
    """A digest says itself which image it is."""
    assert resolve_image(ID).digest == ID
    assert resolve_image(f"registry.example/trial@{ID}").digest == f"registry.example/trial@{ID}"


def test_an_unknown_name_says_what_to_do() -> None:
    """The trial image is to be built; for another name the known ones are listed."""
    with pytest.raises(SandboxError, match="no image is pinned") as missing:
        resolve_image("trial")
    assert "wtsbench image build" in str(missing.value.remedy)

    write_pin("trial", ImagePin(id=ID))
    with pytest.raises(SandboxError, match="no image is pinned") as missing:
        resolve_image("trail")
    assert "trial" in str(missing.value.remedy)


def test_pinning_in_a_shipped_file_keeps_its_comment(tmp_path: Path) -> None:
    """What explains the file stays at its top."""
    file = tmp_path / "images.yaml"
    file.write_text("# What this is.\n#\n# And how.\n{}\n")

    write_pin("trial", ImagePin(id=ID, tag="registry.example/trial:1"), file=file)

    assert file.read_text() == f"# What this is.\n#\n# And how.\ntrial:\n  id: {ID}\n  tag: registry.example/trial:1\n"


def test_pins_of_several_at_once_are_all_kept() -> None:
    """Two that pin at the same time do not overwrite each other's file."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_pin(f"image-{number}", ImagePin(id=ID)), range(24)))

    assert len(pins()) == 24


@pytest.mark.parametrize("name", ["", "a:b", "-x", "a/b"])
def test_a_name_that_would_read_as_something_else_is_refused(name: str) -> None:
    """What is pinned under a name must be found by it."""
    with pytest.raises(SpecError, match="not allowed as the name"):
        write_pin(name, ImagePin(id=ID))


def test_every_fault_of_the_file_is_told_with_its_line(manifests: Path) -> None:
    """A shortened digest, an unknown key and a pin without a digest are reported at once."""
    manifests.mkdir()
    (manifests / "images.yaml").write_text(f"a:\n  id: sha256:12\nb:\n  id: {ID}\n  latest: x\nc:\n  reference: null\n")

    with pytest.raises(SpecError) as wrong:
        pins()

    assert [f"images.yaml:{line}" in str(wrong.value) for line in (2, 5, 6)] == [True] * 3


def test_the_shipped_file_is_valid() -> None:
    """Only digests stand in the file that comes with wtsbench."""
    assert (shipped("manifests") / "images.yaml").is_file()
    assert all(pin.id or pin.reference for pin in pins().values())
