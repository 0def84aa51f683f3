"""What a trial's container may see and do: a pure function from needs to arguments of the engine's API."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtsbench.images.docker_engine import node
from wtsbench.sandbox.environment import computing_environment
from wtsbench.settings import lease_seconds

INSIDE = "/trial"
"""Where the container sees its folder (`staging`) and mounted models."""
FALLBACK_USER = 10001
"""User and group of a container whose trial folder belongs to root: no container runs as root."""
PIDS = 512
SHARED_MEMORY = 512 * 2**20
SCRATCH = "rw,nosuid,nodev,noexec,size=1g,mode=1777"
OPEN_FILES = 8192
"""More than a trial needs, but set: Podman's own default is more than a Podman without root may grant."""
PROCESSES = 32_768
"""Limit for all processes of a user on the node; PIDS is the limit of one container."""
LOG_DRIVER = {"max-size": "4m", "max-file": "2"}
SYSCTLS = {"kernel.shm_rmid_forced": "1", "kernel.msgmni": "0", "kernel.sem": "32 0 32 0"}
"""No System V object outlives a trial: shared memory ends with its last process, the other kinds are off."""

RUN_LABEL = "wtsbench.run"
TRIAL_LABEL = "wtsbench.trial"
ATTEMPT_LABEL = "wtsbench.attempt"
NODE_LABEL = "wtsbench.node"
LEASE_LABEL = "wtsbench.lease"
"""Path of the lease file: while it is held and renewed, this container has a supervisor."""
OWNER_LABEL = "wtsbench.owner"
"""User id of the supervisor: on a shared engine, users only remove containers of their own."""
LEASE_SECONDS_LABEL = "wtsbench.lease_seconds"


@dataclass(frozen=True, kw_only=True)
class User:
    """Whom a container runs as."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a container has to be like for a trial. A container that differs in any of it is not used."""

    image: str
    user: User
    threads: int
    gpus: tuple[str, ...] = ()
    """UUIDs."""
    cdi: tuple[str, ...] = ()
    """Names of these GPUs in the Container Device Interface, if the engine knows them by it."""
    memory: int | None = None
    mounts: tuple[tuple[str, Path], ...] = ()
    """Target and source of read-only mounts beside the container's own folder."""
    place: Path
    """Parent of the containers' folders, on the file system of the trial folder."""


def fit_user(folder: Path) -> User:
    """The user to run a container as: one that may write the trial folder and whose files the supervisor can delete.

    That is the folder's owner; where this is root, a user without rights, to whom the folder is then given.
    """
    owner = folder.stat()
    if owner.st_uid != 0:
        return User(uid=owner.st_uid, gid=owner.st_gid)
    return User(uid=FALLBACK_USER, gid=FALLBACK_USER)


def model_mounts(model: Path, target: str, user: User) -> dict[str, Path]:
    """Target and source of read-only mounts that show the files of a model.

    Raises:
        PermissionError: a file or folder is closed to the container's user.
    """
    inner = sorted(model.rglob("*"))
    for path in (model, *inner):
        require_readable(path, user)
    files = [path for path in inner if path.is_file()]
    if all(path.resolve().is_relative_to(model) for path in files):
        return {target: model}
    # a snapshot in the hub's cache holds links to files outside of it: mount their targets
    return {f"{target}/{path.relative_to(model).as_posix()}": path.resolve() for path in files}


def container_arguments(
    need: Need, *, inside: Path, outside: Path, lease: Path, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Arguments of `client.containers.create`.

    Args:
        need: what the trial needs.
        inside: folder that is mounted read-only.
        outside: folder that is mounted writable.
        lease: file in `inside` that is renewed while the container has a supervisor.
        labels: `run`, and for a container made for one trial also `trial` and `attempt`.
    """
    import docker.types

    arguments: dict[str, Any] = {
        "image": need.image,
        "entrypoint": ["python", "-P", "-m", "wtsbench.worker.fork_server"],
        "command": [f"{INSIDE}/in"],
        "labels": {
            RUN_LABEL: labels.get("run", ""),
            TRIAL_LABEL: labels.get("trial", ""),
            ATTEMPT_LABEL: labels.get("attempt", ""),
            NODE_LABEL: node(),
            LEASE_LABEL: str(lease),
            OWNER_LABEL: str(os.getuid()),
            LEASE_SECONDS_LABEL: f"{lease_seconds():g}",
        },
        "user": str(need.user),
        "mounts": [
            _bind(inside, f"{INSIDE}/in", writable=False),
            _bind(outside, f"{INSIDE}/out", writable=True),
            *(_bind(source, target, writable=False) for target, source in need.mounts),
        ],
        "environment": {
            **computing_environment(need.threads),
            "HOME": "/tmp",
            "TMPDIR": "/tmp",
            "USER": "trial",
            "LOGNAME": "trial",
            "WTSBENCH_LEASE_SECONDS": f"{lease_seconds():g}",
        },
        "use_config_proxy": False,
        "hostname": "trial",
        "working_dir": "/tmp",
        "network_mode": "none",
        "read_only": True,
        "tmpfs": {"/tmp": SCRATCH},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "sysctls": SYSCTLS,
        "pids_limit": PIDS,
        "shm_size": SHARED_MEMORY,
        "ulimits": [
            docker.types.Ulimit(name="core", soft=0, hard=0),
            docker.types.Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES),
            docker.types.Ulimit(name="nproc", soft=PROCESSES, hard=PROCESSES),
        ],
        "log_config": docker.types.LogConfig(type="json-file", config=LOG_DRIVER),
    }
    if need.memory is not None:
        arguments |= {"mem_limit": need.memory, "memswap_limit": need.memory}
    if need.gpus:
        arguments["device_requests"] = [
            docker.types.DeviceRequest(driver="cdi", device_ids=list(need.cdi))
            if need.cdi
            else docker.types.DeviceRequest(device_ids=list(need.gpus), capabilities=[["gpu"]])
        ]
        del arguments["environment"]["CUDA_VISIBLE_DEVICES"]  # only those of the request are in the container
    return arguments


def require_readable(path: Path, user: User) -> None:
    """Refuse a file or folder that the container's user may not read.

    Raises:
        PermissionError: its mode does not let the user read it.
    """
    if not _readable(path.stat(), user):
        raise PermissionError(f"{path} may not be read by user {user} of the container; run `chmod a+rX` on it")


def _bind(source: Path, target: str, *, writable: bool) -> dict[str, Any]:
    import docker.types

    mount: dict[str, Any] = docker.types.Mount(target=target, source=str(source), type="bind", read_only=not writable)
    return mount


def _readable(status: os.stat_result, user: User) -> bool:
    """Whether the mode lets a user read a file, or enter and list a folder."""
    needed = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
    return (status.st_mode >> shift) & needed == needed
