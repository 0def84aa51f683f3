"""A cluster with nodes on which trials would fail: what `wtsbench doctor` says of each, and what `submit` does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.execution.clusters import Cluster
from tests.models.folders import write_model_folder
from tests.store.servers import Process, token_in
from wtsbench import __version__
from wtsbench.errors import ExitCode
from wtsbench.store.client import open_store

pytestmark = pytest.mark.slow

GRID = """\
apiVersion: wtsbench/v1
name: small
tasks: [safety-mini]
pairs:
  - {weak: nano-1, strong: nano-2}
strategies: [naive]
seeds: [0]
data: {weak_train: 60, transfer: 80, validation: 20, test: 60}
training: {epochs: 1}
"""
APART = """
echo "$1" > /proc/sys/kernel/hostname; shift
for place in $1; do mount -t tmpfs -o size=1m tmpfs "$place"; done; shift
exec "$@"
"""
"""Runs a command on a machine of its own name, where some folders are small and empty."""
UNSHARE = ["unshare", "--mount", "--uts", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def apart(name: str, *places: Path) -> list[str]:
    """The command that starts another so."""
    return [*UNSHARE, "sh", "-c", APART, "sh", name, " ".join(map(str, places))]


class Lab:
    """A cluster, a store with a server, and a user's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = folder / "wrong" / "spool"
        """Of the node on which much is wrong."""
        self.spool.mkdir(parents=True)
        (folder / "small.yaml").write_text(GRID)
        (folder / "store").mkdir()
        self.token = token_in(folder / "store", "append")
        self.server = Process(folder / "store")
        self.cluster = Cluster(folder, WTSBENCH_TOKEN_FILE=str(self.token))

    def path_with(self, name: str, file: str, text: str) -> str:
        """A search path with this file in front of everything else."""
        place = self.folder / f"path-{name}"
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(text)
        return os.pathsep.join([str(place), *sys.path])

    def start(self, *arguments: str, before: tuple[str, ...] = (), **variables: str) -> subprocess.Popen[str]:
        """Start `python ARGUMENTS` as the user."""
        environment = {
            **self.cluster.client,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "WTSBENCH_STORE": self.server.listen,
            "WTSBENCH_TOKEN_FILE": str(self.token),
            "WTSBENCH_SPOOL": str(self.folder / "spool"),
            "NO_COLOR": "1",
            "CI": "1",
            "COLUMNS": "80",
            **variables,
        }
        return subprocess.Popen(
            [*before, sys.executable, *arguments],
            executable="/bin/bash" if before else None,
            env=environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wtsbench(self, *arguments: str, **more: Any) -> tuple[int, str, str]:
        """Exit code, output and errors of a verb on the cluster."""
        process = self.start("-m", "wtsbench_cli", *arguments, "--ray", self.cluster.address, **more)
        out, errors = process.communicate(timeout=300)
        return process.returncode, out, errors

    def stop(self) -> None:
        """End all; the nodes at once, since they take their time otherwise."""
        for name in ("old", "wrong", "head"):
            self.cluster.kill(name)
        self.cluster.stop()
        self.server.stop(signal.SIGTERM)


def other_library(lab: Lab, name: str) -> str:
    """A search path on which a computing library has another version."""
    return lab.path_with(name, "peft-0.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: peft\nVersion: 0.1\n")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A good node, one on which much is wrong, and one with an old wtsbench."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("nodes cannot have namespaces of their own here")
    lab = Lab(tmp_path_factory.mktemp("lab"))
    write_model_folder(lab.folder / "model")
    wrong = other_library(lab, "wrong")
    old = lab.path_with("old", "wtsbench/__init__.py", '__version__ = "0.0.1"\n')
    try:
        lab.cluster.start(cpus=1)
        places = (lab.spool, lab.folder / "model")
        lab.cluster.add("wrong", within=apart("wrong", *places), WTSBENCH_TOKEN_FILE="", PYTHONPATH=wrong)
        lab.cluster.add("old", within=apart("old"), PYTHONPATH=old)
        yield lab
    finally:
        lab.stop()


def of_node(faults: list[dict[str, Any]], name: str) -> dict[str, str]:
    """What is wrong on a node: what was found, by what it is about."""
    return {fault["about"]: fault["found"] for fault in faults if name in fault["nodes"]}


def test_doctor_names_what_is_wrong_on_each_node(lab: Lab) -> None:
    """Every fault is told with its node and a remedy; the good node has none, and the exit code is 5."""
    (lab.folder / "folder.yaml").write_text(GRID.replace("nano-2", "./model"))
    code, out, _ = lab.wtsbench("doctor", "--sandbox", "process", "--grid", "folder.yaml", "--json")
    assert code == ExitCode.UNREACHABLE
    said = json.loads(out)["cluster"]
    nodes = {node["name"]: node for node in said["nodes"]}
    good = next(node for name, node in nodes.items() if name not in ("wrong", "old"))
    assert not of_node(said["faults"], good["name"])
    assert good["facts"]["store"]["scope"] == "append"
    assert good["facts"]["models"] == {"nano-1": "reachable", "./model": "here"} | good["facts"]["models"]
    assert abs(good["clock"]["ahead"]) <= good["clock"]["uncertain"] < 1
    wrong = of_node(said["faults"], "wrong")
    assert wrong.keys() == {"libraries", "store", "disk", "models"}
    assert "peft 0.1 (here " in wrong["libraries"]
    assert wrong["store"] == "the server wants a token"
    assert "1 MiB free for its spool" in wrong["disk"]
    assert "model" in wrong["models"]
    assert of_node(said["faults"], "old") == {"wtsbench": f"wtsbench 0.0.1, and {__version__} here"}
    assert all(fault["remedy"] for fault in said["faults"])


def test_doctor_fits_a_terminal(lab: Lab) -> None:
    """The table has a row for each node and no line is wider than 80 columns; the faults are below it."""
    code, out, _ = lab.wtsbench("doctor", "--sandbox", "process")
    assert code == ExitCode.UNREACHABLE
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    heading = next(number for number, line in enumerate(lines) if line.split()[:2] == ["node", "python"])
    rows = {line.split()[1]: line.split()[0] for line in lines[heading + 1 : heading + 4]}
    assert rows["wrong"] == rows["old"] == "fail"
    assert sorted(rows.values()) == ["fail", "fail", "ok"]
    assert any(line.startswith("fail  wrong: the server wants a token") for line in lines)
    assert f"fail  old: wtsbench 0.0.1, and {__version__} here" in lines


def test_submit_leaves_out_the_wrong_nodes(lab: Lab) -> None:
    """Under `uv run` as well, trials run on the good node alone; the others are named, with what is wrong."""
    (lab.folder / "run").write_text('"$@"\nexit $?\n')  # `uv run …`, as Ray looks for it among its parents
    code, out, errors = lab.wtsbench("submit", "small.yaml", "--sandbox", "process", before=("uv", "run"))
    assert code == 0, out + errors
    assert "node wrong gets no trials: " in out
    assert f"node old gets no trials: wtsbench 0.0.1, and {__version__} here" in out
    assert "failed" not in out
    trials = open_store(str(lab.folder / "store")).trials()
    assert trials["status"].to_pylist() == ["done"] * 3
    assert set(trials["host"].to_pylist()) == {os.uname().nodename}
    assert (lab.folder / "head" / "spool").is_dir()  # the node's own setting, not the user's
    assert not (lab.folder / "spool").exists()


def _is_in(words: str, lines: list[str]) -> bool:
    return any(words in line for line in lines)


def test_a_node_that_joins_later_is_asked_too(lab: Lab) -> None:
    """By its own worker, before its first trial: it is left out, no attempt is begun on it, and the run goes on.

    One whose wtsbench is another one, and cannot even read what a trial is, is left out too.
    """
    grid = GRID.replace("name: small", "name: later").replace("seeds: [0]", f"seeds: {list(range(2, 102))}")
    (lab.folder / "later.yaml").write_text(grid)  # of more trials than can be done before the nodes are there
    store = open_store(str(lab.folder / "store"))

    def wait(done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 120
        while not done():
            assert time.monotonic() < deadline, f"{what}\n{''.join(lines)}"
            time.sleep(0.2)

    process = lab.start(
        "-m", "wtsbench_cli", "submit", "later.yaml", "--sandbox", "process", "--ray", lab.cluster.address
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    wait(lambda: bool(store.running().num_rows), "no trial runs")
    lab.cluster.add("later", within=apart("later"), cpus=2, PYTHONPATH=other_library(lab, "later"))
    none = lab.path_with("none", "wtsbench/__init__.py", '__version__ = "0.0.1"\n')
    lab.cluster.add("none", within=apart("none"), cpus=2, PYTHONPATH=none)
    for words in (
        "node later gets no trials: other libraries: peft 0.1",
        "node none gets no trials: its wtsbench cannot be used: ModuleNotFoundError",
    ):
        wait(partial(_is_in, words, lines), words)
    before = store.trials().num_rows
    wait(lambda: store.trials().num_rows > before + 2, "the run does not go on")
    process.send_signal(signal.SIGINT)
    reader.join(timeout=60)
    _, errors = process.communicate(timeout=60)
    for name in ("later", "none"):
        lab.cluster.kill(name)
    lab.cluster.wait(3)
    assert process.returncode == ExitCode.INTERRUPTED, errors
    attempts = store.trials()
    assert set(attempts["failure_class"].to_pylist()) <= {None, "cancelled"}
    assert not {"later", "none"} & set(attempts["host"].to_pylist())


def test_submit_refuses_where_no_node_fits(lab: Lab) -> None:
    """If all nodes would fail the trials, none is begun: exit code 5, and for every node what to do."""
    (lab.folder / "again.yaml").write_text(GRID.replace("seeds: [0]", "seeds: [1]").replace("small", "again"))
    other = other_library(lab, "user")
    begun = open_store(str(lab.folder / "store")).attempts().num_rows
    code, _, errors = lab.wtsbench("submit", "again.yaml", "--sandbox", "process", PYTHONPATH=other)
    assert code == ExitCode.UNREACHABLE
    assert "no node can run these trials" in errors
    assert "other libraries: peft " in errors
    assert "wrong: the server wants a token" in errors
    assert "name its file with WTSBENCH_TOKEN_FILE" in errors
    assert open_store(str(lab.folder / "store")).attempts().num_rows == begun


HANGS = "import pathlib, time\npathlib.Path({marker!r}).touch()\ntime.sleep(600)\n"
SURVEY = """
import sys
from wtsbench.execution.preflight import bare_question, survey_of
from wtsbench.execution.ray_executor import connected
from wtsbench.sandbox.process import ProcessSandbox
from wtsbench.spec.grid import Resources
question = bare_question(sys.argv[2], ProcessSandbox(), Resources(), image="trial")
with connected(sys.argv[1]):
    for node in survey_of(question, Resources(), seconds=float(sys.argv[3])).nodes:
        print(f"{node.name}: {node.silence}")
"""


def test_a_node_that_is_silent_or_dies(lab: Lab) -> None:
    """A node that does not answer in time, and one that dies while it is asked, hold nobody up and are named."""
    marker = lab.folder / "asked"
    hangs = lab.path_with("silent", "wtsbench/__init__.py", HANGS.format(marker=str(marker)))
    lab.cluster.add("silent", within=apart("silent"), PYTHONPATH=hangs)
    arguments = ("-c", SURVEY, lab.cluster.address, lab.server.listen)
    out, errors = lab.start(*arguments, "15").communicate(timeout=120)
    assert "silent: it has not answered within 15 s" in out, out + errors
    marker.unlink()
    asking = lab.start(*arguments, "300")
    deadline = time.monotonic() + 60
    while not marker.exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    lab.cluster.kill("silent")
    out, errors = asking.communicate(timeout=120)
    assert "silent: it was lost while it was asked" in out, out + errors


PATCHED = """
import sys
import ray._private.utils as utils
own = utils.compute_version_info()
utils.compute_version_info = lambda: (own[0], "3.11.99")
from ray.scripts.scripts import main
sys.argv[0] = "ray"
main()
"""


def test_a_cluster_of_another_python(tmp_path: Path) -> None:
    """Ray lets nobody in whose Python has another patch level: that is said, with both versions, before it is tried."""
    cluster = Cluster(tmp_path)
    try:
        cluster.start(program=PATCHED)
        done = subprocess.run(
            [sys.executable, "-m", "wtsbench_cli", "doctor", "--ray", cluster.address, "--json"],
            env={**cluster.client, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == ExitCode.UNREACHABLE
        (check,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "ray"]
        assert "on Python 3.11.99, and here is Ray" in check["found"]
        assert "patch level" in check["remedy"]
    finally:
        cluster.kill("head")
        cluster.stop()


def test_a_grid_on_this_machine(tmp_path: Path) -> None:
    """Without a cluster, `doctor --grid` asks this machine the same."""
    (tmp_path / "small.yaml").write_text(GRID)
    done = subprocess.run(
        [sys.executable, "-m", "wtsbench_cli", "doctor", "--grid", "small.yaml", "--sandbox", "process", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    (node,) = json.loads(done.stdout)["cluster"]["nodes"]
    assert node["facts"]["models"].keys() == {"nano-1", "nano-2"}
    assert node["state"] in ("ok", "warn")
