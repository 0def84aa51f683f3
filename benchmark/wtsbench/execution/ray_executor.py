"""The executor on Ray: each supervisor is a Ray task. Ray places tasks; the scheduler retries them, never Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import pickle
import platform
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any

import ray
import ray.exceptions

from wtsbench.errors import ClusterError, UserError
from wtsbench.execution.events import LeftOut
from wtsbench.execution.fitting import fitting, misfit
from wtsbench.execution.job import Job, Receipt
from wtsbench.execution.known import done_trials
from wtsbench.execution.node_answers import Question
from wtsbench.execution.preflight import LateCheck, Survey, admitted, this_machine
from wtsbench.execution.ray_access import settled
from wtsbench.execution.ray_health import Health, end_with_parent
from wtsbench.execution.supervise import seal_lost, supervise
from wtsbench.settings import patience_seconds
from wtsbench.spec.failure import Failure, FailureClass
from wtsbench.spec.grid import Resources
from wtsbench.store.client import open_store
from wtsbench.visible import first_line

_NODE_LABEL = "ray.io/node-id"
"""A label that Ray gives every node."""
_looked = threading.Event()
"""In a worker: its node can run the trials of the job that the worker is of."""
_COUNT_SECONDS = 5.0
"""Between two counts of the nodes: asking a GCS that has just died blocks until Ray ends this process."""


class RayExecutor:
    """Runs jobs as Ray tasks on a cluster, or on a local Ray that lives as long as the executor."""

    def __init__(
        self,
        address: str | None,
        resources: Resources,
        question: Question | None = None,
        *,
        autoscale: bool = False,
    ) -> None:
        """Connect to the cluster at `address`, or start Ray here.

        Args:
            address: None starts Ray here.
            resources: of one trial.
            question: what every node is asked before it gets trials; those that would fail them get none. None asks
                nothing. A node that joins later is asked by each of its workers, before their first trials.
            autoscale: the cluster adds nodes where tasks wait, so give it more of them than its nodes can run now.

        Raises:
            ClusterError: no cluster answers at the address, or Ray cannot be started, or no node is large enough, or
                none of those that are can run the trials.
        """
        self._resources = resources
        self._autoscale = autoscale
        self._labels = {} if address is None else resources.labels
        self._tasks: dict[Any, Job] = {}
        self._stopping = False
        self._slots, self._counted = 1, -math.inf
        self.left_out: tuple[LeftOut, ...] = ()
        """Nodes that get no trials, because they would fail them."""
        self._aside: set[str] = set()
        with contextlib.ExitStack() as connection:
            connection.enter_context(connected(address))
            self._task = ray.remote(max_retries=0, max_calls=0)(_task())
            self._health = None if (address or "").startswith("ray://") else Health.here(local=address is None)
            if not autoscale:
                self._check_fits()
            self.cluster = None if address is None else ray.get_runtime_context().gcs_address
            asked: frozenset[str] = frozenset()
            if question is not None and misfit(self._offers(), resources) is None:
                survey = admitted(question, resources)
                self._leave_out(survey)
                asked = frozenset(node.id for node in survey.nodes)
            check = None if question is None else LateCheck(question=question, here=this_machine(), asked=asked)
            self._late_check = ray.put(pickle.dumps(check))
            self._connection = connection.pop_all()

    def _leave_out(self, survey: Survey) -> None:
        self.left_out = tuple(
            LeftOut(node=node.name, why="; ".join(fault.found for fault in survey.why(node))) for node in survey.failing
        )
        self._aside = {node.id for node in survey.failing}

    def _check_fits(self) -> None:
        fault = misfit(self._offers(), self._resources)
        if fault is not None and self._labels:
            fault += f" on nodes with the labels {_words(self._labels)}"
        if fault is not None:
            raise ClusterError(fault, remedy="lower `resources` in the grid, or use larger nodes.")

    def _offers(self, *, without: Collection[str] = ()) -> list[dict[str, float]]:
        """What each living node offers that trials may run on, by resource; memory in bytes.

        Args:
            without: ids of nodes that are left out.
        """
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        living = [node for node in nodes if node["Alive"] and node["NodeID"] not in without]
        return [node["Resources"] for node in living if self._labels.items() <= node.get("Labels", {}).items()]

    @property
    def slots(self) -> int:
        """Jobs that fit on the cluster's nodes as they were a few seconds ago; twice as many where it may grow.

        Raises:
            ClusterError: the cluster has died.
        """
        answers = self._health is None or self._health.answers()
        if answers and time.monotonic() - self._counted > _COUNT_SECONDS:
            self._counted = time.monotonic()
            fit = max(1, sum(fitting(node, self._resources) for node in self._offers(without=self._aside)))
            self._slots = 2 * fit if self._autoscale else fit
        return self._slots

    def start(self, job: Job) -> None:
        """Hand the job to Ray."""
        options: dict[str, Any] = {"num_cpus": job.resources.cpus, "name": f"trial-{job.trial_id[:12]}"}
        if job.resources.gpus:
            options["num_gpus"] = job.resources.gpus
        if job.resources.memory:
            options["memory"] = job.resources.memory
        selector = dict(self._labels)
        if self._aside:
            selector[_NODE_LABEL] = f"!in({','.join(sorted(self._aside))})"
        if selector:
            options["label_selector"] = selector
        self._tasks[self._task.options(**options).remote(pickle.dumps(job), self._late_check)] = job

    def wait(self, timeout: float) -> list[Receipt]:
        """Receipts of the tasks that ended; a lost worker is a failure of class `infrastructure`.

        Raises:
            ClusterError: the cluster has died. Ray would not report it, and wait.
        """
        if not self._tasks:
            return []
        if self._health is not None:
            self._health.answers()
        ready, _ = ray.wait(list(self._tasks), num_returns=1, timeout=timeout)
        if ready:  # take all others that are ready, too
            ready, _ = ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        return [self._receipt(reference, self._tasks.pop(reference)) for reference in ready]

    def _receipt(self, reference: Any, job: Job) -> Receipt:
        try:
            came = ray.get(reference)
            if isinstance(came, Receipt):
                return came
            node, host, why = came
            return _refused(job, why, node, host)
        except ray.exceptions.TaskCancelledError:
            return _ended_without_receipt(job, FailureClass.CANCELLED, "stopped by the user")
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, UserError):
                raise cause from None
            if self._stopping and isinstance(cause, KeyboardInterrupt):
                return _ended_without_receipt(job, FailureClass.CANCELLED, "stopped by the user")
            if isinstance(cause, Exception):  # Ray's wrapper has the message only inside a traceback
                raise cause from error
            raise
        except ray.exceptions.OutOfMemoryError as error:
            return _ended_without_receipt(job, FailureClass.OUT_OF_MEMORY, first_line(error))
        except ray.exceptions.RayError as error:
            return _ended_without_receipt(job, FailureClass.INFRASTRUCTURE, f"lost its worker: {first_line(error)}")

    def avoid(self, node: str) -> bool:
        """Start nothing on a node any more, by its id in Ray; False where no other would be left."""
        aside = self._aside | {node}
        if not any(fitting(offer, self._resources) for offer in self._offers(without=aside)):
            return False
        self._aside, self._counted = aside, -math.inf
        return True

    def cancel(self) -> None:
        """Interrupt all tasks; each seals its attempt as cancelled."""
        self._stopping = True
        for reference in self._tasks:
            ray.cancel(reference, force=False)

    def close(self) -> None:
        """Leave the cluster; a local Ray ends with it."""
        self._connection.close()


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect this process to the cluster at an address, or start Ray here (None), until the end of the block.

    Raises:
        ClusterError: no cluster answers at the address, or Ray cannot be started.
    """
    if address is not None and address.startswith(("http://", "https://")):
        raise ClusterError(
            f"{address} is the address of a dashboard, which takes detached runs alone",
            remedy="add --detach, or name the cluster by its head: --ray HOST:6379.",
        )
    with settled(address):
        _connect(address)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(address: str | None) -> None:
    # Ray's processes are children of this one, in its terminal. A terminal that closes would end them with SIGHUP, and
    # the trials too, which this process wants to end cleanly. They inherit the signals blocked here.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError, ray.exceptions.RayError) as error:
        where = f"the Ray cluster at {address} cannot be used" if address else "Ray could not be started here"
        raise ClusterError(
            f"{where}: {error}",
            remedy="check --ray / RAY_ADDRESS, or run without a cluster with --executor in-process.",
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _task() -> Callable[[bytes, bytes], Receipt | tuple[str, str, str]]:
    """The Ray task. Results go to the store, only a small receipt comes back.

    Ray sends the code of an inner function along, and leaves bytes as they are: so a node that joins the cluster with
    another wtsbench, or none, can say so. It answers with its id, its name and what is wrong.
    """

    def run(job: bytes, check: bytes) -> Receipt | tuple[str, str, str]:
        import pickle
        import platform

        import ray

        try:
            from wtsbench.execution.ray_executor import run_on_node

            given = pickle.loads(job), pickle.loads(check)  # noqa: S301  # as Ray would
        except Exception as error:  # noqa: BLE001  # whatever is wrong with an installation
            fault = f"its wtsbench cannot be used: {type(error).__name__}: {error}"
            return ray.get_runtime_context().get_node_id(), platform.node(), fault
        return run_on_node(*given)

    return run


def run_on_node(job: Job, check: LateCheck | None) -> Receipt:
    """Run a job in this worker of Ray.

    Args:
        job: to be run.
        check: of this node, if it joined after the others had been asked.
    """
    _end_with_raylet()
    node, host = ray.get_runtime_context().get_node_id(), platform.node()
    refused = None if check is None else _refusal(check, job)
    if refused is not None:
        return _refused(job, refused, node, host)
    gpu_ids = tuple(str(gpu) for gpu in ray.get_gpu_ids())
    receipt = supervise(dataclasses.replace(job, gpu_ids=gpu_ids), threading.Event())
    return dataclasses.replace(receipt, node=node, host=host)


def _refused(job: Job, why: str, node: str, host: str) -> Receipt:
    return Receipt(trial_id=job.trial_id, attempt=None, failure=None, seconds=0.0, refused=why, node=node, host=host)


def _refusal(check: LateCheck, job: Job) -> str | None:
    """Why this node runs none of these trials; one that was found good is not looked at again by this worker."""
    if _looked.is_set():
        return None
    refused = check.refusal(job.resources)
    if refused is None:
        _looked.set()
    return refused


@cache
def _end_with_raylet() -> None:
    """Called once in each worker, which serves many tasks."""
    end_with_parent()


def _ended_without_receipt(job: Job, failure_class: FailureClass, message: str) -> Receipt:
    """Seal the attempts that a lost worker left open, so that the failure is in the store like any other."""
    failure = Failure(failure_class=failure_class, message=message)
    store = open_store(job.store, wait=patience_seconds())
    attempts = store.attempts([job.trial_id])
    last: int | None = None
    for attempt, run in zip(attempts["attempt"].to_pylist(), attempts["run"].to_pylist(), strict=True):
        if run == job.run:
            last = attempt
            if not store.sealed(job.trial_id, attempt):
                seal_lost(store, job, attempt, failure)
    done = bool(done_trials(store, [job.trial_id]))  # it had finished before its worker was lost
    return Receipt(trial_id=job.trial_id, attempt=last, failure=None if done else failure, seconds=0.0)


def _words(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
