"""An executor of fake trials, whose nodes are processes of `cluster_nodes`."""

from __future__ import annotations

from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from tests.performance.cluster_nodes import Setting, Tally, serve
from wtsbench.errors import StoreError
from wtsbench.execution.job import Job, Receipt

_PROCESSES = 4


class FakeCluster:
    """An executor of fake trials, as `scheduler.Executor` has it; this side does about what a driver of Ray does."""

    cluster = "fake"

    def __init__(self, slots: int, setting: Setting) -> None:
        """Start the nodes.

        Args:
            slots: of all nodes.
            setting: how trials are.
        """
        self.slots = slots
        self.tallies: list[Tally] = []
        """What each node did, once the cluster is closed."""
        self._running: dict[Connection, set[str]] = {}
        self._processes = []
        context = get_context("spawn")  # gRPC does not survive a fork
        for _ in range(min(_PROCESSES, slots)):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, setting))
            process.start()
            theirs.close()
            self._processes.append(process)
            self._running[ours] = set()

    def start(self, job: Job) -> None:
        """Send the job to the node with the fewest."""
        node = min(self._running, key=lambda pipe: len(self._running[pipe]))
        self._running[node].add(job.trial_id)
        node.send(job)

    def wait(self, timeout: float) -> list[Receipt]:
        """Receipts of the jobs that ended."""
        receipts: list[Receipt] = []
        for pipe in wait(list(self._running), timeout):
            assert isinstance(pipe, Connection)
            while pipe.poll():
                told = pipe.recv()
                if isinstance(told, str):
                    raise StoreError(f"a fake node failed: {told}")
                self._running[pipe].discard(told.trial_id)
                receipts.append(told)
        return receipts

    def avoid(self, node: str) -> bool:
        """Nodes do not fail."""
        return False

    def cancel(self) -> None:
        """Nobody stops this run."""
        raise NotImplementedError

    def close(self) -> None:
        """End the nodes, and take their tallies."""
        for pipe, process in zip(self._running, self._processes, strict=True):
            if not self._running[pipe]:
                pipe.send(None)
                self.tallies.append(pipe.recv())
            else:  # an error ended the run
                process.terminate()
            pipe.close()
            process.join()
