"""Whatever stands on the command line, no verb crashes: odd names and paths in every argument and option.

Each argument and option gets a quarter of the odd words, so that all of them are tried on all verbs together; with
WTSBENCH_TESTS_SWEEP=all each gets all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.cli.conftest import GRID
from wtsbench.errors import ExitCode
from wtsbench.store.client import open_store
from wtsbench_cli.faults import guarded
from wtsbench_cli.main import app

ODD = {
    "empty": "",
    "no such user": "~nosuchuser/x",
    "a long path": "long/" * 1000,
    "a long name": "n" * 300,
    "a name of bytes": "caf\udce9",
    "escapes": "a\x1b]8;;http://x\x07\nb",
    "a file as folder": "text.txt/below",
    "a folder": "folder",
    "a text": "text.txt",
    "bytes": "bytes.yaml",
    "a loop": "loop.yaml",
    "a dangling link": "dangling.yaml",
    "a device": "/dev/full",
    "an address": "grpc://[::1",
    "a hub name": "hub:a/b/c@@",
    "a digit": "²",
    "a large number": "9" * 30 + "d",
}
USUAL = {
    "grid": "small.yaml",
    "grids": "small.yaml",
    "name": "safety-mini",
    "reference": "registry.example/trial@sha256:" + "0" * 64,
    "out": "out",
    "file": "text.txt",
    "folder": "store",
    "backup": "folder",
    "source": "folder",
    "scope": "read",
    "token": "ada",
    "baseline": "main",
    "run": "small",
}
"""Of arguments that a verb demands, while another one is odd."""
WORK = {
    ("submit", "store"),
    ("submit", "trust"),
    ("submit", "ray"),
    ("submit", "mirror"),
    ("scorer train", "out"),
    ("scorer train", "mirror"),
    ("store serve", "listen"),  # none at all is the usual one
}
"""Where a name that is merely odd is a right one, and minutes of work would begin."""


def _verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(path), command
    else:
        for name, each in below.items():
            yield from _verbs(each, (*path, name))


COMMAND = typer.main.get_command(app)
VERBS = dict(_verbs(COMMAND))
PARTS = 1 if os.environ.get("WTSBENCH_TESTS_SWEEP") == "all" else 4


def _swept() -> Iterator[tuple[str, str]]:
    for verb, command in VERBS.items():
        for parameter in command.params:
            takes_value = parameter.param_type_name == "argument" or not getattr(parameter, "is_flag", False)
            if takes_value and not {(verb, parameter.name), (verb, "*")} & WORK:
                yield verb, parameter.name


def _line(verb: str, odd: str, value: str) -> list[str]:
    command = VERBS[verb]
    options, arguments = [], []
    for parameter in command.params:
        if parameter.name == odd:
            given = value
        elif parameter.required or (verb == "store serve" and parameter.name == "listen"):
            given = "grpc+tls://192.0.2.1:1" if parameter.name == "listen" else USUAL[parameter.name]
        else:
            continue
        if parameter.param_type_name == "argument":
            arguments.append(given)
        else:
            options += [f"{parameter.opts[0]}={given}"]
    return [*verb.split(), *options, "--", *arguments]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file of each kind, where nothing outside answers."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "DOCKER_HOST": f"unix://{tmp_path}/absent.sock",
        "HF_HUB_OFFLINE": "1",
        "WTSBENCH_CACHE": str(tmp_path / "cache"),
        "WTSBENCH_STORE": "store",
        "WTSBENCH_STORE_PATIENCE_SECONDS": "0",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "small.yaml").write_text(GRID)
    (tmp_path / "text.txt").write_text("some text\n")
    (tmp_path / "bytes.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "dangling.yaml").symlink_to("nowhere.yaml")
    open_store("store", create=True)
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)  # `web` with good words would serve until Ctrl-C
    return tmp_path


SWEPT = [(*each, number % PARTS) for number, each in enumerate(_swept())]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("verb", "parameter", "part"), SWEPT)
def test_no_odd_name_crashes(verb: str, parameter: str, part: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Each odd value of each argument and option ends with a code of its own and, if it is wrong, with words."""
    for what, value in list(ODD.items())[part::PARTS]:
        line = _line(verb, parameter, value)
        code = guarded(lambda line=line: COMMAND.main(line, standalone_mode=False), debug=False)  # type: ignore[misc]
        out, err = capsys.readouterr()
        assert code != ExitCode.INTERNAL, f"{what}: wtsbench {line}: {err}"
        assert code == ExitCode.DONE or out or err, f"{what}: wtsbench {line} says nothing"
        assert "\x1b" not in err
        assert len(err) < 20_000


@pytest.mark.parametrize("life", ["0d", "0h", "99999999d", "36526d", "9" * 400 + "d", "-1d", "²d", "1w"])
def test_the_life_of_a_token(life: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A token that would be expired at once, or outlive the calendar, is refused, and none is made."""
    line = ["store", "token", "create", "store", "--scope=read", "--out=token", f"--expires={life}"]
    assert guarded(lambda: COMMAND.main(line, standalone_mode=False), debug=False) == ExitCode.USAGE
    assert "90d" in capsys.readouterr().err
    assert not (place / "token").exists()
    assert not (place / "store" / "server").exists()
