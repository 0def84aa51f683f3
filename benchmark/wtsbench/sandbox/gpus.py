"""GPUs by UUID: what a cluster calls 0 may be another one in a container, or after the next start of the machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from wtsbench.errors import SandboxError

_UUID = re.compile(r"^(GPU|MIG)-")
_SECONDS = 30.0


def uuids_of(gpus: Sequence[str]) -> tuple[str, ...]:
    """UUIDs of GPUs that are named by index or by UUID, of whole GPUs or of parts (MIG).

    Raises:
        SandboxError: the driver does not say which GPU has an index.
    """
    if all(_UUID.match(name) for name in gpus):
        return tuple(gpus)
    known = _known()
    missing = [name for name in gpus if not _UUID.match(name) and name not in known]
    if missing:
        there = ", ".join(sorted(known)) or "none"
        raise SandboxError(
            f"the cluster assigned GPU {missing[0]}, and nvidia-smi knows no such GPU here (it knows {there})",
            remedy="start Ray on this node with as many GPUs as nvidia-smi lists",
        )
    return tuple(name if _UUID.match(name) else known[name] for name in gpus)


def _known() -> dict[str, str]:
    """Index to UUID."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(
            f"nvidia-smi does not say which GPUs are here: {error}",
            remedy="install the NVIDIA driver's tools on this node",
        ) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SandboxError(f"nvidia-smi does not say which GPUs are here: {said[-1] if said else done.returncode}")
    rows = [line.split(",") for line in done.stdout.splitlines() if "," in line]
    return {index.strip(): uuid.strip() for index, uuid in rows}
