"""Files that are no YAML, no mapping, no text or no file are refused in plain words, with the line."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.spec.files import faults, write
from wtsbench.spec.faults import SpecFaults
from wtsbench.spec.yaml_tree import MAX_BYTES, parse

GOOD = "name: g\ntasks: [t]\n"


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", None, "the file is empty"),
        (b"# only a comment\n", None, "the file is empty"),
        (b"---\n", None, "the file is empty"),
        (b"- a\n- b\n", 1, "not a list"),
        (b"just words\n", 1, "not a single value"),
        (b"name: g\n\xff\xfe: x\n", 2, "not UTF-8"),
        (b"PK\x03\x04\x00\x00", None, "not a text file"),
        (b"name: g\nx: \x07\n", 2, "U+0007"),
        (b"a: b\n" * (MAX_BYTES // 5 + 1), None, "KiB"),
        (b"tasks:\n\t- a\n", 2, "a tab; YAML is indented with spaces"),
        (b"name: g\nnote: a: b\n", 2, "a `: ` where none fits"),
        (b"name: g\njust words\ntasks: [t]\n", 2, "neither `key: value`"),
        (b"tasks: [a, b\nname: g\n", 2, "] that closes"),
        (b"tasks: [\n", 2, "the file ends"),
        (b"tasks:\n  - a\n b: 1\n", 3, "indentation"),
        (b'name: g\nnote: "never closed\n\nx: 1\n', 2, "a quote is not closed"),
        (b"name: *nowhere\n", 1, "no anchor &nowhere"),
        (b"name: @home\n", 1, "begins with @"),
        (b"name: a\n---\nname: b\n", 2, "second document"),
        (b'name: "\\q"\n', 1, "\\q means nothing"),
        (b"name: !secret x\n", 1, "tag !secret"),
        (b"name: !!python/name:os.system x\n", 1, "tag !!python"),
        (b"name: !!binary aGk=\n", 1, "tag !!binary"),
        (b"tasks: !!set {a}\n", 1, "tag !!set"),
        (b"a: &a [*a]\n", 1, "contains itself"),
        (b"a: &a {<<: *a}\n", 1, "an anchor of a mapping"),
        (b"<<: [1]\n", 1, "an anchor of a mapping"),
        (b"? [a]\n: b\n", 1, "plain text"),
        (b": b\n", 1, "no key before"),
        (b"~: b\n", 1, "a key is missing"),
        (b"a: [b]]\n", 1, "] that closes nothing"),
        (b"a: - b\n", 1, "a line of its own"),
        (b"a: &a 1\nb: &a 2\n", 2, "&a is set twice"),
        (b'a: "b" c\n', 1, "follows the value"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, None, "nested too deeply"),
        (b"n: 1" + b"0" * 5000, 1, "not a number"),
        (b"n: 1e999", 1, "not a finite number"),
        (b"n: !!int abc", 1, "not a number"),
    ],
)
def test_refused(tmp_path: Path, content: bytes, line: int | None, words: str) -> None:
    """One fault says what is wrong with the file, and where."""
    found = [fault for fault in faults(write(tmp_path, content)) if words in fault.message]
    assert len(found) == 1
    if line is not None:
        assert found[0].line == line


def test_doubling_anchors_end(tmp_path: Path) -> None:
    """A file that grows to billions of values by its anchors is refused, not expanded."""
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    found = faults(write(tmp_path, "\n".join(lines)))
    assert any("too large" in fault.message for fault in found)


def test_not_a_file(tmp_path: Path) -> None:
    """A folder, a pipe and nothing at all are told apart."""
    os.mkfifo(tmp_path / "pipe.yaml")
    assert faults(tmp_path)[0].message == "is a folder, not a file"
    assert "not a regular file" in faults(tmp_path / "pipe.yaml")[0].message
    assert faults(tmp_path / "none.yaml")[0].message == "there is no such file"
    assert "cannot be read" in faults(tmp_path / "a\0b.yaml")[0].message


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for root")
def test_unreadable(tmp_path: Path) -> None:
    """A file without permission is told by that."""
    path = write(tmp_path, GOOD)
    path.chmod(0)
    assert "Permission denied" in faults(path)[0].message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("007", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("-3", -3),
        ("5e-5", 5e-5),
        ("5.0e-5", 5e-5),
        ("1.", 1.0),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("wtsbench/v1", "wtsbench/v1"),
        ("1.2.3", "1.2.3"),
        ("1e", "1e"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    """Scalars are those of YAML 1.2's core schema."""
    tree, found = parse(f"key: {text}", "f")
    assert not found
    assert tree.value == {"key": value}
    assert type(tree.value["key"]) is type(value)


def test_anchors_and_merges() -> None:
    """Anchors repeat a value, `<<` takes over keys, and a mapping's own keys win."""
    tree, found = parse("a: &a {x: 1, y: 2}\nb: &b {z: 3}\nc: {<<: [*a, *b], y: 5}\nd: *a\n", "f")
    assert not found
    assert tree.value["c"] == {"y": 5, "x": 1, "z": 3}
    assert tree.value["d"] == {"x": 1, "y": 2}
    merged = tree.child("c", "x")
    assert merged is not None
    assert (merged.line, merged.path) == (1, "c.x"), "the line is where the value stands, the path where it is used"


def test_bom_and_windows_line_ends() -> None:
    """A file saved by a Windows editor counts the same lines."""
    tree, found = parse("name: g\r\ntasks:\r\n  - t\r\n", "f")
    assert not found
    assert tree.value == {"name": "g", "tasks": ["t"]}
    task = tree.child("tasks", 0)
    assert task is not None
    assert (task.line, task.column) == (3, 5)


def test_bom(tmp_path: Path) -> None:
    """A byte order mark is no part of the first key."""
    found = faults(write(tmp_path, b"\xef\xbb\xbf" + GOOD.encode()))
    assert {fault.path for fault in found} == {"pairs", "strategies"}


@given(st.text(max_size=200) | st.text(alphabet="ab: -[]{},&*!|>'\"#%@`\n\t?<~01.", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text is, reading it ends in a tree or in faults, never in another error."""
    with contextlib.suppress(SpecFaults):
        assert isinstance(parse(text, "f")[0].value, dict)


def test_no_code_is_run(tmp_path: Path) -> None:
    """A file cannot make the reader call anything."""
    flag = tmp_path / "flag"
    text = f"name: !!python/object/apply:os.mkdir ['{flag}']\n"
    script = "import sys\nfrom wtsbench.spec.yaml_tree import parse\nprint(len(parse(sys.argv[1], 'f')[1]))"
    done = subprocess.run([sys.executable, "-c", script, text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() != "0"
    assert not flag.exists()


def test_half_a_character() -> None:
    """An escape that stands for half a character is a fault of its value: it could be stored nowhere."""
    _, found = parse('summary: "a\\ud800"\n', "f.yaml")
    assert [(fault.path, fault.line) for fault in found] == [("summary", 1)]
