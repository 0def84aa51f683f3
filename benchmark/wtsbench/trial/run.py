"""A trial from its folder to its records: the main path, to be read from top to bottom.

1. read what is asked for (`spec.json`, `inputs/`), and see that the weights are those of the plan;
2. by the task's form, `classification.run` or `generation.run`: load the pretrained model; train it on ground truth
   (weak supervisors and ceilings) or as the strategy says, on the parents' labels (students); predict or generate on
   transfer, validation and the test sets; write all that to the outbox;
3. last of all, write `result.json`.
"""

from __future__ import annotations

import platform
import time
import traceback
from pathlib import Path

import numpy as np
import torch
import transformers

from wtsbench.contract.folder import ExitCode
from wtsbench.contract.measurements import Measurements, TrialResult
from wtsbench.contract.outbox import Outbox
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.trial import TRAIN_SPLIT, Split, TrialJob
from wtsbench.trial import classification
from wtsbench.trial.attempt import Trial
from wtsbench.trial.device import Device, set_up
from wtsbench.trial.faults import failure_of
from wtsbench.trial.folder import TrialFolder, TrialInputError
from wtsbench.trial.weights import Weights

ALWAYS_THERE = (Split.TRANSFER, Split.VALIDATION, Split.TEST)
"""The predicted splits that every task has."""


def run_folder(path: Path) -> int:
    """Run the trial of a folder and write its result; 0 done, 1 failed, 70 where no result could be written."""
    folder = TrialFolder(path)
    outbox: Outbox | None = None
    measured: list[Measurements] = []
    failure: Failure | None = None
    try:
        job = folder.job()
        outbox = Outbox(folder.outbox, trial_id=job.trial_id, attempt=job.attempt)
        _run(folder, job, outbox, measured)
    except Exception as error:  # noqa: BLE001  # whatever it is becomes the failure of this attempt, with its class
        traceback.print_exc()
        failure = failure_of(error)
        if (gone := folder.gone()) is not None:
            words = f"{gone} is gone: was the cache deleted while the trial ran? ({failure.message})"
            failure = failure.model_copy(update={"failure_class": FailureClass.INFRASTRUCTURE, "message": words})
    try:
        folder.write_result(
            TrialResult(
                status="done" if failure is None else "failed",
                last_sequence=outbox.last_sequence if outbox is not None else 0,
                failure=failure,
                measurements=Measurements.together(measured),
            )
        )
    except OSError:
        traceback.print_exc()
        return ExitCode.NO_RESULT
    return ExitCode.DONE if failure is None else ExitCode.FAILED


def preload() -> None:
    """Import what a trial imports on its way; for a process that will fork."""
    import torch.amp.grad_scaler
    import torch.optim.adamw  # noqa: F401

    import wtsbench.trial.generation  # noqa: F401


def _run(folder: TrialFolder, job: TrialJob, outbox: Outbox, measured: list[Measurements]) -> None:
    spec = job.spec
    device = set_up(job)
    setting = _setting(job, device)
    measured.append(setting)
    items = folder.items()
    for split in (TRAIN_SPLIT[spec.role], *ALWAYS_THERE):
        if split not in items:
            raise TrialInputError(f"there is no item of split {split.value}")
    _say(f"{spec.role.value} {spec.task} {spec.model.name} seed {spec.seed} on {device.name}, {setting.dtype}")
    read = [Weights(folder.model, spec.model)]
    measured.append(Measurements(weights_sha256=read[0].sha256))
    if spec.reference is not None:
        read.append(Weights(folder.reference, spec.reference))
        measured.append(Measurements(reference_sha256=read[1].sha256))
    trial = Trial(folder=folder, job=job, items=items, device=device, outbox=outbox, measured=measured)
    if spec.form == "generation":
        from wtsbench.trial import generation  # the other form needs none of it

        generation.run(trial)
    else:
        classification.run(trial)
    for weights in read:
        weights.require_unchanged()
    measured.append(Measurements(peak_memory_bytes=device.peak_memory_bytes()))
    told = Measurements.together(measured)
    _say(
        f"done: loss {told.initial_loss:.4f} to {told.final_loss:.4f} in {told.steps} steps"
        if told.steps
        else "done: nothing was trained"
    )


def _setting(job: TrialJob, device: Device) -> Measurements:
    return Measurements(
        device=device.torch_device.type,
        device_name=device.name,
        dtype=str(device.dtype).removeprefix("torch."),
        threads=device.threads,
        batch_size=job.spec.training.batch_size,
        python=platform.python_version(),
        torch=str(torch.__version__),
        transformers=transformers.__version__,
        numpy=np.__version__,
    )


def _say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)
