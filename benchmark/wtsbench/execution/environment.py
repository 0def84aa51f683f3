"""The environment that computes a trial's numbers on this node, as part of the trial's identity."""

from wtsbench.sandbox.base import Sandbox
from wtsbench.spec.grid import Resources
from wtsbench.spec.provenance import environment_lock


def environment_of(sandbox: Sandbox, resources: Resources) -> str:
    """Sandbox, then image, then installed libraries, then `cuda` if trials get a GPU, which decides the precision.

    A container's image id stands for its libraries. A pod's image is what its manifest says, and may be for several
    platforms: there the libraries and the machine that are found stand beside it.

    A plan puts it into its trials; a supervisor compares it with that of its own node.
    """
    parts = [sandbox.name, sandbox.image_digest, None if sandbox.name == "docker" else environment_lock()]
    return ":".join([*filter(None, parts), *(["cuda"] if resources.gpus else [])])
