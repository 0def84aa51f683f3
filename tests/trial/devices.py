"""The CPU, and a GPU where there is one, for tests that hold on both."""

from __future__ import annotations

import os

import pytest
import torch

from wtsbench.trial.device import Device

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
"""Values of a test's parameter `kind`."""


def device_of(kind: str, dtype: torch.dtype = torch.float32) -> Device:
    """A device that computes the same every time, as `device.set_up` makes it for a whole trial."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return Device(torch_device=torch.device(kind), dtype=dtype, threads=1)
