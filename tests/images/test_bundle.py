"""The file that carries an image and more: written whole, checked whole."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.images.registries import make_image
from wtsbench.images import oci
from wtsbench.images.bundle import LISTING, BundleFault, Entry, opened, write
from wtsbench.images.docker_engine import connect

CONTENT = {"wtsbench/cache/a": b"first" * 400, "wtsbench/hub/b": b"second" * 300, "wtsbench/wheels/c": b"third" * 200}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of three small files and no image."""
    write(tmp_path / "bundle.tar", {"grids": []}, {name: Entry.of_bytes(name, text) for name, text in CONTENT.items()})
    return tmp_path / "bundle.tar"


def rewritten(path: Path, change: Any) -> None:
    """The tar file with its members changed, dropped or joined by others."""
    with tarfile.open(path) as tar:
        members = [(one.name, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for name, content in change(members):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_what_is_written_is_read(tmp_path: Path, bundle: Path) -> None:
    """Every file comes out as it went in, several at once, and equal content has an equal digest."""
    again = write(
        tmp_path / "again.tar", {"grids": []}, {name: Entry.of_bytes(name, text) for name, text in CONTENT.items()}
    )
    with opened(bundle) as found:
        assert found.digest == again
        assert {name: found.read(name) for name in found.entries} == CONTENT
        assert found.config is None


@pytest.mark.parametrize("where", [0.02, 0.2, 0.4, 0.6])
def test_a_changed_byte_is_found(bundle: Path, where: float) -> None:
    """Wherever a byte of a file or of the listing was changed on the way, the bundle is refused."""
    content = bytearray(bundle.read_bytes())
    place = next(at for at in range(int(len(content) * where), len(content)) if content[at] in b"firstecondh")
    content[place] ^= 1
    bundle.write_bytes(content)

    with pytest.raises(BundleFault), opened(bundle):
        pass


def test_a_cut_bundle_is_found(bundle: Path) -> None:
    """A copy that broke off is no bundle."""
    bundle.write_bytes(bundle.read_bytes()[:4000])

    with pytest.raises(BundleFault), opened(bundle):
        pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda members: members[:-1], "is missing"),
        (lambda members: [*members, ("wtsbench/cache/more", b"x")], "is not listed"),
        (lambda members: [*members, ("../../outside", b"x")], "is not listed"),
        (lambda members: [*members[:-1], (members[-1][0], b"other")], "not what its digest says"),
        (lambda members: [*members, members[-1]], "is not listed"),
        (lambda members: members[1:], "no bundle"),
        (lambda members: [(LISTING, b"{}"), *members[1:]], "listing cannot be read"),
    ],
)
def test_a_bundle_holds_what_it_lists_and_no_more(bundle: Path, change: Any, said: str) -> None:
    """Files that are gone, were added, lie outside or are there twice are refused, and the error says which."""
    rewritten(bundle, change)

    with pytest.raises(BundleFault, match=said), opened(bundle):
        pass


def test_a_sparse_file_is_refused(bundle: Path) -> None:
    """A member whose checked content is put together from other bytes than those that would be placed is no file."""
    name, true, false = "wtsbench/cache/a", CONTENT["wtsbench/cache/a"], b"wrong" * 400
    with tarfile.open(bundle) as tar:
        members = [(one.name, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr]
    with tarfile.open(bundle, "w", format=tarfile.PAX_FORMAT) as tar:
        for called, content in members:
            info = tarfile.TarInfo(called)
            if called == name:
                pieces = f"-9999,{len(false)},0,{len(true)}"
                info.pax_headers = {"GNU.sparse.map": pieces, "GNU.sparse.size": str(len(true))}
                content = false + true
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))

    with pytest.raises(BundleFault, match="wtsbench/cache/a is not listed"), opened(bundle):
        pass


def test_something_else_is_no_bundle(tmp_path: Path) -> None:
    """A missing file, and one that is no tar file, are faults of the user's with a remedy."""
    (tmp_path / "text").write_text("hello")
    for name in ("text", "absent"):
        with pytest.raises(BundleFault) as refused, opened(tmp_path / name):
            pass
        assert refused.value.remedy


def test_a_bundle_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    """A file that changes meanwhile stops it; the bundle that was there before is still there, and no half one."""
    out, file = tmp_path / "bundle.tar", tmp_path / "file"
    out.write_bytes(b"before")
    file.write_bytes(b"a" * 1000)
    entry = Entry.of_file("wtsbench/cache/a", file)
    file.write_bytes(b"b" * 1000)

    with pytest.raises(BundleFault, match="has changed"):
        write(out, {}, {entry.name: entry})

    assert out.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.tar", "file"]


@pytest.mark.docker
def test_an_image_goes_from_engine_to_engine(tmp_path: Path) -> None:
    """An image taken out of an engine and given to one without it keeps its id; one under a false id is refused."""
    with connect() as client:
        image_id = make_image(client, tmp_path / "image", "wtsbench-test-bundle:1")
        layers = client.images.get(image_id).attrs["RootFS"]["Layers"]
        taken = oci.take_layers(client, image_id, {*layers, image_id}, tmp_path)
        config = taken[image_id].read_bytes()
        entries = {oci.blob_name(layers[0]): Entry.of_file(oci.blob_name(layers[0]), taken[layers[0]])}
        for name, content in oci.layout(config, {layers[0]: taken[layers[0]].stat().st_size}, "x:1").items():
            entries[name] = Entry.of_bytes(name, content)
        write(tmp_path / "bundle.tar", {"image": {"name": "x:1", "id": image_id}}, entries)
        client.images.remove(image_id, force=True)

        try:
            with opened(tmp_path / "bundle.tar") as bundle:
                assert bundle.config == config
                parts = {layer: bundle.entries[oci.blob_name(layer)].part for layer in layers}
                assert oci.put_image(client, config, parts, "wtsbench-test-bundle:1") == image_id
        finally:
            client.images.remove(image_id, force=True)

        write(tmp_path / "bundle.tar", {"image": {"name": "x:1", "id": "sha256:" + "0" * 64}}, entries)
        with pytest.raises(BundleFault, match="not the one"), opened(tmp_path / "bundle.tar"):
            pass
