"""What a trial's container may see and do. Pure: trial folder and limits in, arguments of the engine's API out."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtsbench.sandbox.engine import node
from wtsbench.sandbox.environment import computing_environment
from wtsbench.sandbox.lease import lease_seconds

INSIDE = "/trial"
"""Where the trial folder is in the container."""
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


def fit_user(folder: Path) -> User:
    """The user that may write the trial folder and whose files the supervisor can delete.

    That is the folder's owner, whose supervisor this is. Root's folder is given to a user without rights.

    Raises:
        OSError: the folder cannot be given away.
    """
    owner = folder.stat()
    if owner.st_uid != 0:
        return User(uid=owner.st_uid, gid=owner.st_gid)
    user = User(uid=FALLBACK_USER, gid=FALLBACK_USER)
    for path in (folder / "spec.json", folder / "lease", *(folder / name for name in ("inputs", "outbox", "scratch"))):
        os.chown(path, user.uid, user.gid)
        if path.is_dir():
            for inner in path.rglob("*"):
                os.chown(inner, user.uid, user.gid, follow_symlinks=False)
    return user


def mounts(folder: Path, user: User) -> list[dict[str, Any]]:
    """Bind mounts of a trial folder: outbox and scratch writable, everything else read-only.

    Raises:
        PermissionError: a file or folder of the model is closed to the container's user.
    """
    found = [_bind(folder / name, f"{INSIDE}/{name}", writable=False) for name in ("spec.json", "inputs", "lease")]
    found += [_bind(folder / name, f"{INSIDE}/{name}", writable=True) for name in ("outbox", "scratch")]
    for name in ("model", "reference"):
        if (folder / name).exists():
            found += _model_mounts((folder / name).resolve(strict=True), f"{INSIDE}/{name}", user)
    return found


def _model_mounts(model: Path, target: str, user: User) -> list[dict[str, Any]]:
    inner = sorted(model.rglob("*"))
    for path in (model, *inner):
        if not _readable(path.stat(), user):
            raise PermissionError(f"{path} may not be read by user {user}, who the container is; chmod a+rX mends it")
    files = [path for path in inner if path.is_file()]
    if all(path.resolve().is_relative_to(model) for path in files):
        return [_bind(model, target, writable=False)]
    # a snapshot in the hub's cache holds links into a folder beside it: mount what they lead to
    return [_bind(path.resolve(), f"{target}/{path.relative_to(model).as_posix()}", writable=False) for path in files]


def container_arguments(
    folder: Path,
    user: User,
    *,
    image: str,
    threads: int,
    gpus: Sequence[str],
    memory: int | None,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Arguments of `client.containers.create` for the trial of a folder; for the parameters see `Sandbox.run`."""
    import docker.types

    arguments: dict[str, Any] = {
        "image": image,
        "command": [INSIDE],
        "labels": {
            RUN_LABEL: labels.get("run", ""),
            TRIAL_LABEL: labels.get("trial", ""),
            ATTEMPT_LABEL: labels.get("attempt", ""),
            NODE_LABEL: node(),
            LEASE_LABEL: str(folder / "lease"),
            OWNER_LABEL: str(os.getuid()),
            LEASE_SECONDS_LABEL: f"{lease_seconds():g}",
        },
        "user": str(user),
        "mounts": mounts(folder, user),
        "environment": {
            **computing_environment(threads),
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
        "pids_limit": PIDS,
        "shm_size": SHARED_MEMORY,
        "ulimits": [
            docker.types.Ulimit(name="core", soft=0, hard=0),
            docker.types.Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES),
            docker.types.Ulimit(name="nproc", soft=PROCESSES, hard=PROCESSES),
        ],
        "log_config": docker.types.LogConfig(type="json-file", config=LOG_DRIVER),
    }
    if memory is not None:
        arguments |= {"mem_limit": memory, "memswap_limit": memory}
    if gpus:
        arguments["device_requests"] = [docker.types.DeviceRequest(device_ids=list(gpus), capabilities=[["gpu"]])]
        del arguments["environment"]["CUDA_VISIBLE_DEVICES"]  # only those of the request are in the container
    return arguments


def _bind(source: Path, target: str, *, writable: bool) -> dict[str, Any]:
    import docker.types

    mount: dict[str, Any] = docker.types.Mount(target=target, source=str(source), type="bind", read_only=not writable)
    return mount


def _readable(status: os.stat_result, user: User) -> bool:
    """Whether the mode lets a user read a file, or enter and list a folder."""
    needed = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
    return (status.st_mode >> shift) & needed == needed
