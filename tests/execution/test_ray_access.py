"""Ray as `ray start` and `uv run` leave it: clusters with a token and without, on real clusters."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import GRID
from tests.end_to_end.conftest import Bench
from tests.ports import free_port
from wtsbench.errors import ClusterError, ExitCode
from wtsbench.execution import ray_access
from wtsbench.execution.ray_access import token_for
from wtsbench.settings import cache_folder

pytestmark = pytest.mark.slow
_TOKEN = "RAY_AUTH_TOKEN"
VARIABLES = ("RAY_AUTH_MODE", _TOKEN, "RAY_AUTH_TOKEN_PATH")


def _environment(home: Path, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in (*VARIABLES, "RAY_ADDRESS")}
    path = os.pathsep.join(sys.path)
    return {**kept, "HOME": str(home), "WTSBENCH_CACHE": str(cache_folder()), "PYTHONPATH": path, **variables}


@contextmanager
def _cluster(home: Path) -> Iterator[str]:
    """The address of a cluster that `ray start --head` starts for a user with this home."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as place:  # paths of sockets are short
        command = f"ray start --head --block --disable-usage-stats --num-cpus=2 --port={port} --temp-dir={place}"
        process = subprocess.Popen(
            [sys.executable, "-c", "from ray.scripts.scripts import main; main()", *command.split()[1:]],
            env=_environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            started = any("Ray runtime started" in line for line in process.stdout)
            assert started, "the cluster does not start"
            yield f"127.0.0.1:{port}"
        finally:
            parts = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.communicate(timeout=60)
            for part in psutil.wait_procs(parts, timeout=10)[1]:
                part.kill()


@pytest.fixture(scope="module")
def token() -> str:
    """A cluster's token."""
    return secrets.token_hex(32)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, token: str) -> dict[str, Path]:
    """Homes of users: one where Ray finds the token, one where it finds another, one where it finds none."""
    found = {name: tmp_path_factory.mktemp(name) for name in ("right", "wrong", "none")}
    for name, content in (("right", token), ("wrong", "0" * 64)):
        (found[name] / ".ray").mkdir()
        (found[name] / ".ray" / "auth_token").write_text(content)
    return found


@pytest.fixture(scope="module")
def guarded(homes: dict[str, Path]) -> Iterator[str]:
    """A cluster that wants the token: Ray turned that on by itself, where it found one."""
    with _cluster(homes["right"]) as address:
        yield address


@pytest.fixture(scope="module")
def unguarded(homes: dict[str, Path]) -> Iterator[str]:
    """A cluster that wants none."""
    with _cluster(homes["none"]) as address:
        yield address


def _as(patch: pytest.MonkeyPatch, home: Path, **variables: str) -> None:
    for name in VARIABLES:
        patch.delenv(name, raising=False)
    patch.setenv("HOME", str(home))
    for name, value in variables.items():
        patch.setenv(name, value)


