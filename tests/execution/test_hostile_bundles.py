"""A bundle that was damaged or made up is refused in words before anything of it is placed, or is one.

`make faults` tries more of it than CI does.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.execution.test_untrusted import in_time
from tests.leavings import EXAMPLES
from wtsbench.errors import UserError
from wtsbench.execution.unbundling import load_bundle
from wtsbench.images import bundle
from wtsbench.images.bundle import LISTING, Entry

FUZZ = settings(
    max_examples=20 * EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
GOOD = "wtsbench/cache/data/prepared/good"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's cache and mirror, where nothing is."""
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path / "manifests"))
    return tmp_path / "cache"


def load(path: Path, *, image: bool = False) -> None:
    """As `wtsbench image load` does."""
    load_bundle(path, image=image, mirror=path.parent / "mirror", note=lambda _: None)


def refused(path: Path) -> str:
    """How a bundle is refused, in time."""

    def call() -> str:
        with pytest.raises(UserError) as caught:
            load(path, image=True)
        return str(caught.value)

    return str(in_time(call))


def made(path: Path, listing: Any, files: dict[str, bytes]) -> Path:
    """A tar file of this listing, which may be bytes, and these files."""
    content = listing if isinstance(listing, bytes) else json.dumps(listing).encode()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, one in {LISTING: content, **files}.items():
            info = tarfile.TarInfo(name)
            info.size = len(one)
            tar.addfile(info, io.BytesIO(one))
    return path


def listing_of(files: dict[str, bytes], **more: Any) -> dict[str, Any]:
    """As a bundle of these files has it."""
    listed = {name: {"sha256": hashlib.sha256(one).hexdigest(), "size": len(one)} for name, one in files.items()}
    return {"format": 1, "grids": [], "files": listed, **more}


LISTINGS: dict[str, Any] = {
    "list": [],
    "object": {},
    "deep": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "another format": {"format": 2, "files": {}},
    "format of another type": {"format": "one", "files": {}},
    "files of another type": {"format": 1, "files": [1]},
    "negative size": {"format": 1, "files": {GOOD: {"sha256": "0", "size": -1}}},
    "grids of another type": {"format": 1, "files": {}, "grids": 7},
    "image of another type": {"format": 1, "files": {}, "image": "trial"},
    "image without parts": {"format": 1, "files": {}, "image": {"id": "sha256:0", "name": "trial"}},
}


@pytest.mark.parametrize("what", list(LISTINGS))
def test_a_listing_of_another_shape_is_refused(what: str, machine: Path, tmp_path: Path) -> None:
    """The bundle is named, and nothing is placed."""
    assert "bundle.tar" in refused(made(tmp_path / "bundle.tar", LISTINGS[what], {}))
    assert not machine.exists()


@pytest.mark.parametrize("what", ["folder", "pipe", "device", "nothing", "zeros", "huge header"])
def test_what_is_no_bundle_is_refused(what: str, machine: Path, tmp_path: Path) -> None:
    """Nothing is waited for, and no more memory asked for than there is."""
    path = tmp_path / "bundle.tar"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "zeros":
        path.write_bytes(bytes(100_000))
    elif what == "huge header":
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XHDTYPE, 2**60
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(5000))
    assert "bundle.tar" in refused(path)


NAMES = {
    "long": f"wtsbench/cache/{'x' * 300}",
    "long path": "wtsbench/cache/" + "/".join(["y" * 200] * 30),
    "long name while it is written": f"wtsbench/cache/{'z' * 250}",
    "file in place of a folder": f"{GOOD}/inside",
    "outside": "wtsbench/cache/../../outside",
    "whole folder": "wtsbench/cache/models/embedded/nano",
    "no text": "wtsbench/cache/\udcff",
}


@pytest.mark.parametrize("what", list(NAMES))
def test_a_name_that_cannot_be_is_told_before_anything_is_placed(what: str, machine: Path, tmp_path: Path) -> None:
    """The good files of the bundle are not there either."""
    files = {GOOD: b"content", NAMES[what]: b"more"}
    refused(made(tmp_path / "bundle.tar", listing_of(files), files))
    assert not (machine / "data" / "prepared" / "good").exists()


def test_what_stands_in_the_way_is_named(machine: Path, tmp_path: Path) -> None:
    """A file where a folder belongs; with it gone, another load puts the rest in place."""
    files = {GOOD: b"content", "wtsbench/cache/other/file": b"more"}
    path = made(tmp_path / "bundle.tar", listing_of(files), files)
    machine.mkdir()
    (machine / "other").touch()
    assert "other" in str(in_time(lambda: refused_to_load(path)))
    (machine / "other").unlink()
    load(path)
    assert (machine / "other" / "file").read_bytes() == b"more"


def refused_to_load(path: Path) -> str:
    """The words of the refusal."""
    with pytest.raises(UserError) as caught:
        load(path)
    return str(caught.value)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@FUZZ
@given(data=st.data())
def test_any_damage_is_refused_in_words_or_harmless(data: st.DataObject, machine: Path, tmp_path: Path) -> None:
    """Bytes, listings and names changed anywhere end in a UserError, or are a bundle that can be loaded."""
    path = tmp_path / "bundle.tar"
    files = {GOOD: b"content" * 300, "wtsbench/mirror/rows.csv": b"a,b\n"}
    kind = data.draw(st.sampled_from(["bytes", "listing", "name", "image"]))
    if kind == "bytes":
        bundle.write(path, {"grids": []}, {name: Entry.of_bytes(name, one) for name, one in files.items()})
        content = bytearray(path.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 700]))])
    elif kind == "listing":
        listing = listing_of(files)
        listing[data.draw(st.sampled_from([*listing, "image", "left_out", "created"]))] = data.draw(JSON)
        made(path, listing, files)
    elif kind == "name":
        name = data.draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
        files[f"wtsbench/cache/{name}"] = b"x"
        try:
            made(path, listing_of(files), files)
        except ValueError:  # no tar file can hold it
            return
    else:
        files |= {"index.json": json.dumps(data.draw(JSON)).encode()}
        made(path, listing_of(files, image={"id": "sha256:0", "name": data.draw(st.text())}), files)

    def call() -> str:
        with suppress(UserError):
            load(path, image=True)
        return "it ends"

    in_time(call)
