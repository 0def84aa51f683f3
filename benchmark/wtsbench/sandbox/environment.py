"""The environment variables a trial gets: a short list, so that no token of the user's reaches it."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import wtsbench

_PASSED = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",  # what any program may need
    "LD_LIBRARY_PATH", "CUDA_DEVICE_ORDER", "VIRTUAL_ENV",  # where libraries and devices are
    "WTSBENCH_LEASE_SECONDS",
)  # fmt: skip


def computing_environment(threads: int) -> dict[str, str]:
    """What every sandbox sets: no hub, no telemetry, a fixed number of threads, no GPU yet.

    Args:
        threads: number of threads the trial computes with.
    """
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",  # a trial is told its own when it is started
    }


def process_environment(threads: int) -> dict[str, str]:
    """The whole environment of a process of this node that computes on its processor."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    if path := python_path():
        passed["PYTHONPATH"] = path
    return passed | computing_environment(threads)


def python_path() -> str:
    """`PYTHONPATH` for processes of wtsbench in any folder: absolute, and with its own path if it is no wheel."""
    entries = [str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    root = str(Path(wtsbench.__file__).resolve().parents[1])
    installed = {str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib")}
    if root not in installed and root not in entries:
        entries.insert(0, root)
    return os.pathsep.join(entries)
