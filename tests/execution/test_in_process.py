"""The executor without a cluster: which GPUs it gives to which job."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.planning.grids import plan_of
from tests.sandbox.test_gpus import UUIDS, driver
from wtsbench.errors import SpecError
from wtsbench.execution import in_process
from wtsbench.execution.in_process import InProcessExecutor
from wtsbench.execution.job import Job, Receipt
from wtsbench.spec.grid import Resources


@pytest.fixture(autouse=True)
def three_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that lists three GPUs, and as many cores as are needed."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    driver(tmp_path, monkeypatch, "printf '" + "".join(f"{n}, {uuid}, [N/A]\\n" for n, uuid in enumerate(UUIDS)) + "'")


@pytest.mark.parametrize(("gpus", "slots", "most"), [(1, 3, 1), (2, 1, 1), (0.5, 6, 2), (0.6, 3, 1), (0.1, 30, 10)])
def test_every_job_has_gpus_of_its_own(gpus: float, slots: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole GPUs are nobody else's, shares never add up to more than one; what a job had is free when it has ended."""
    ends, running = threading.Event(), threading.Semaphore(0)

    def wait_for_end(job: Job, cancelled: threading.Event) -> Receipt:
        running.release()
        ends.wait(30)
        return Receipt(trial_id=job.trial_id, attempt=1, failure=None, seconds=0.0, node=" ".join(job.gpu_ids))

    monkeypatch.setattr(in_process, "supervise", wait_for_end)
    resources = Resources(gpus=gpus)
    executor = InProcessExecutor.of(resources)
    assert executor.slots == slots
    spec = next(iter(plan_of().trials.values()))
    job = Job(spec=spec, labels=("a", "b"), store="", sandbox="process", image=None, resources=resources, run="r")
    for _ in range(2):
        ends.clear()
        for _ in range(slots):
            executor.start(job)
        assert all(running.acquire(timeout=30) for _ in range(slots))
        ends.set()
        receipts: list[Receipt] = []
        while len(receipts) < slots:
            receipts += executor.wait(1.0)
        given = Counter(uuid for receipt in receipts for uuid in (receipt.node or "").split())
        assert set(given) <= set(UUIDS)
        assert max(given.values()) == most
        assert sum(given.values()) == slots * max(1, round(gpus))
    executor.close()


def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """More GPUs than there are, or than CUDA_VISIBLE_DEVICES leaves, are refused before anything runs."""
    with pytest.raises(SpecError, match="asks for 1 CPU, 4 GPU"):
        InProcessExecutor.of(Resources(gpus=4))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert InProcessExecutor.of(Resources(gpus=1)).slots == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SpecError, match="1 GPU"):
        InProcessExecutor.of(Resources(gpus=1))
