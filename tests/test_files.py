"""Files and folders of others: nothing is waited for, and no name or depth is too much."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.execution.test_untrusted import in_time
from tests.leavings import nested
from wtsbench.errors import ExitCode, SpecError, UserError
from wtsbench.files import made_once, open_plain, read_plain, remove, remove_tree, require_plain, walk
from wtsbench.reports.files import write


@pytest.fixture(params=["pipe", "socket", "folder", "device", "link to a pipe"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What is no regular file."""
    path = tmp_path / "other.csv"
    if request.param == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    elif request.param == "folder":
        path.mkdir()
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        pipe = path if request.param == "pipe" else tmp_path / "pipe"
        os.mkfifo(pipe)
        if pipe != path:
            path.symlink_to(pipe)
    return path


def _refused(call: Callable[[], object], kind: type[Exception]) -> None:
    def refuse() -> str:
        with pytest.raises(kind) as caught:
            call()
        return str(caught.value)

    said = in_time(refuse)
    assert "it is a " in said or "is a folder" in said, said


def test_only_regular_files_are_opened(other: Path) -> None:
    """The rest is refused at once, and in words."""
    for call in (open_plain, read_plain, require_plain):
        _refused(lambda call=call: call(other), OSError)  # type: ignore[misc]  # a lambda has no types


def test_a_regular_file_is_read_through_a_link_where_links_are_followed(tmp_path: Path) -> None:
    """A user's file may be a link to it; one that a trial left may not."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_plain(tmp_path / "link") == b"content"
    with pytest.raises(OSError, match="Too many levels"):
        open_plain(tmp_path / "link", links=False)


def _readers() -> dict[str, Callable[[Path, pytest.MonkeyPatch], object]]:
    """Who reads users' files, each given one."""
    from wtsbench.data.reading import read_file
    from wtsbench.images.bundle import opened
    from wtsbench.models.label_file import file_sha256
    from wtsbench.spec.grid import Grid
    from wtsbench.spec.model import LabelFile
    from wtsbench.spec.yaml_file import load
    from wtsbench.store import connection

    def bundle(path: Path, _: pytest.MonkeyPatch) -> None:
        with opened(path):
            pass

    def token(path: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("WTSBENCH_TOKEN_FILE", str(path))
        connection.token()

    def certificate(path: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("WTSBENCH_CA_FILE", str(path))
        connection._file("WTSBENCH_CA_FILE")

    labels = LabelFile.model_validate({"path": "other.csv", "text": "a", "label": "b"})
    return {
        "grid": lambda path, _: load(path, Grid),
        "csv": lambda path, _: read_file(path, "csv", ["a"], "task"),
        "parquet": lambda path, _: read_file(path, "parquet", ["a"], "task"),
        "labels": lambda path, _: file_sha256(labels, path.parent, what="model"),
        "bundle": bundle,
        "token": token,
        "certificate": certificate,
    }


@pytest.mark.parametrize("reader", ["grid", "csv", "parquet", "labels", "bundle", "token", "certificate"])
def test_every_reader_refuses_them(reader: str, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None waits for a pipe, and each says what is in the place of its file."""
    _refused(lambda: _readers()[reader](other, monkeypatch), UserError)


def test_a_tree_goes_whatever_is_in_it(tmp_path: Path) -> None:
    """Folders deeper than Python recurses and than a path is long, closed ones, names that are no text; and no more."""
    tree, precious = tmp_path / "tree", tmp_path / "precious"
    tree.mkdir()
    precious.mkdir()
    (precious / "file").write_text("as it was")
    nested(b"\xff" * 200, 1100, 0)(tree)
    (tree / "link").symlink_to(precious)
    (tree / os.fsdecode(b"\xfe\n")).touch(mode=0)
    assert sum(1 for _ in walk(tree)) == 1102
    assert all(not stat.S_ISDIR(state.st_mode) for _, name, state in walk(tree) if name == "link")
    remove(tree)
    assert not tree.exists()
    assert (precious / "file").read_text() == "as it was"


def test_what_is_a_file_or_not_there_is_removed_too(tmp_path: Path) -> None:
    """Whoever clears away need not look before."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link", "nothing"):
        remove(tmp_path / name)
        remove_tree(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_nothing_but_a_file_is_replaced(tmp_path: Path, kind: str) -> None:
    """Reports are written beside their place and renamed: a device that stood there would be gone."""
    path = tmp_path / "there"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif os.geteuid() == 0:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
    else:
        pytest.skip("only root makes devices")
    before = path.lstat()
    with pytest.raises(SpecError, match=r"there cannot be written: it is a"):
        write(path, b"x")
    assert path.lstat().st_ino == before.st_ino
    assert [entry.name for entry in tmp_path.iterdir()] == ["there"]


def test_a_full_disk_is_no_wrong_name(tmp_path: Path) -> None:
    """What cannot be written for its name is usage, exit code 2; what the machine does not let be written is 5."""
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="cannot be written") as named:
        write(tmp_path / "file" / "below", b"x")
    assert named.value.exit_code is ExitCode.USAGE
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(SpecError, match="cannot be written") as full:
            write(tmp_path / "large", b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert full.value.exit_code is ExitCode.UNREACHABLE
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path) -> None:
    """It goes, also while a child of that process still writes into it, of whose files the folder gets none."""
    left: list[Path] = []

    def killed(unfinished: Path) -> None:
        unfinished.mkdir()
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        made_once(tmp_path / "wheels", killed)
    os.waitpid(child, 0)
    left += tmp_path.glob(".wheels.*.unfinished")
    assert len(left) == 1

    def make(unfinished: Path) -> None:
        unfinished.mkdir()
        (unfinished / "one").touch()
        left[0].mkdir()
        (left[0] / "half").touch()

    made_once(tmp_path / "wheels", make)
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == ["one"]
