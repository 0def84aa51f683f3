"""What computes a trial's numbers here, as part of its identity."""

from wtsbench.sandbox.base import Sandbox
from wtsbench.spec.grid import Resources
from wtsbench.spec.provenance import environment_lock


def environment_of(sandbox: Sandbox, resources: Resources) -> str:
    """Sandbox, then image or installed libraries, then `cuda` where the trial is given a GPU: precision follows it.

    A plan puts it into its trials; a supervisor holds its own node against it.
    """
    device = ":cuda" if resources.gpus else ""
    return f"{sandbox.name}:{sandbox.image_digest or environment_lock()}{device}"
