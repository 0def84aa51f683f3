"""The environment that computes a trial's numbers on this node, as part of the trial's identity."""

from wtsbench.sandbox.base import Sandbox
from wtsbench.spec.grid import Resources
from wtsbench.spec.provenance import environment_lock


def environment_of(sandbox: Sandbox, resources: Resources) -> str:
    """Sandbox, then image or installed libraries, then `cuda` if trials get a GPU, which decides the precision.

    A plan puts it into its trials; a supervisor compares it with that of its own node.
    """
    device = ":cuda" if resources.gpus else ""
    return f"{sandbox.name}:{sandbox.image_digest or environment_lock()}{device}"
