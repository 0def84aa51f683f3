"""Ray clusters of several nodes on this machine, as `ray start` makes them; nodes are killed one by one."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.ports import free_port
from wtsbench.settings import cache_folder

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")
_HEAD_ID = "f" * 51 + "00000"
"""By which Ray's provider of nodes for tests knows the head."""
_START = "import sys; from ray.scripts.scripts import main; sys.argv[0] = 'ray'; main()"


class Cluster:
    """A head and further nodes. Each node has a spool of its own, so that none sees the files of another."""

    def __init__(self, folder: Path, **variables: str) -> None:
        """Prepare a cluster whose nodes have these environment variables; `start` starts its head.

        Args:
            folder: for the nodes' own files.
            variables: for all nodes.
        """
        self.token = secrets.token_hex(32)
        self.port, self.dashboard = free_port(), free_port()
        self._folder = folder
        self._variables = variables
        self._place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # paths of sockets are short
        self._nodes: dict[str, subprocess.Popen[str]] = {}
        self._home = folder / "home"
        (self._home / ".ray").mkdir(parents=True, exist_ok=True)
        (self._home / ".ray" / "auth_token").write_text(self.token)

    @property
    def address(self) -> str:
        """Of the head."""
        return f"127.0.0.1:{self.port}"

    @property
    def client(self) -> dict[str, str]:
        """Environment of a client that has the token."""
        kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        return {**kept, "HOME": str(self._home), "WTSBENCH_CACHE": str(cache_folder())}

    def start(self, *, cpus: int = 0, grows_to: int = 0, program: str = _START) -> None:
        """Start the head.

        Args:
            cpus: that it offers.
            grows_to: nodes of one core that Ray's autoscaler adds where tasks wait, at most.
            program: in place of `ray`.
        """
        options = f"--head --port={self.port} --dashboard-port={self.dashboard} --num-cpus={cpus}"
        variables = {}
        if grows_to:
            config = self._folder / "autoscaling.yaml"
            config.write_text(_GROWING.format(nodes=grows_to, address=self.address))
            options += f" --autoscaling-config={config}"
            variables = {
                "AUTOSCALER_UPDATE_INTERVAL_S": "1",
                "RAY_FAKE_CLUSTER": "1",  # nodes that the autoscaler adds are of this machine
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
            }
        self._start("head", options, (), variables, program=program)

    def add(self, name: str, *, cpus: int = 1, gpus: int = 0, within: Sequence[str] = (), **variables: str) -> None:
        """Start another node.

        Args:
            name: for this class, and of its folder.
            cpus: that it offers.
            gpus: that it offers, whether it has them or not.
            within: a command that the node is started by, as in namespaces of its own.
            variables: of this node's environment; an empty one is unset.
        """
        self._start(name, f"--address={self.address} --num-cpus={cpus} --num-gpus={gpus}", within, variables)

    def kill(self, name: str) -> None:
        """End all processes of a node at once, as if its power was cut; one that never started has none."""
        process = self._nodes.pop(name, None)
        if process is None:
            return
        parts = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for part in parts:
            part.suspend()  # so that none starts anything while the others end
        for part in parts:
            part.kill()
        process.communicate(timeout=30)
        psutil.wait_procs(parts, timeout=30)

    def stop(self) -> None:
        """End all nodes, and what they started."""
        parts = []
        for process in self._nodes.values():
            parts += psutil.Process(process.pid).children(recursive=True)
        for name in reversed(self._nodes):  # the head last, whom the others wait for
            self._nodes[name].send_signal(signal.SIGTERM)
        for process in self._nodes.values():
            process.communicate(timeout=60)
        self._nodes.clear()
        for part in psutil.wait_procs(parts, timeout=10)[1]:
            part.kill()
        shutil.rmtree(self._place, ignore_errors=True)

    def _start(
        self,
        name: str,
        options: str,
        within: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        *,
        program: str = _START,
    ) -> None:
        home = self._folder / name
        home.mkdir(exist_ok=True)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        words = ["start", "--block", "--disable-usage-stats", "--dashboard-agent-listen-port", str(free_port())]
        environment = {
            **self.client,
            "RAY_AUTH_MODE": "token",
            "PATH": path,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "WTSBENCH_SPOOL": str(home / "spool"),
            **self._variables,
            **(variables or {}),
        }
        process = subprocess.Popen(
            [*within, sys.executable, "-c", program, *words, f"--temp-dir={self._place}", *options.split()],
            env={key: value for key, value in environment.items() if value},
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._nodes[name] = process
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "Ray runtime started" in line:
                return
        raise AssertionError("the node does not start:\n" + "".join(lines))

    def wait(self, nodes: int, *, seconds: float = 60) -> None:
        """Wait until the cluster has so many living nodes."""
        deadline = time.monotonic() + seconds
        while (there := self.count()) != nodes:
            assert time.monotonic() < deadline, f"{there} nodes, not {nodes}"
            time.sleep(1)

    def count(self) -> int:
        """The living nodes of the cluster."""
        asked = subprocess.run(
            [sys.executable, "-c", _COUNT, self.address],
            env={**self.client, "RAY_AUTH_MODE": "token"},
            capture_output=True,
            text=True,
            check=True,
        )
        (number,) = re.findall(r"^\d+$", asked.stdout, re.MULTILINE)  # Ray may tell of a node that is dead
        return int(number)


_GROWING = """
cluster_name: growing
max_workers: {nodes}
idle_timeout_minutes: 0.2
upscaling_speed: 20
provider:
  type: external
  module: ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider
  gcs_address: "{address}"
  launch_multiple: true
  use_node_id_as_ip: true
file_mounts: {{}}
cluster_synced_files: []
file_mounts_sync_continuously: false
rsync_exclude: []
rsync_filter: []
docker: {{}}
setup_commands: []
initialization_commands: []
head_setup_commands: []
worker_setup_commands: []
head_start_ray_commands: []
worker_start_ray_commands: []
auth: {{}}
available_node_types:
  ray.head.default: {{resources: {{CPU: 0}}, node_config: {{}}, max_workers: 0}}
  worker:
    {{resources: {{CPU: 1}}, labels: {{hardware: small}}, node_config: {{}}, min_workers: 0, max_workers: {nodes}}}
head_node_type: ray.head.default
"""
_COUNT = """
import sys, logging, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
print(sum(node["Alive"] for node in ray.nodes()))
"""
