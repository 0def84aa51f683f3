"""What a trial cannot do, tried from inside a real container. Its node, its supervisor and the next trial live on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.attack import attack, seen_by, with_attackers
from tests.sandbox.test_docker import containers_below
from tests.sandbox.trials import run
from tests.trial.folders import last_word_of
from wtsbench.sandbox import container
from wtsbench.sandbox.base import Outcome
from wtsbench.sandbox.classify import classify
from wtsbench.sandbox.docker import DockerSandbox
from wtsbench.spec.failure import Failure, FailureClass

pytestmark = pytest.mark.docker


@pytest.fixture(autouse=True)
def _attackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """All trials of this module are hostile."""
    with_attackers(monkeypatch)


def failure_of(outcome: Outcome, folder: Path) -> Failure:
    """Why an attempt failed, as its record will say."""
    said = (folder / "outbox" / "result.json").exists()
    failure = classify(outcome, last_word_of(folder) if said else None)
    assert failure is not None
    return failure


ESCAPES = """
import ctypes, importlib.util, os, pathlib, signal, socket
here = folder
libc = ctypes.CDLL(None, use_errno=True)

def must(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def write(path):
    return lambda: pathlib.Path(path).write_text("x")

# what it is meant to write
tried("outbox", write(here / "outbox" / "x"))
tried("scratch", write(here / "scratch" / "x"))
tried("temporary", write("/tmp/x"))

# the network
tried("network", lambda: socket.create_connection(("192.0.2.1", 80), timeout=2))
tried("metadata", lambda: socket.create_connection(("169.254.169.254", 80), timeout=2))
tried("names", lambda: socket.getaddrinfo("example.org", 80))
tried("raw socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
seen["interfaces"] = sorted(os.listdir("/sys/class/net"))

# places that are not its own
for path in ("/opt/x", "/etc/passwd", "/usr/x", "/trial/x", "/trial/in/x", "/trial/out/x", "/proc/sys/kernel/hostname"):
    tried(path, write(path))
for path in ("inputs/x", "spec.json", "inputs/attack.py", "model/weights"):
    tried(path, write(here / path))
tried("remove inputs", lambda: (here / "inputs" / "attack.py").unlink())
tried("move outbox", lambda: os.rename(os.readlink(here / "outbox"), "/trial/out/elsewhere"))
tried("remount", lambda: must(libc.mount(b"none", b"/trial/in", None, 32 | 4096, None)))
tried("unshare", lambda: must(libc.unshare(0x10000000)))
tried("chroot", lambda: os.chroot("/tmp"))
tried("device", lambda: os.mknod("/tmp/disk", 0o600 | 0o060000, os.makedev(8, 0)))
tried("root", lambda: os.setuid(0))

# secrets of the node
seen["variables"] = [name for name, value in os.environ.items() if "secret" in value]
seen["files"] = [path for path in SECRET if os.path.exists(path)]
seen["engine"] = [path for path in ("/var/run/docker.sock", "/run/docker.sock", ENGINE) if os.path.exists(path)]

# the first process of the container, and its lease
tried("requests", lambda: os.open("/trial/in/requests", os.O_RDWR | os.O_NONBLOCK))
tried("answers", lambda: os.open("/trial/in/answers", os.O_RDWR | os.O_NONBLOCK))
tried("its files", lambda: os.listdir("/proc/1/fd"))
tried("its memory", lambda: open("/proc/1/mem", "rb"))
tried("its environment", lambda: open("/proc/1/environ", "rb").read())
tried("ptrace", lambda: must(libc.ptrace(16, 1, 0, 0)))
for name in ("SIGKILL", "SIGSTOP", "SIGTERM", "SIGINT", "SIGSEGV"):
    os.kill(1, getattr(signal, name))  # the kernel takes it, and does nothing
tried("renew", lambda: os.utime("/trial/in/lease"))
tried("extend", lambda: os.utime("/trial/in/lease", (2**33, 2**33)))
tried("rewrite", write("/trial/in/lease"))
tried("replace", lambda: os.unlink("/trial/in/lease"))

status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
seen["uid"] = os.getuid()
seen["capabilities"] = int(status["CapEff"], 16) | int(status["CapBnd"], 16) | int(status["CapPrm"], 16)
seen["no_new_privileges"] = status["NoNewPrivs"]
seen["seccomp"] = status["Seccomp"]
seen["packages"] = [name for name in ("ray", "docker", "duckdb", "datasets", "pip") if importlib.util.find_spec(name)]
seen["compilers"] = [name for name in ("gcc", "cc", "curl", "wget", "sudo") if __import__("shutil").which(name)]
"""


def test_the_walls_hold(tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no right, no token, nothing to write but its own, and no way to its first process or its lease."""
    home = tmp_path / "home"
    (home / ".cache" / "huggingface").mkdir(parents=True)
    tokens = [home / ".cache" / "huggingface" / "token", tmp_path / "wtsbench-token"]
    for token in tokens:
        token.write_text("secret")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("WTSBENCH_TOKEN_FILE", str(tokens[1]))
    lines = f"SECRET = {[str(path) for path in (*tokens, tmp_path)]!r}\nENGINE = {str(tmp_path)!r}\n"
    folder = attack(tmp_path / "trial", lines + ESCAPES)

    outcome = run(DockerSandbox(image, ahead=False), folder, memory=256 << 20)

    assert outcome.exit_code == 0, outcome
    seen = seen_by(folder)
    allowed = {name for name, how in seen.items() if how == "allowed"}
    assert allowed == {"outbox", "scratch", "temporary"}
    assert seen["interfaces"] == ["lo"]
    assert seen["variables"] == seen["files"] == seen["engine"] == seen["packages"] == seen["compilers"] == []
    assert seen["uid"] != 0
    assert seen["capabilities"] == 0
    assert (seen["no_new_privileges"], seen["seccomp"]) == ("1", "2")


def test_a_fork_bomb_ends_with_its_trial(
    tmp_path: Path, image: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It meets the limit on processes, fails as itself, and leaves no process: the next trial has them all."""
    monkeypatch.setattr(container, "PIDS", 64)  # as real as the usual limit, and easier on who else uses this machine
    sandbox = DockerSandbox(image, ahead=False)
    bomb = """
        import os, time
        while True:
            if os.fork() == 0:
                while True:
                    try:
                        os.fork()
                    except OSError:
                        time.sleep(0.1)
    """

    outcome = run(sandbox, attack(tmp_path / "bomb", bomb))
    done = run(sandbox, attack(tmp_path / "next", "import os; seen['processes'] = sorted(os.listdir('/proc'))"))

    failure = failure_of(outcome, tmp_path / "bomb")
    assert failure.failure_class is FailureClass.TRIAL_ERROR
    assert "BlockingIOError" in failure.message
    assert done.exit_code == 0
    assert len([name for name in seen_by(tmp_path / "next")["processes"] if name.isdigit()]) == 2
    assert subprocess.run([sys.executable, "-c", "pass"]).returncode == 0
    sandbox.close()
    assert containers_below(client, tmp_path) == []


def test_a_trial_over_its_memory_is_killed_alone(tmp_path: Path, image: str) -> None:
    """The kernel kills the trial and not the first process, and the outcome says that it was for memory."""
    sandbox = DockerSandbox(image, ahead=False)
    eat = "held = []\nwhile True: held.append(bytearray(8 << 20))"

    outcome = run(sandbox, attack(tmp_path / "large", eat), memory=96 << 20)
    fair = run(sandbox, attack(tmp_path / "small", "held = bytearray(16 << 20)"), memory=96 << 20)

    assert failure_of(outcome, tmp_path / "large").failure_class is FailureClass.OUT_OF_MEMORY
    assert outcome.signal == signal.SIGKILL
    assert fair.exit_code == 0
    sandbox.close()


def test_a_full_disk_is_only_its_own(tmp_path: Path, image: str) -> None:
    """One file, many files and folders in memory each have an end, and what passes its budget is the trial's fault."""
    sandbox = DockerSandbox(image, ahead=False)
    one = "(folder / 'scratch' / 'one').write_bytes(bytes(64 << 20))"
    many = """
        import time
        for number in range(10_000):
            (folder / "scratch" / str(number)).write_bytes(bytes(1 << 20))
            time.sleep(0.01)
    """
    empty = """
        import time
        for number in range(1_000_000):
            (folder / "outbox" / str(number)).touch()
        time.sleep(600)
    """
    memory = """
        def fill(path):
            with open(path, "wb") as file:
                while True:
                    file.write(bytes(1 << 20))
        tried("temporary", lambda: fill("/tmp/x"))
        tried("shared", lambda: fill("/dev/shm/x"))
        tried("root", lambda: fill("/root/x"))
    """
    disk = 32 << 20

    large = run(sandbox, attack(tmp_path / "one", one), disk=disk)
    flood = run(sandbox, attack(tmp_path / "many", many), disk=disk)
    names = run(sandbox, attack(tmp_path / "empty", empty), disk=disk)
    held = run(sandbox, attack(tmp_path / "memory", memory), memory=256 << 20, disk=4 << 30)

    failure = failure_of(large, tmp_path / "one")
    assert failure.failure_class is FailureClass.TRIAL_ERROR
    assert "File too large" in failure.message or "resources.disk" in failure.message  # whoever is first
    assert (tmp_path / "one" / "scratch" / "one").stat().st_size <= disk
    for outcome, name in ((flood, "many"), (names, "empty")):
        failure = failure_of(outcome, tmp_path / name)
        assert failure.failure_class is FailureClass.TRIAL_ERROR
        assert "resources.disk" in failure.message
        shutil.rmtree(tmp_path / name)
    failure = failure_of(held, tmp_path / "memory")
    assert failure.failure_class is FailureClass.OUT_OF_MEMORY  # what is in memory counts as memory


def test_a_trial_leaves_nothing_to_the_next(tmp_path: Path, image: str) -> None:
    """The next trial finds no process, no file, no shared memory and no lock of the one before."""
    leave = """
        import ctypes, os, pathlib, subprocess, sys
        from multiprocessing import shared_memory
        for place in ("/tmp", "/dev/shm", "/dev/mqueue"):
            try:
                (pathlib.Path(place) / "left").write_text("secret")
            except OSError:
                pass
        os.makedirs("/tmp/deep/er")
        os.chmod("/tmp/deep", 0)
        libc = ctypes.CDLL(None, use_errno=True)
        seen["shared"] = libc.shmget(4711, 4096, 0o1666)
        seen["semaphores"] = libc.semget(4711, 1, 0o1666)
        seen["messages"] = libc.msgget(4711, 0o1666)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            import time
            time.sleep(600)
    """
    look = """
        import ctypes, os, socket
        libc = ctypes.CDLL(None, use_errno=True)
        running = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        seen["processes"] = sorted(running - {1, os.getpid()})
        seen["files"] = [name for place in ("/tmp", "/dev/shm", "/dev/mqueue") for name in os.listdir(place)]
        seen["shared"] = libc.shmget(4711, 4096, 0o666)
        seen["trials"] = [os.listdir("/trial/in"), os.listdir("/trial/out")]
        seen["hostname"] = socket.gethostname()
    """
    sandbox = DockerSandbox(image)

    first = run(sandbox, attack(tmp_path / "first", leave))
    second = run(sandbox, attack(tmp_path / "second", look))

    assert (first.exit_code, second.exit_code) == (0, 0), (first, second)
    left, seen = seen_by(tmp_path / "first"), seen_by(tmp_path / "second")
    assert left["shared"] >= 0
    assert (left["semaphores"], left["messages"]) == (-1, -1)
    assert seen["processes"] == seen["files"] == []
    assert seen["shared"] == -1
    assert sorted(len(names) for names in seen["trials"]) == [1, 2]  # its own, and the lease
    sandbox.close()
