"""The manifests for Kubernetes: they follow the published schemas, their names meet, and their images are digests."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.main import get_command

from tests.kubernetes.manifests import (
    FOLDER,
    IMAGE,
    Object,
    Pod,
    folders,
    kustomization,
    named,
    objects,
    pods,
    pods_of,
    ray_clusters,
)
from tests.store.servers import with_roots
from wtsbench.settings import data_mirror, shipped
from wtsbench_cli.main import app

ROOT = Path(__file__).parents[2]
MIRROR = (data_mirror() or shipped("manifests").parents[1] / "shared" / "data") / "kubernetes"
DIGEST = f"sha256:{'4c' * 32}"
UNSET = ("set-your-image.invalid/wtsbench", "sha256:SET-THE-DIGEST-OF-YOUR-IMAGE")
"""What stands for repository and digest until they are set."""
OWN_KINDS = {"v1", "apps/v1", "networking.k8s.io/v1"}
PART = "wtsbench/part"
SECRETS = {"wtsbench-store-tls": {"tls.crt", "tls.key", "ca.crt"}, "wtsbench-token": {"token"}}
"""The secrets that docs/kubernetes.md has made, with their keys."""


def test_every_file_is_used_and_every_file_named_is_there() -> None:
    """No manifest is left beside the kustomizations, and none of them names what is not there."""
    used = set(FOLDER.glob("*/kustomization.yaml"))
    for folder in [*folders(), FOLDER / "image"]:
        told = kustomization(folder)
        names = [*told.get("resources", ()), *told.get("configurations", ())]
        names += [name.rpartition("=")[2] for one in told.get("configMapGenerator", ()) for name in one["files"]]
        used |= {folder / name for name in names}
        assert all((folder / name / "kustomization.yaml").is_file() for name in told.get("components", ()))
    assert used == {path for path in FOLDER.rglob("*") if path.is_file()}


# -- schemas


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kinds_of_kubernetes_follow_its_schemas(version: str) -> None:
    """Of an old version and a new one; unknown fields are faults."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    own = [one for one in objects() if one["apiVersion"] in OWN_KINDS]
    assert {one["kind"] for one in own} == {"Namespace", "ConfigMap", "Service", "StatefulSet", "NetworkPolicy"}
    for one in own:
        kubernetes_validate.validate(one, version, strict=True)
    wrong = copy.deepcopy(named("StatefulSet"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def _closed(schema: Any) -> Any:
    """A schema of a custom resource that takes no field that it does not name: the API server drops such fields."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_ray_kinds_follow_kuberays_schemas(kind: str) -> None:
    """Where the data mirror has the custom resource definitions; unknown fields are faults."""
    file = MIRROR / f"ray.io_{kind.lower()}s.yaml"
    if not file.is_file():
        pytest.skip(f"the data mirror has no {file.name}")
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # the file is long
    definition = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506  # both are safe ones
    (version,) = [one for one in definition["spec"]["versions"] if one["name"] == "v1"]
    schema = _closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    check = jsonschema.Draft202012Validator(schema)
    one = named(kind)
    assert [error.message for error in check.iter_errors(one)] == []
    cluster = one["spec"] if kind == "RayCluster" else one["spec"]["rayClusterSpec"]
    cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["envFrum"] = []
    cluster["workerGroupSpecs"][0]["replicas"] = "two"
    assert len(list(check.iter_errors(one))) == 2


# -- what operators demand beyond their schemas


def test_ray_clusters_keep_to_what_kuberay_demands() -> None:
    """Ray's version is the one that is pinned, tokens are on, no trial runs on a head, pods are not restarted."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    for of, cluster in ray_clusters():
        assert cluster["rayVersion"] == pins["ray"], of
        assert cluster["authOptions"] == {"mode": "token"}
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert all("restartPolicy" not in pod.spec for pod in pods_of(of, cluster)), "autoscaler v2 takes none"
        for group in cluster["workerGroupSpecs"]:
            assert "labels" not in group["rayStartParams"]
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_a_job_is_one_that_kueue_can_admit() -> None:
    """Its queue exists, its cluster neither grows nor stays, and the quota holds all that its pods ask for."""
    job = named("RayJob")
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    queue = named("LocalQueue")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == queue["metadata"]["name"]
    assert job["metadata"]["namespace"] == queue["metadata"]["namespace"]
    assert spec["suspend"]
    assert spec["shutdownAfterJobFinishes"]
    assert "clusterSelector" not in spec
    assert not cluster["enableInTreeAutoscaling"]
    assert len(cluster["workerGroupSpecs"]) <= 7
    (group,) = named("ClusterQueue", queue["spec"]["clusterQueue"])["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    assert named("ResourceFlavor", flavor["name"])
    quota = {one["name"]: _amount(one["nominalQuota"]) for one in flavor["resources"]}
    assert set(quota) == set(group["coveredResources"])
    asked: dict[str, float] = {}
    for pod in [one for one in pods() if one.of.startswith("RayJob")]:
        for name, amount in pod.container["resources"]["requests"].items():
            asked[name] = asked.get(name, 0) + pod.replicas * _amount(amount)
    assert asked
    assert set(asked) <= set(quota)
    assert all(amount <= quota[name] for name, amount in asked.items())
    assert {name for pod in pods() for name in pod.container["resources"]["requests"]} == set(quota)


def _amount(quantity: str | int) -> float:
    """A quantity of Kubernetes in its base unit."""
    number, unit = re.fullmatch(r"([0-9.]+)(m|Ki|Mi|Gi|Ti|)", str(quantity)).groups()  # type: ignore[union-attr]
    return float(number) * {"m": 1e-3, "": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}[unit]


# -- names that meet


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod.of)
def test_what_a_pod_mounts_and_reads_is_there(pod: Pod) -> None:
    """Volumes, secrets with their keys, config maps, ports of probes; and nothing is defined that is not used."""
    claims = {one["metadata"]["name"] for one in named("StatefulSet")["spec"]["volumeClaimTemplates"]}
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    mounted = {mount["name"] for mount in pod.container["volumeMounts"]}
    assert mounted == set(volumes) | (claims if pod.part == "store" else set())
    for volume in volumes.values():
        if secret := volume.get("secret"):
            assert {item["key"] for item in secret.get("items", ())} <= SECRETS[secret["secretName"]]
        elif config := volume.get("configMap"):
            assert config["name"] in config_maps()
        else:
            assert "emptyDir" in volume
    for source in pod.container.get("envFrom", ()):
        assert source["configMapRef"]["name"] in config_maps()
    ports = {port["name"] for port in pod.container.get("ports", ())}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod.part != "store" or pod.container[probe]["httpGet"]["port"] in ports


def config_maps() -> set[str]:
    """Names of all config maps, generated ones too."""
    made = [one for folder in folders() for one in kustomization(folder).get("configMapGenerator", ())]
    return {one["metadata"]["name"] for one in objects() if one["kind"] == "ConfigMap"} | {one["name"] for one in made}


def test_the_secrets_are_those_that_the_page_has_made() -> None:
    """docs/kubernetes.md makes each, with the keys that are read; only the store sees the key of its certificate."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    for name, keys in SECRETS.items():
        (command,) = re.findall(rf"create secret generic {name}\b(?:.*\\\n)*.*", page)
        assert set(re.findall(r"--from-(?:file|literal)=([\w.]+)", command)) == keys
    for pod in pods():
        for volume in pod.spec["volumes"]:
            if volume.get("secret", {}).get("secretName") == "wtsbench-store-tls" and pod.part != "store":
                assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


def test_services_monitors_and_policies_select_pods_that_are_there() -> None:
    """By their labels, and by ports that those pods have."""
    service, stateful = named("Service"), named("StatefulSet")
    selected = _selected({"matchLabels": service["spec"]["selector"]})
    assert [pod.part for pod in selected] == ["store"]
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    assert stateful["spec"]["selector"]["matchLabels"] == stateful["spec"]["template"]["metadata"]["labels"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= _ports(selected)
    monitor, pods_monitor = named("ServiceMonitor")["spec"], named("PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    authority = endpoint["tlsConfig"]["ca"]["secret"]
    assert authority["key"] in SECRETS[authority["name"]]
    assert endpoint["tlsConfig"]["serverName"] == service["metadata"]["name"]
    assert {pod.part for pod in _selected(pods_monitor["selector"])} == {"head", "trials"}
    assert {one["port"] for one in pods_monitor["podMetricsEndpoints"]} <= _ports(_selected(pods_monitor["selector"]))


def _selected(selector: Object) -> list[Pod]:
    """The pods that a label selector selects."""
    wanted = selector.get("matchLabels", {}).items()
    among = [(one["key"], one["values"]) for one in selector.get("matchExpressions", ())]
    return [
        pod
        for pod in pods()
        if wanted <= pod.labels.items() and all(pod.labels.get(key) in values for key, values in among)
    ]


def _ports(of: list[Pod]) -> set[str | int]:
    """Ports by name and by number that all of some pods have."""
    each = [
        {value for port in pod.container.get("ports", ()) for value in (port["name"], port["containerPort"])}
        for pod in of
    ]
    return set.intersection(*each)


def test_trials_reach_the_store_ray_and_names_alone() -> None:
    """By the sum of all policies; everything else is denied, in both directions."""
    policies = {one["metadata"]["name"]: one["spec"] for one in objects() if one["kind"] == "NetworkPolicy"}
    assert policies["nothing-by-default"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    trials = next(pod for pod in pods() if pod.part == "trials")
    reached: list[tuple[Any, Any]] = []
    for spec in policies.values():
        if trials in _selected(spec["podSelector"]):
            reached += [(rule.get("to"), rule.get("ports")) for rule in spec.get("egress", ())]
    assert len(reached) == 3
    for peers, ports in reached:
        assert peers, "a rule without peers allows every address"
        assert all("ipBlock" not in peer for peer in peers)
        if all("namespaceSelector" in peer for peer in peers):
            assert {port["port"] for port in ports} == {53}
        else:
            parts = {pod.part for peer in peers for pod in _selected(peer["podSelector"])}
            assert (parts, ports) in (({"store"}, [{"port": 8815}]), ({"head", "trials"}, None))


def test_one_pod_alone_reaches_any_address() -> None:
    """The head of the cluster that grows, for its autoscaler; it runs no trial, and only over HTTPS."""
    open_to: dict[str, set[int]] = {}
    for one in objects():
        if one["kind"] == "NetworkPolicy":
            for rule in one["spec"].get("egress", ()):
                if not rule.get("to"):
                    open_to |= {pod.of: {port["port"] for port in rule["ports"]} for pod in _selected_by(one)}
    assert open_to == {"RayCluster head": {443, 6443}}


def _selected_by(policy: Object) -> list[Pod]:
    return _selected(policy["spec"]["podSelector"])


def test_ports_of_policies_are_those_of_the_pods() -> None:
    """A name that no container has would let nothing through."""
    for one in objects():
        if one["kind"] == "NetworkPolicy":
            own = _selected_by(one)
            for rule in one["spec"].get("ingress", ()):
                assert {port["port"] for port in rule.get("ports", ())} <= _ports(own), one["metadata"]["name"]
            for rule in one["spec"].get("egress", ()):
                here = [peer for peer in rule.get("to", ()) if "namespaceSelector" not in peer]
                targets = [pod for peer in here for pod in _selected(peer["podSelector"])]
                assert not here or {port["port"] for port in rule.get("ports", ())} <= _ports(targets)


# -- pods


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod.of)
def test_pods_have_no_rights_that_they_do_not_need(pod: Pod) -> None:
    """What the namespace enforces, a root that cannot be written, and no token of the API server beside a trial."""
    assert named("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod.spec["securityContext"]["runAsNonRoot"]
    assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    autoscaled = pod.of == "RayCluster head"
    assert pod.spec.get("automountServiceAccountToken") is (None if autoscaled else False)
    assert not pod.spec["enableServiceLinks"]
    assert {"cpu", "memory"} <= set(pod.container["resources"]["requests"])
    assert "memory" in pod.container["resources"]["limits"]


def test_the_variables_of_pods_are_known_and_name_what_is_mounted() -> None:
    """Each variable of wtsbench is one that its code reads; each path lies in a volume of every pod that reads it."""
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmark" / "wtsbench").rglob("*.py"))
    data = named("ConfigMap")["data"]
    for pod in pods():
        if "envFrom" in pod.container:
            own = {one["name"]: one["value"] for one in pod.container["env"]}
            mounts = [mount["mountPath"] for mount in pod.container["volumeMounts"]]
            for name, value in (data | own).items():
                assert not name.startswith("WTSBENCH_") or f'"{name}"' in code, name
                assert not value.startswith("/") or any(Path(value).is_relative_to(mount) for mount in mounts)
            assert own["WTSBENCH_POD_IMAGE"] == pod.container["image"] == IMAGE
    service = named("Service")
    port = next(one["port"] for one in service["spec"]["ports"] if one["name"] == "grpc")
    assert data["WTSBENCH_STORE"] == f"grpc+tls://{service['metadata']['name']}:{port}"


def test_the_command_of_a_job_is_one_of_the_command_line() -> None:
    """The real command line takes it, and the grid that it names is mounted and valid."""
    job = named("RayJob")["spec"]
    program, verb, grid, *options = job["entrypoint"].split()
    assert (program, verb) == ("wtsbench", "submit")
    command = get_command(app).get_command(None, "submit")  # type: ignore[attr-defined]
    found = command.make_context("submit", [grid, *options]).params
    assert found["sandbox"].value == "process"
    head = next(pod for pod in pods() if pod.of == "RayJob head")
    (volume,) = [one for one in head.spec["volumes"] if "configMap" in one]
    (mount,) = [one for one in head.container["volumeMounts"] if one["name"] == volume["name"]]
    (made,) = kustomization(FOLDER / "job")["configMapGenerator"]
    assert made["name"] == volume["configMap"]["name"]
    assert grid in [f"{mount['mountPath']}/{name}" for name in made["files"]]
    done = subprocess.run(
        [sys.executable, "-m", "wtsbench_cli", "validate", str(FOLDER / "job" / "grid.yaml")],
        capture_output=True,
        text=True,
        env=with_roots(),
    )
    assert done.returncode == 0, done.stderr


# -- rendered


def _rendered(folder: Path) -> list[Object]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def _images(node: Any) -> Iterator[str]:
    """Every image of a rendered object, and what its containers say of their image."""
    if isinstance(node, dict):
        if isinstance(node.get("image"), str):
            yield node["image"]
        if node.get("name") == "WTSBENCH_POD_IMAGE":
            yield node["value"]
        for value in node.values():
            yield from _images(value)
    elif isinstance(node, list):
        for value in node:
            yield from _images(value)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which renders them, is not installed")
def test_one_line_sets_the_digest_of_every_pod(tmp_path: Path) -> None:
    """Image and WTSBENCH_POD_IMAGE alike; as shipped they name no digest, which nodes and wtsbench refuse."""
    copied = shutil.copytree(FOLDER, tmp_path / "kubernetes")

    def found() -> dict[str, list[str]]:
        names = ("store", "cluster", "job")
        return {name: [image for one in _rendered(copied / name) for image in _images(one)] for name in names}

    assert set(chain(*found().values())) == {f"{UNSET[0]}@{UNSET[1]}"}
    pin = copied / "image" / "kustomization.yaml"
    text = pin.read_text(encoding="utf-8")
    for old, new in zip(UNSET, ("lab.example/w", DIGEST), strict=True):
        assert text.count(old) == 1
        text = text.replace(old, new)
    pin.write_text(text, encoding="utf-8")
    images = found()
    assert {name: len(some) for name, some in images.items()} == {"store": 1, "cluster": 6, "job": 5}
    assert set(chain(*images.values())) == {f"lab.example/w@{DIGEST}"}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which renders them, is not installed")
@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_rendering_changes_nothing_else(folder: Path) -> None:
    """`kubectl apply -k` sends what the files say, with the image and the generated config maps."""
    told = kustomization(folder)
    written = [one for name in told["resources"] for one in yaml.safe_load_all((folder / name).read_text())]
    before, after = ({_name(one): _without_images(one) for one in some} for some in (written, _rendered(folder)))
    made = {("ConfigMap", one["name"]) for one in told.get("configMapGenerator", ())}
    assert set(after) - set(before) == made
    assert {name: one for name, one in after.items() if name not in made} == before


def _name(one: Object) -> tuple[str, str]:
    return one["kind"], one["metadata"]["name"]


def _without_images(node: Any) -> Any:
    if isinstance(node, dict):
        image = "value" if node.get("name") == "WTSBENCH_POD_IMAGE" else "image"
        return {key: "" if key == image else _without_images(value) for key, value in node.items()}
    return [_without_images(one) for one in node] if isinstance(node, list) else node
