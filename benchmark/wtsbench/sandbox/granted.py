"""Whether an engine made a container as it was asked to. Some leave out what they cannot do, and say nothing."""

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
"""Argument of the client, and what the engine calls it."""
_NAMESPACES = {"PidMode": "process", "IpcMode": "IPC", "UTSMode": "UTS", "UsernsMode": "user"}
"""What the engine calls whose namespace it is, and what it is of."""


def not_granted(arguments: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[str]:
    """What a created container lacks of what was asked for, a phrase each; empty where all is as it should be.

    Args:
        arguments: of `containers.create`.
        attributes: the engine's description of the container (`GET /containers/ID/json`).
    """
    host, config = attributes["HostConfig"], attributes["Config"]
    lacking = [
        f"{name} {arguments[asked]} ({name} is {host.get(name)})"
        for asked, name in _SAME.items()
        if asked in arguments and host.get(name) != arguments[asked]
    ]
    if "user" in arguments and config.get("User") != arguments["user"]:
        lacking.append(f"user {arguments['user']} (it is {config.get('User') or 'root'})")
    if arguments.get("cap_drop") and not host.get("CapDrop"):
        lacking.append("dropped capabilities")
    if host.get("Privileged") or host.get("CapAdd"):
        lacking.append("no privileges beyond the usual")
    if arguments.get("security_opt") and not any("no-new-privileges" in one for one in host.get("SecurityOpt") or ()):
        lacking.append("no-new-privileges")
    if any("unconfined" in one for one in host.get("SecurityOpt") or ()):
        lacking.append("the engine's confinement")
    lacking += [f"{kind} namespace of its own" for name, kind in _NAMESPACES.items() if host.get(name) == "host"]
    limits = {(_plain(one["Name"]), one["Soft"], one["Hard"]) for one in host.get("Ulimits") or ()}
    for one in arguments.get("ulimits", ()):
        if (one["Name"], one["Soft"], one["Hard"]) not in limits:
            lacking.append(f"the limit {one['Name']} of {one['Hard']}")
    for target, options in arguments.get("tmpfs", {}).items():
        given = (host.get("Tmpfs") or {}).get(target, "").split(",")
        lacking += [f"{option} for {target}" for option in options.split(",") if option not in given]
    made = {one["Destination"]: one.get("RW", True) for one in attributes.get("Mounts") or ()}
    for mount in arguments.get("mounts", ()):
        target = mount["Target"]
        if target not in made:
            lacking.append(f"a mount at {target}")
        elif mount.get("ReadOnly") and made[target]:
            lacking.append(f"a read-only {target} (it is writable)")
    return lacking


def _plain(limit: str) -> str:
    """Podman says RLIMIT_NOFILE where Docker says nofile."""
    return limit.removeprefix("RLIMIT_").lower()