def test_a_cluster_that_wants_a_token(
    guarded: str, homes: dict[str, Path], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is taken from wherever Ray keeps it; one that is missing, wrong or forbidden is named, at once."""
    file = homes["right"] / ".ray" / "auth_token"
    _as(monkeypatch, homes["right"])
    assert token_for(guarded) == "~/.ray/auth_token"
    _as(monkeypatch, homes["wrong"], RAY_AUTH_TOKEN_PATH=str(file))
    assert token_for(guarded) == "RAY_AUTH_TOKEN_PATH"
    _as(monkeypatch, homes["none"], RAY_AUTH_TOKEN=token)
    assert token_for(guarded) == "RAY_AUTH_TOKEN"
    for home, variables, said in (
        ("none", {}, "wants a token, and there is none here"),
        ("none", {"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "the file that RAY_AUTH_TOKEN_PATH names cannot be read"),
        ("wrong", {}, "does not take the token of ~/.ray/auth_token"),
        ("right", {"RAY_AUTH_TOKEN": "1" * 64}, "does not take the token of RAY_AUTH_TOKEN"),
        ("right", {"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE=disabled says to send none"),
    ):
        _as(monkeypatch, homes[home], **variables)
        with pytest.raises(ClusterError, match=said) as error:
            token_for(guarded)
        assert error.value.exit_code == ExitCode.UNREACHABLE
        assert error.value.remedy is not None
        assert ("get-auth-token" in error.value.remedy) == ("RAY_AUTH_MODE" not in variables)


def test_a_cluster_that_wants_none(
    unguarded: str, homes: dict[str, Path], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that lies in its file is no obstacle; one that the user asks to be used is, and says how to go on."""
    for home, variables in (("none", {}), ("right", {}), ("none", {"RAY_AUTH_MODE": "disabled", _TOKEN: token})):
        _as(monkeypatch, homes[home], **variables)
        assert token_for(unguarded) is None
    for asked in ({"RAY_AUTH_MODE": "token"}, {_TOKEN: token}):
        _as(monkeypatch, homes["right"], **asked)
        with pytest.raises(ClusterError, match=f"wants no token, and {next(iter(asked))}") as error:
            token_for(unguarded)
        assert error.value.exit_code == ExitCode.UNREACHABLE
        assert error.value.remedy is not None
        assert f"unset {next(iter(asked))}" in error.value.remedy


def test_something_else_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that is no cluster does not hold anybody up: Ray itself would wait for it for 40 s and more."""
    monkeypatch.setattr(ray_access, "_ANSWER_SECONDS", 5.0)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(ClusterError, match="no Ray cluster answers"):
        token_for(f"127.0.0.1:{mute.getsockname()[1]}")


def test_a_dashboard_is_no_head() -> None:
    """By a dashboard a cluster takes jobs, and nobody can connect: that is said before anything is tried."""
    from wtsbench.execution.ray_executor import connected

    with pytest.raises(ClusterError, match="takes detached runs alone"), connected("http://127.0.0.1:1"):
        pass


def test_trials_know_no_token(guarded: str, homes: dict[str, Path], token: str, tmp_path: Path) -> None:
    """A submission to a cluster with a token runs; neither a trial's environment nor the store has the token."""
    bench = Bench(tmp_path)
    (tmp_path / "small.yaml").write_text(GRID)
    process = subprocess.Popen(
        bench.command("submit", "small.yaml", "--ray", guarded, "--sandbox", "process"),
        env={**bench.environment, **_environment(homes["right"]), "WTSBENCH_STORE": str(bench.store), _TOKEN: token},
        cwd=bench.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen: dict[int, bytes] = {}
    while process.poll() is None:
        for pid in bench.trial_processes():
            try:
                names = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"wtsbench.worker" in names:  # and not its supervisor, a worker of Ray
                    seen[pid] = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:  # it has ended
                continue
        time.sleep(0.3)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert seen
    assert not any(b"RAY_AUTH" in variables or token.encode() in variables for variables in seen.values())
    assert token not in output
    exported = bench.folder / "export"
    assert bench.run("export", exported).returncode == 0
    files = [path for place in (exported, bench.store) for path in place.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if token.encode() in path.read_bytes()]


DRIVER = """
import os
from pathlib import Path
import ray
from wtsbench.execution.ray_executor import RayExecutor
from wtsbench.spec.grid import Resources
executor = RayExecutor(None, Resources())
print(ray.get(ray.remote(lambda: "ran").remote(), timeout=60), flush=True)
executor.close()
assert not [name for name in os.environ if name.startswith("RAY_AUTH")]
assert not (Path.home() / ".ray").exists()
"""


def test_under_uv_run(tmp_path: Path) -> None:
    """A process that `uv run` started has a Ray whose workers need no uv, and leaves no token in the user's home."""
    (tmp_path / "run").write_text('"$@"\nexit $?\n')  # `uv run …`, as Ray looks for it among its parents
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "proj"\nversion = "0.1"\ndependencies = []\n')
    ran = subprocess.run(
        ["uv", "run", sys.executable, "-c", DRIVER],
        executable="/bin/bash",
        cwd=tmp_path,
        env=_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "ran\n"
