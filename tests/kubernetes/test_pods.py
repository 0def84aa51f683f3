"""What the pods of the manifests do, with their commands and variables, where no Kubernetes is: in processes."""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.kubernetes.manifests import FOLDER, Pod, named, pods
from wtsbench.spec.provenance import environment_lock
from wtsbench.store.client import open_store

ROOT = Path(__file__).parents[2]
DIGEST = f"sha256:{'4c' * 32}"
RAY_CLI = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "WTSBENCH_POD_IMAGE": f"lab.example/wtsbench@{DIGEST}"}


def of(name: str) -> Pod:
    """The pod of an object and a group."""
    return next(pod for pod in pods() if pod.of == name)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Stands for nodes: folders in place of the volumes that pods mount."""

    folder: Path

    def here(self, text: str) -> str:
        """A command or a variable of a pod, with the paths of this machine's folders."""
        mounts = {mount["mountPath"] for pod in pods() for mount in pod.container["volumeMounts"]}
        for mount in sorted(mounts - {"/tmp"}, key=len, reverse=True):
            text = re.sub(rf"(?<![\w/.]){re.escape(mount)}(?=/|$)", f"{self.folder}{mount}", text)
        return text

    def secret(self, mount: str, files: dict[str, bytes]) -> None:
        """Files of a secret as a kubelet lays them: links to links, so that all change at once."""
        place = Path(f"{self.folder}{mount}")
        (place / "..now").mkdir(parents=True)
        (place / "..data").symlink_to("..now")
        for name, content in files.items():
            (place / "..now" / name).write_bytes(content)
            (place / name).symlink_to(f"..data/{name}")

    def environment(self, pod: Pod, **more: str) -> dict[str, str]:
        """This process's, and what the pod's container is given."""
        given = dict(named("ConfigMap")["data"]) if "envFrom" in pod.container else {}
        given |= {one["name"]: one["value"] for one in pod.container.get("env", ())}
        own = {name: value for name, value in os.environ.items() if not name.startswith(("WTSBENCH_", "RAY_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        imports = os.pathsep.join(map(str, (ROOT / "benchmark", ROOT / "cli")))
        told = {name: self.here(value) for name, value in given.items() if name not in ("HOME", "WTSBENCH_POD_IMAGE")}
        return own | told | {"HOME": str(self.folder), "PATH": path, "PYTHONPATH": imports, "NO_COLOR": "1"} | more


@dataclass(frozen=True, kw_only=True)
class Served:
    """The store as its pod runs it."""

    machine: Machine
    process: subprocess.Popen[str]
    address: str
    metrics: int


@contextmanager
def _store(folder: Path) -> Iterator[Served]:
    """Run it with the certificate of docs/kubernetes.md, and a token that is made as there."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, with which the page makes certificates, is not installed")
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    made = folder / "certificates"
    made.mkdir(parents=True)
    subprocess.run(["sh", "-ec", commands], cwd=made, check=True, capture_output=True)
    machine, pod = Machine(folder=folder), of("StatefulSet")
    machine.secret("/etc/wtsbench/tls", {name: (made / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")})
    machine.secret("/etc/wtsbench/ca", {"ca.crt": (made / "ca.crt").read_bytes()})
    Path(machine.here("/var/lib/wtsbench")).mkdir(parents=True)
    wanted = [machine.here(part) for part in (*pod.container["command"], *pod.container["args"])]
    ports = {port["name"]: port["containerPort"] for port in pod.container["ports"]}
    assert {f"grpc+tls://0.0.0.0:{ports['grpc']}", f"0.0.0.0:{ports['metrics']}"} <= {
        part.partition("=")[2] for part in wanted
    }
    command = [re.sub(r"0\.0\.0\.0:\d+$", "0.0.0.0:0", part) for part in wanted]  # of this machine, any free ones
    assert command[0] == "wtsbench"
    with subprocess.Popen(
        [sys.executable, "-m", "wtsbench_cli", *command[1:]],
        env=machine.environment(pod),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        port = re.search(r"serving .* at grpc\+tls://0\.0\.0\.0:(\d+)", told)
        assert port, told
        found = re.search(r"metrics at https://0\.0\.0\.0:(\d+)/metrics", process.stdout.readline())
        assert found
        try:
            yield Served(
                machine=machine, process=process, address=f"grpc+tls://localhost:{port[1]}", metrics=int(found[1])
            )
        finally:
            if process.poll() is None:
                process.kill()


def _token(served: Served) -> None:
    """The page's step 4: the command runs in the store's pod."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"wtsbench (store token create .*--out -) > token\n", page)
    arguments = [served.machine.here(part) for part in command.split()]
    done = subprocess.run(
        [sys.executable, "-m", "wtsbench_cli", *arguments],
        env=served.machine.environment(of("StatefulSet")),
        capture_output=True,
        check=True,
    )
    served.machine.secret("/etc/wtsbench/token", {"token": done.stdout})


def test_the_store_runs_as_its_pod_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its probes answer as they are written, a client with the variables of a pod reaches it, and it stops in time."""
    pod = of("StatefulSet")
    with _store(tmp_path) as served:
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        checked = ssl.create_default_context(cafile=tmp_path / "certificates" / "ca.crt")
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = pod.container[name]["httpGet"]
            assert (probe["scheme"], probe["port"]) == ("HTTPS", "metrics")
            for context in (unchecked, checked):
                asked = f"https://localhost:{served.metrics}{probe['path']}"
                with urllib.request.urlopen(asked, context=context, timeout=30) as answer:
                    assert answer.status == 200
        _token(served)
        for name, value in served.machine.environment(of("RayCluster head")).items():
            if name.startswith("WTSBENCH_"):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("WTSBENCH_STORE", served.address)
        assert open_store(served.address).trials().num_rows == 0
        drain = next(float(part.partition("=")[2]) for part in pod.container["args"] if part.startswith("--drain="))
        assert drain + 10 <= pod.spec["terminationGracePeriodSeconds"]
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(pod.spec["terminationGracePeriodSeconds"]) == 0


@contextmanager
def _node(environment: dict[str, str], *options: str) -> Iterator[None]:
    """A node of Ray, until the end of the block."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*RAY_CLI, "start", "--block", "--disable-usage-stats", *options],
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            for _ in range(600):
                said.seek(0)
                text = said.read()
                if "Ray runtime started" in text:
                    break
                assert process.poll() is None, text
                time.sleep(0.2)
            yield
        finally:
            parts = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.wait(60)
            for part in psutil.wait_procs(parts, timeout=10)[1]:
                part.kill()


def _free() -> int:
    """A port below those that Ray gives to its workers, which nobody listens at now."""
    for port in random.sample(range(2000, 10_000), 100):
        with suppress(OSError), socket.create_server(("", port)):
            return port
    raise AssertionError("no port is free")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where a job ran, and what could be read there."""

    served: Served
    environment: dict[str, str]
    metrics: frozenset[str]
    """Names of what Ray measured, once the job had run."""
    said: str
    """What the job printed."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The RayJob: its command as a job of a cluster of two nodes, whose head takes no task, with tokens everywhere."""
    folder = tmp_path_factory.mktemp("job")
    head, worker = of("RayJob head"), of("RayJob cpu")
    with _store(folder) as served, tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as place:
        _token(served)
        machine, token = served.machine, secrets.token_hex(32)
        machine.secret("/etc/wtsbench/grid", {"grid.yaml": (FOLDER / "job" / "grid.yaml").read_bytes()})
        tokens = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "WTSBENCH_STORE": served.address}
        environment = machine.environment(head, **POD, **tokens)
        port, dashboard, metrics = _free(), _free(), _free()
        ports = {"port": port, "dashboard-port": dashboard, "metrics-export-port": metrics}
        ports |= {"dashboard-agent-listen-port": _free(), "ray-client-server-port": _free()}
        listen = [f"--{name}={number}" for name, number in ports.items()]
        start = named("RayJob")["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]
        options = [f"--{name}={value}" for name, value in start.items() if name != "dashboard-host"]
        with (
            _node(environment, "--head", f"--temp-dir={place}", *listen, *options),
            _node(
                machine.environment(worker, **POD, **tokens),
                f"--address=127.0.0.1:{port}",
                "--num-cpus=2",
                f"--dashboard-agent-listen-port={_free()}",
            ),
        ):
            entrypoint = machine.here(named("RayJob")["spec"]["entrypoint"])
            done = subprocess.run(
                [*RAY_CLI, "job", "submit", f"--address=http://127.0.0.1:{dashboard}", "--", *entrypoint.split()],
                env={**os.environ, **tokens},
                capture_output=True,
                text=True,
                timeout=500,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            yield Cluster(
                served=served, environment=environment, metrics=_measured(metrics), said=done.stdout + done.stderr
            )


def _measured(port: int) -> frozenset[str]:
    """Names of the metrics of Ray's head, which come one after the other."""
    names: frozenset[str] = frozenset()
    for _ in range(60):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        names |= frozenset(re.findall(r"^(ray_\w+)[{ ]", text, re.MULTILINE))
        if {"ray_tasks", "ray_resources", "ray_node_mem_used", "ray_cluster_active_nodes"} <= names:
            break
        time.sleep(1)
    return names


@pytest.mark.slow
def test_a_jobs_records_name_the_image_of_its_pods(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grid ran on the worker, under the identity of the pod's image; no token is in what the job printed."""
    for name, value in cluster.environment.items():
        if name.startswith("WTSBENCH_") and name != "WTSBENCH_POD_IMAGE":
            monkeypatch.setenv(name, value)
    trials = open_store(cluster.served.address).trials().to_pylist()
    assert [row["status"] for row in trials] == ["done"] * 3
    for row in trials:
        assert row["image_digest"] == DIGEST
        assert POD["WTSBENCH_POD_IMAGE"] in row["isolation"]
        assert row["environment"] == f"process:{DIGEST}:{environment_lock()}"
    assert cluster.environment["RAY_AUTH_TOKEN"] not in cluster.said


@pytest.mark.slow
def test_the_dashboard_shows_what_is_measured(cluster: Cluster) -> None:
    """Every metric that it asks for is one of a real store or cluster; of GPUs, one of Ray's own dashboard."""
    dashboard = json.loads((FOLDER / "monitoring" / "grafana.json").read_text(encoding="utf-8"))
    asked = {
        metric
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        for metric in re.findall(r"\b(?:wtsbench|ray)_\w+", target["expr"])
    }
    asked |= set(re.findall(r"\bwtsbench_\w+", json.dumps(dashboard["templating"])))
    context = ssl.create_default_context(cafile=cluster.served.machine.folder / "certificates" / "ca.crt")
    with urllib.request.urlopen(f"https://localhost:{cluster.served.metrics}/metrics", context=context) as answer:
        stored = set(re.findall(r"^(wtsbench_\w+)", answer.read().decode(), re.MULTILINE))
    from ray.dashboard.modules.metrics.dashboards import default_dashboard_panels

    of_gpus = set(re.findall(r"\bray_node_g\w+", Path(default_dashboard_panels.__file__).read_text(encoding="utf-8")))
    assert len(asked) >= 15
    assert asked - stored - cluster.metrics - of_gpus == set()
    assert len(asked & cluster.metrics) >= 6
