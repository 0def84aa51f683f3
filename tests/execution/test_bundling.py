"""Grids carried to machines without a network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.halting import halting
from tests.models.folders import write_model_folder
from tests.models.hub_server import COMMIT, Hub, serve
from tests.sandbox.conftest import BASE
from wtsbench.images.bundle import Entry, write
from wtsbench.images.docker_engine import connect

TASK = """\
apiVersion: wtsbench/v1
kind: task
name: {name}
summary: Rows of the user's own.
labels: [bad, good]
metric: accuracy
template: "{{text}}"
label: {{column: label}}
group: {{threshold: 1.0}}
splits: {{weak_train: 0.3, transfer: 0.3, validation: 0.1, test: 0.3}}
"""
GRID = """\
apiVersion: wtsbench/v1
name: carried
tasks: [own, mirrored]
pairs: [{weak: "hub:owner/small", strong: large}]
strategies: [naive]
seeds: [0]
"""
MODEL = """\
apiVersion: wtsbench/v1
kind: model
name: large
summary: Weights of the mirror.
mirror: models/large
"""


class Machine:
    """The settings and folders of one machine."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.environment = {
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "WTSBENCH_CACHE": str(folder / "cache"),
            "WTSBENCH_MANIFESTS": str(folder / "manifests"),
            "NO_COLOR": "1",
        }
        for name in ("RAY_ADDRESS", "WTSBENCH_DATA_MIRROR"):
            self.environment.pop(name, None)

    def run(self, *arguments: str | Path, isolated: bool = False) -> subprocess.CompletedProcess[str]:
        """`wtsbench ARGUMENTS`, with no network at all if `isolated`."""
        return subprocess.run(
            [*(["unshare", "-n"] if isolated else []), sys.executable, "-m", "wtsbench_cli", *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def files(self) -> list[str]:
        """Every file, by its path below the machine's folder."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with one model."""
    files = {path.name: path.read_bytes() for path in write_model_folder(tmp_path / "small").iterdir()}
    with serve({"owner/small": files}) as found:
        yield found


@pytest.fixture
def near(tmp_path: Path, hub: Hub) -> Machine:
    """A machine with a network, tasks of its user's own, and a data mirror."""
    machine = Machine(tmp_path / "near", hub.url)
    manifests, mirror = machine.folder / "manifests", tmp_path / "mirror"
    (manifests / "tasks" / "rows").mkdir(parents=True)
    (manifests / "models").mkdir()
    (manifests / "models" / "large.yaml").write_text(MODEL)
    rows = [f"sentence {number} says {number},{'good' if number % 2 else 'bad'}\n" for number in range(200)]
    (manifests / "tasks" / "rows" / "own.csv").write_text("".join(["text,label\n", *rows]))
    place = "source: {kind: path, path: rows/own.csv}\n"
    (manifests / "tasks" / "own.yaml").write_text(TASK.format(name="own") + place)
    url = f"url: 'http://127.0.0.1:9/rows.csv', sha256: '{'0' * 64}'"
    place = f"source: {{kind: file, {url}, format: csv}}\nmirror: {{path: rows.csv, format: csv}}\n"
    (manifests / "tasks" / "mirrored.yaml").write_text(TASK.format(name="mirrored") + place)
    write_model_folder(mirror / "models" / "large")
    (mirror / "rows.csv").write_text("".join(["text,label\n", *(f"other {row}" for row in rows)]))
    (machine.folder / "carried.yaml").write_text(GRID)
    machine.environment["WTSBENCH_DATA_MIRROR"] = str(mirror)
    return machine


@pytest.fixture
def far(tmp_path: Path) -> Machine:
    """A machine with nothing, whose way to the hub leads nowhere."""
    return Machine(tmp_path / "far", "http://127.0.0.1:9")


def planned(machine: Machine, grid: str) -> list[str]:
    """Ids of the trials that a grid is planned into."""
    done = machine.run("plan", grid, "--sandbox", "process", "--store", "store", "--json")
    assert done.returncode == 0, done.stderr
    return sorted(trial["trial_id"] for trial in json.loads(done.stdout)["trials"])


def test_a_grid_is_the_same_grid_where_it_was_carried_to(tmp_path: Path, near: Machine, far: Machine) -> None:
    """Without hub, mirror or manifests of its own the other machine plans the very same trials."""
    out = tmp_path / "bundle.tar"
    written = near.run("image", "bundle", out, "--grid", "carried.yaml", "--no-image", "--no-wheels", "--json")
    assert written.returncode == 0, written.stderr
    assert json.loads(written.stdout)["left_out"] == []

    loaded = far.run("image", "load", out, "--no-image", "--json")
    assert loaded.returncode == 0, loaded.stderr
    said = json.loads(loaded.stdout)
    assert said["digest"] == json.loads(written.stdout)["digest"]
    assert any(f"export WTSBENCH_DATA_MIRROR={said['mirror']}" in line for line in said["advice"])
    far.environment["WTSBENCH_DATA_MIRROR"] = said["mirror"]
    names = far.files()
    assert f"hf/hub/models--owner--small/snapshots/{COMMIT}/model.safetensors" in names
    assert "manifests/tasks/rows/own.csv" in names

    assert planned(far, "carried") == planned(near, "carried.yaml")
    again = json.loads(far.run("image", "load", out, "--no-image", "--json").stdout)
    assert (again["placed"], again["kept"]) == (0, said["placed"])


def test_nothing_is_changed_by_a_bundle_that_is_refused(tmp_path: Path, near: Machine, far: Machine) -> None:
    """A damaged bundle is exit code 1, one that would replace the user's files 2; both leave all as it was."""
    out = tmp_path / "bundle.tar"
    assert near.run("image", "bundle", out, "--grid", "carried.yaml", "--no-image", "--no-wheels").returncode == 0

    (far.folder / "manifests" / "tasks").mkdir(parents=True)
    (far.folder / "manifests" / "tasks" / "own.yaml").write_text("mine")
    conflict = far.run("image", "load", out, "--no-image")
    assert conflict.returncode == 2, conflict.stderr
    assert "tasks/own.yaml" in conflict.stderr
    assert far.files() == ["manifests/tasks/own.yaml"]

    content = bytearray(out.read_bytes())
    content[-20_000] ^= 1
    out.write_bytes(content)
    damaged = far.run("image", "load", out, "--no-image")
    assert damaged.returncode == 1, damaged.stderr
    assert far.files() == ["manifests/tasks/own.yaml"]


def test_a_load_that_was_killed_is_finished_by_the_next(tmp_path: Path, far: Machine) -> None:
    """SIGKILL in the middle leaves no file that is not whole, and loading again leaves nothing else beside them."""
    place = f"wtsbench/hub/models--owner--large/snapshots/{COMMIT}"
    content = {f"{place}/model-{number:05}.safetensors": os.urandom(2 << 20) for number in range(40)}
    content |= {f"wtsbench/cache/models/embedded/x/{number}": os.urandom(2 << 20) for number in range(10)}
    about = {"grids": [], "created": "", "left_out": []}
    write(tmp_path / "bundle.tar", about, {name: Entry.of_bytes(name, one) for name, one in content.items()})
    snapshot = far.folder / place.replace("wtsbench/hub", "hf/hub")

    command = halting(snapshot / "model-*", 20, "image", "load", tmp_path / "bundle.tar")
    with subprocess.Popen(command, env=far.environment, cwd=far.folder, stderr=subprocess.DEVNULL) as loading:
        while loading.poll() is None and len(list(snapshot.glob("model-*"))) < 3:
            time.sleep(0.001)
        loading.kill()
    assert loading.returncode == -signal.SIGKILL
    for path in (one for one in snapshot.iterdir() if not one.name.startswith(".")):
        assert path.read_bytes() == content[f"{place}/{path.name}"]
    assert not (far.folder / "cache" / "models" / "embedded" / "x").exists()

    again = far.run("image", "load", tmp_path / "bundle.tar", "--json")

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["kept"] >= 3
    wanted = {name.replace("wtsbench/hub", "hf/hub").replace("wtsbench/cache", "cache"): name for name in content}
    assert set(far.files()) == {*wanted, "cache/.load.lock"}
    assert all((far.folder / path).read_bytes() == content[name] for path, name in wanted.items())


@pytest.mark.docker
@pytest.mark.slow
def test_a_carried_grid_runs_without_a_network(tmp_path: Path, far: Machine) -> None:
    """Image, models and data of a bundle suffice: an engine without the image and an empty cache run the trials."""
    here = Machine(tmp_path / "here", "http://127.0.0.1:9")
    for name in ("HF_HOME", "WTSBENCH_CACHE"):  # what the tests' machine has already is not made again
        here.environment.pop(name)
        if name in os.environ:
            here.environment[name] = os.environ[name]
    out = tmp_path / "bundle.tar"
    built = here.run("image", "build", "--base", BASE, "--json")
    assert built.returncode == 0, built.stderr
    image_id = json.loads(built.stdout)["id"]
    written = here.run("image", "bundle", out, "--grid", "smoke", "--no-wheels")
    assert written.returncode == 0, written.stderr
    alone = os.geteuid() == 0  # only root may leave the network
    with connect() as client:
        client.images.remove(image_id, force=True)

    loaded = far.run("image", "load", out, "--json", isolated=alone)
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout)["image"]["id"] == image_id
    done = far.run("submit", "smoke", "--sandbox", "docker", "--executor", "in-process", isolated=alone)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "done: 3 trials, 3 run" in done.stdout
    assert far.run("image", "verify", isolated=alone).returncode == 0
