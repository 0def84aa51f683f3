"""Whether an engine made a container as it was asked to: some leave out what they cannot do, without an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAME = {
    "mem_limit": "Memory",
    "memswap_limit": "MemorySwap",
    "pids_limit": "PidsLimit",
    "network_mode": "NetworkMode",
    "read_only": "ReadonlyRootfs",
    "shm_size": "ShmSize",
}
"""Argument of the client to field of the engine's answer."""
_NAMESPACES = {"PidMode": "process", "IpcMode": "IPC", "UTSMode": "UTS", "UsernsMode": "user"}
"""Field of the engine's answer that says whose namespace a container is in, to the kind of namespace."""


def not_granted(arguments: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[str]:
    """What was asked for and a created container lacks, a phrase each; empty if it is as it should be.

    Args:
        arguments: of `containers.create`, as `container_arguments` makes them.
        attributes: the engine's description of the container (`GET /containers/ID/json`).
    """
    host, config = attributes["HostConfig"], attributes["Config"]
    lacking = [
        f"{name} {arguments[argument]} ({name} is {host.get(name)})"
        for argument, name in _SAME.items()
        if argument in arguments and host.get(name) != arguments[argument]
    ]
    if config.get("User") != arguments["user"]:
        lacking.append(f"user {arguments['user']} (it is {config.get('User') or 'root'})")
    if not host.get("CapDrop"):
        lacking.append("dropped capabilities")
    if host.get("Privileged") or host.get("CapAdd"):
        lacking.append("no privileges beyond the usual")
    options = host.get("SecurityOpt") or ()
    if not any("no-new-privileges" in option for option in options):
        lacking.append("no-new-privileges")
    if any("unconfined" in option for option in options):
        lacking.append("the engine's confinement")
    lacking += [f"{kind} namespace of its own" for name, kind in _NAMESPACES.items() if host.get(name) == "host"]
    limits = {(_plain(limit["Name"]), limit["Soft"], limit["Hard"]) for limit in host.get("Ulimits") or ()}
    for limit in arguments["ulimits"]:
        if (limit["Name"], limit["Soft"], limit["Hard"]) not in limits:
            lacking.append(f"the limit {limit['Name']} of {limit['Hard']}")
    for target, asked in arguments["tmpfs"].items():
        granted = (host.get("Tmpfs") or {}).get(target, "").split(",")
        lacking += [f"{option} for {target}" for option in asked.split(",") if option not in granted]
    writable = {mount["Destination"]: mount.get("RW", True) for mount in attributes.get("Mounts") or ()}
    for mount in arguments["mounts"]:
        target = mount["Target"]
        if target not in writable:
            lacking.append(f"a mount at {target}")
        elif mount.get("ReadOnly") and writable[target]:
            lacking.append(f"a read-only {target} (it is writable)")
    return lacking


def _plain(limit: str) -> str:
    """Podman says RLIMIT_NOFILE where Docker says nofile."""
    return limit.removeprefix("RLIMIT_").lower()
