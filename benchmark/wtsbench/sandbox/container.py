"""What a trial's container may see and do. Pure: what is needed in, arguments of the engine's API out."""

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
"""Where in the container its folder is (`staging`), and models that are mounted."""
FALLBACK_USER = 10001
"""User and group inside where the trial folder is root's: a container never runs as root."""
PIDS = 512
SHARED_MEMORY = 512 * 2**20
SCRATCH = "rw,nosuid,nodev,noexec,size=1g,mode=1777"
OPEN_FILES = 8192
"""Set, though a trial needs far fewer: Podman's own limit is more than it may give where it does not run as root."""
PROCESSES = 32_768
"""Of one user of the node, containers and all; what one container may have is PIDS."""
LOG_DRIVER = {"max-size": "4m", "max-file": "2"}
SYSCTLS = {"kernel.shm_rmid_forced": "1", "kernel.msgmni": "0", "kernel.sem": "32 0 32 0"}
"""No System V object outlives the processes of a trial: shared memory goes with them, and there are no others."""

RUN_LABEL = "wtsbench.run"
TRIAL_LABEL = "wtsbench.trial"
ATTEMPT_LABEL = "wtsbench.attempt"
NODE_LABEL = "wtsbench.node"
LEASE_LABEL = "wtsbench.lease"
"""Path of the lease file: as long as it is held and renewed, somebody waits for this container."""
OWNER_LABEL = "wtsbench.owner"
"""User id of the supervisor: an engine may be shared, and nobody touches what is another's."""
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
    """What the engine calls these GPUs in the Container Device Interface, where it knows them by it."""
    memory: int | None = None
    mounts: tuple[tuple[str, Path], ...] = ()
    """Target and source of what is mounted beside the container's own folder, read-only."""
    place: Path
    """Where the folders of containers are: on the file system of the trial folder."""


def fit_user(folder: Path) -> User:
    """The user that may write the trial folder and whose files the supervisor can delete.

    That is the folder's owner, whose supervisor this is. Root's folder is given to a user without rights.
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
    # a snapshot in the hub's cache holds links into a folder beside it: mount what they lead to
    return {f"{target}/{path.relative_to(model).as_posix()}": path.resolve() for path in files}


def container_arguments(
    need: Need, *, inside: Path, outside: Path, lease: Path, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Arguments of `client.containers.create`.

    Args:
        need: what the trial needs.
        inside: folder that is mounted read-only.
        outside: folder that is mounted writable.
        lease: file that is renewed while somebody waits for the container; in `inside`.
        labels: `run`, and where it is made for one trial, `trial` and `attempt`.
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
        PermissionError: its mode closes it to the user.
    """
    if not _readable(path.stat(), user):
        raise PermissionError(f"{path} may not be read by user {user}, who the container is; chmod a+rX mends it")


def _bind(source: Path, target: str, *, writable: bool) -> dict[str, Any]:
    import docker.types

    mount: dict[str, Any] = docker.types.Mount(target=target, source=str(source), type="bind", read_only=not writable)
    return mount


def _readable(status: os.stat_result, user: User) -> bool:
    """Whether the mode lets a user read a file, or enter and list a folder."""
    needed = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
    return (status.st_mode >> shift) & needed == needed
