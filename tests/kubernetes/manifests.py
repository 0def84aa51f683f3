"""The files of manifests/kubernetes as data: objects as they are written, and the pods that come of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from wtsbench.settings import shipped

FOLDER = shipped("manifests") / "kubernetes"
IMAGE = "wtsbench"
"""What stands for the image until kustomize writes it."""
Object = dict[str, Any]


def kustomization(folder: Path) -> Object:
    """What a folder's kustomization says."""
    found: Object = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    return found


def folders() -> list[Path]:
    """Those that are applied: all but the component with the image."""
    found = sorted(path.parent for path in FOLDER.glob("*/kustomization.yaml"))
    return [folder for folder in found if kustomization(folder)["kind"] == "Kustomization"]


def objects() -> list[Object]:
    """Every object of every folder, in the files' order; the caller may change them."""
    return copy.deepcopy(_parsed())


@cache
def _parsed() -> list[Object]:
    return [
        document
        for folder in folders()
        for name in kustomization(folder)["resources"]
        for document in yaml.safe_load_all((folder / name).read_text(encoding="utf-8"))
    ]


def named(kind: str, name: str | None = None) -> Object:
    """The object of a kind, and of a name where there are several."""
    (found,) = [one for one in objects() if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod that some object makes."""

    of: str
    """The object, and the group in it."""
    labels: dict[str, str]
    spec: Object
    replicas: int

    @property
    def part(self) -> str:
        """What it is for."""
        return self.labels["wtsbench/part"]

    @property
    def container(self) -> Object:
        """Its only container."""
        (found,) = self.spec["containers"]
        assert isinstance(found, dict)
        return found


def _pod(of: str, template: Object, replicas: int = 1) -> Pod:
    return Pod(of=of, labels=template["metadata"]["labels"], spec=template["spec"], replicas=replicas)


def ray_clusters() -> Iterator[tuple[str, Object]]:
    """The specification of every Ray cluster."""
    yield "RayCluster", named("RayCluster")["spec"]
    yield "RayJob", named("RayJob")["spec"]["rayClusterSpec"]


def pods_of(of: str, cluster: Object) -> Iterator[Pod]:
    """The pods of a Ray cluster as it starts."""
    yield _pod(f"{of} head", cluster["headGroupSpec"]["template"])
    for group in cluster["workerGroupSpecs"]:
        yield _pod(f"{of} {group['groupName']}", group["template"], group["replicas"])


def pods() -> list[Pod]:
    """Every pod."""
    job = named("RayJob")["spec"]
    ray = [pod for of, cluster in ray_clusters() for pod in pods_of(of, cluster)]
    store = _pod("StatefulSet", named("StatefulSet")["spec"]["template"])
    return [store, *ray, _pod("RayJob submitter", job["submitterPodTemplate"])]
