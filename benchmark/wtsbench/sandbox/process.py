"""The process sandbox: a trial is a process of its own on this node, forked from a preloaded parent."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from wtsbench.contract.folder import FolderLayout
from wtsbench.errors import SandboxError
from wtsbench.sandbox import log
from wtsbench.sandbox.base import Outcome
from wtsbench.sandbox.fork_server import fork_server_for
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.usage import kernel_kills
from wtsbench.sandbox.watch import ForkedTrial, Limits, stop, watch
from wtsbench.settings import pod_image
from wtsbench.spec.grid import Resources


class ProcessSandbox:
    """Runs trials as processes, with limits on time, memory and disk and a clean environment, but not isolated.

    In a pod whose manifest names its image (`WTSBENCH_POD_IMAGE`), the pod is what stands between trials and the node.
    """

    name: Literal["process"] = "process"

    def __init__(self, *, because: SandboxError | None = None) -> None:
        """Look whether this is a pod.

        Args:
            because: why there are no containers, if the user did not ask for processes.

        Raises:
            SpecError: as `pod_image`.
        """
        image = pod_image()
        place = "node" if image is None else "pod"
        self.image_digest = None if image is None else image.partition("@")[2]
        """Digest of the pod's image in its registry (`sha256:…`), by the manifest's word; None outside a pod."""
        inside = "" if image is None else f", in a pod of the image {image}"
        self.isolation = (
            f"process, forked from a preloaded parent{inside}; network and files of the {place} within reach"
        )
        self.notice = None if because is None else _notice(because, "machine" if image is None else place)

    def run(
        self,
        folder: Path,
        resources: Resources,
        *,
        gpus: Sequence[str],
        cancelled: threading.Event,
        labels: Mapping[str, str],
    ) -> Outcome:
        """Run the trial of a folder to its end; see `Sandbox.run`."""
        trial = FolderLayout(folder.absolute())
        killed_before = kernel_kills()
        limits = Limits(
            seconds=resources.time,
            memory=resources.memory,
            disk=resources.disk,
            places=[trial.outbox, trial.scratch],
            log=trial.log,
        )
        environment = {
            "CUDA_VISIBLE_DEVICES": ",".join(gpus),
            "HOME": str(trial.scratch),
            "TMPDIR": str(trial.scratch),
        }
        with Renewal(trial.lease):
            child = ForkedTrial(
                fork_server_for(resources.cpus),
                trial.path,
                log=trial.log,
                environment=environment,
                file_bytes=resources.disk,
            )
            try:
                outcome = watch(child, limits, cancelled)
            except BaseException:  # mostly Ctrl-C: the trial must not write to its folder after this has returned
                stop(child)
                raise
        if outcome.signal == signal.SIGKILL and not outcome.cancelled and kernel_kills() > killed_before:
            outcome = dataclasses.replace(outcome, oom_killed=True)
        return dataclasses.replace(outcome, log_tail=log.tail(trial.log))

    def close(self) -> None:
        """Nothing to do: the fork server belongs to the whole process, and ends with it."""


def _notice(because: SandboxError, place: str) -> str:
    remedy = f"; {because.remedy.rstrip('.')}" if because.remedy else ""
    return f"{because.message}, so trials run as processes that reach this {place}'s network and files{remedy}."
