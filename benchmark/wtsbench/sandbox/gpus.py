"""GPUs by UUID: index 0 may be another GPU in a container, or after the machine was restarted."""

from __future__ import annotations

import os
import re
import shutil
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
        SandboxError: the driver does not tell the UUID of an index, or the GPU is divided into parts.
    """
    if all(_UUID.match(name) for name in gpus):
        return tuple(gpus)
    gpus_by_index = _gpus_by_index()
    uuids = []
    for name in gpus:
        uuid, divided = (name, False) if _UUID.match(name) else gpus_by_index.get(name, ("", False))
        if not uuid:
            indices = ", ".join(sorted(gpus_by_index)) or "none"
            raise SandboxError(
                f"the cluster assigned GPU {name}, and nvidia-smi lists no such GPU here (it lists {indices})",
                remedy="start Ray on this node with the GPUs that nvidia-smi lists",
            )
        if divided:
            raise SandboxError(
                f"the cluster assigned GPU {name}, which is divided into parts (MIG)",
                remedy="start Ray on this node with CUDA_VISIBLE_DEVICES set to the UUIDs of parts (nvidia-smi -L)",
            )
        uuids.append(uuid)
    return tuple(uuids)


def gpus_here() -> tuple[str, ...]:
    """UUIDs of this machine's GPUs, or those that CUDA_VISIBLE_DEVICES leaves; empty where there is no driver.

    Raises:
        SandboxError: a GPU is divided into parts (MIG), of which CUDA_VISIBLE_DEVICES names none.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and shutil.which("nvidia-smi") is None:
        return ()
    names = list(_gpus_by_index()) if visible is None else [name.strip() for name in visible.split(",")]
    return uuids_of([name for name in names if name not in ("", "-1")])


def cdi_names(about: Mapping[str, Any], uuids: Sequence[str]) -> tuple[str, ...]:
    """The engine's names for GPUs in the Container Device Interface; empty if it does not know them by it.

    Args:
        about: the engine's answer to `GET /info`.
        uuids: of the GPUs.
    """
    devices = {device.get("ID") for device in about.get("DiscoveredDevices") or () if device.get("Source") == "cdi"}
    names = tuple(f"{_CDI}{uuid}" for uuid in uuids)
    return names if devices.issuperset(names) else ()


def _gpus_by_index() -> dict[str, tuple[str, bool]]:
    """By index: UUID, and whether the GPU is divided into parts."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,mig.mode.current", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(
            f"nvidia-smi does not say which GPUs are here: {error}",
            remedy="install the NVIDIA driver with its tools on this node",
        ) from error
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip().splitlines()
        raise SandboxError(f"nvidia-smi does not say which GPUs are here: {output[-1] if output else done.returncode}")
    rows = [[field.strip() for field in line.split(",")] for line in done.stdout.splitlines()]
    return {row[0]: (row[1], row[2] == "Enabled") for row in rows if len(row) == 3}
