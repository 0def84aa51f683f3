"""GPUs by UUID: what a cluster calls 0 may be another one in a container, or after the next start of the machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from wtsbench.errors import SandboxError

_UUID = re.compile(r"^(GPU|MIG)-")
_SECONDS = 30.0
_CDI = "nvidia.com/gpu="


def uuids_of(gpus: Sequence[str]) -> tuple[str, ...]:
    """UUIDs of GPUs that are named by index or by UUID, of whole GPUs or of parts (MIG).

    Raises:
        SandboxError: the driver does not say which GPU has an index, or that GPU is divided into parts.
    """
    if all(_UUID.match(name) for name in gpus):
        return tuple(gpus)
    known = _known()
    found = []
    for name in gpus:
        uuid, divided = (name, False) if _UUID.match(name) else known.get(name, ("", False))
        if not uuid:
            there = ", ".join(sorted(known)) or "none"
            raise SandboxError(
                f"the cluster assigned GPU {name}, and nvidia-smi knows no such GPU here (it knows {there})",
                remedy="start Ray on this node with the GPUs that nvidia-smi lists",
            )
        if divided:
            raise SandboxError(
                f"the cluster assigned GPU {name}, which is divided into parts (MIG)",
                remedy="start Ray on this node with CUDA_VISIBLE_DEVICES set to the UUIDs of parts (nvidia-smi -L)",
            )
        found.append(uuid)
    return tuple(found)


def cdi_names(about: Mapping[str, Any], uuids: Sequence[str]) -> tuple[str, ...]:
    """What an engine that knows these GPUs through the Container Device Interface calls them; empty where it does not.

    Args:
        about: the engine's answer to `GET /info`.
        uuids: of the GPUs.
    """
    known = {device.get("ID") for device in about.get("DiscoveredDevices") or () if device.get("Source") == "cdi"}
    names = tuple(f"{_CDI}{uuid}" for uuid in uuids)
    return names if known.issuperset(names) else ()


def _known() -> dict[str, tuple[str, bool]]:
    """Index to UUID, and whether the GPU is divided into parts."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,mig.mode.current", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(
            f"nvidia-smi does not say which GPUs are here: {error}",
            remedy="install the NVIDIA driver with its tools on this node",
        ) from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise SandboxError(f"nvidia-smi does not say which GPUs are here: {said[-1] if said else done.returncode}")
    rows = [[field.strip() for field in line.split(",")] for line in done.stdout.splitlines()]
    return {row[0]: (row[1], row[2] == "Enabled") for row in rows if len(row) == 3}
