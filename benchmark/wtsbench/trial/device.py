"""Where a trial computes, and in what precision: what the job allows and the hardware has."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wtsbench.spec.provenance import cpu_name
from wtsbench.spec.training import Training
from wtsbench.spec.trial import TrialJob
from wtsbench.trial.faults import NoDeviceError

_CACHED_STATES, _LEAST_TOKENS = 1 << 17, 256


@dataclass(frozen=True, kw_only=True)
class Device:
    """Device and precision of one trial."""

    torch_device: torch.device
    dtype: torch.dtype
    """Of the forward pass; weights and optimiser state stay float32."""
    threads: int

    @property
    def name(self) -> str:
        """What the hardware calls itself."""
        if self.torch_device.type == "cuda":
            return str(torch.cuda.get_device_name(self.torch_device))
        return cpu_name()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context of a forward pass."""
        if self.dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.torch_device.type, dtype=self.dtype)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """The context of a fit, in which the same gradients come out every time.

        On GPUs, attention sums them in one order only where an operation without a fixed order is an error and not a
        warning: a loss that has one ends the trial, which could not be repeated.
        """
        strict = self.torch_device.type == "cuda"
        if strict:
            torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            if strict:
                torch.use_deterministic_algorithms(True, warn_only=True)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """The context of forward passes that nothing is learned from.

        Weights that train are cast to the precision once for all of them; torch's `inference_mode`, or a context for
        each pass, would cast them every time, which takes longer than writing a token with them.
        """
        with torch.no_grad(), self.autocast():
            yield

    def put(self, values: torch.Tensor) -> torch.Tensor:
        """The values on the device. Where that is a GPU they get there through pinned memory, in their turn.

        A plain `to` from ordinary memory waits until the GPU has computed all that it was given before.
        """
        if self.torch_device.type != "cuda":
            return values.to(self.torch_device)
        return values.pin_memory().to(self.torch_device, non_blocking=True)

    def tokens_at_once(self, width: int) -> int | None:
        """Tokens of a forward pass whose states stay in a CPU's cache, for a model of this hidden size; None on GPUs.

        Measured on an AMD EPYC: models of width 64 to 768 predict fastest with about 2 MiB for the widest layer's
        states (4 times the hidden size), and up to 1.6 times slower with 64 items of 70 tokens.
        """
        if self.torch_device.type == "cuda":
            return None
        return max(_LEAST_TOKENS, _CACHED_STATES // width) * self.threads

    def cache_bytes(self) -> int:
        """What models may remember of a batch of texts: an eighth of a trial's share of its GPU.

        On CPUs half a GiB, with which larger models write fewer texts side by side; more of them were no faster.
        """
        if self.torch_device.type != "cuda":
            return 1 << 29
        share = torch.cuda.get_per_process_memory_fraction(self.torch_device)
        return int(torch.cuda.get_device_properties(self.torch_device).total_memory * share) // 8

    def peak_memory_bytes(self) -> int:
        """Most memory used so far: of the GPU where there is one, else of this process."""
        if self.torch_device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.torch_device))
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def set_up(job: TrialJob) -> Device:
    """Make this process deterministic and pick the device. To be called once, before anything is computed.

    Raises:
        NoDeviceError: the job asks for a GPU and there is none.
    """
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # missing in torch's stubs
    torch.set_flush_denormal(True)  # second moments near 0 double the time of an optimiser step on some CPUs
    if not job.gpus:
        return Device(torch_device=torch.device("cpu"), dtype=_cpu_dtype(job.spec.training), threads=job.threads)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # else cuBLAS may sum in another order from run to run
    if not torch.cuda.is_available():
        raise NoDeviceError("the trial asks for a GPU, and torch sees none in its sandbox")
    torch.backends.cudnn.benchmark = False
    torch.cuda.set_per_process_memory_fraction(min(1.0, job.gpus))  # who needs more fails, and not its neighbour
    return Device(torch_device=torch.device("cuda", 0), dtype=_gpu_dtype(job.spec.training), threads=job.threads)


def seed_all(seed: int, *purpose: object) -> None:
    """Seed every random generator for one purpose, independent of what was drawn before."""
    derived = derive(seed, *purpose)
    random.seed(derived)
    np.random.seed(derived % 2**32)
    torch.manual_seed(derived)


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose; seeds of different purposes are unrelated."""
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def _cpu_dtype(training: Training) -> torch.dtype:
    # CPUs emulate half precision far slower than float32 unless they have special units, so `auto` never takes it.
    return torch.float32 if training.precision == "auto" else _dtype(training.precision)


def _gpu_dtype(training: Training) -> torch.dtype:
    if training.precision != "auto":
        return _dtype(training.precision)
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype
