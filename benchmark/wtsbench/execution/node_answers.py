"""What a node of a cluster is asked, and the form of its answer: plain data, which Ray carries as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from wtsbench.execution.judging import ScorerPlace
from wtsbench.models.fetch import Standing
from wtsbench.spec.frozen import Frozen
from wtsbench.spec.trial import ModelRef

About = Literal[
    "answer", "python", "wtsbench", "libraries", "image", "strategies", "store", "disk", "memory", "gpu", "clock",
    "models", "scorers",
]  # fmt: skip
"""What a fault is about."""


class Question(Frozen):
    """What the nodes are asked: whether these trials could run there."""

    sandbox: Literal["process", "docker"]
    image: str | None = None
    """Id of the trials' image; None for the process sandbox."""
    image_reference: str | None = None
    """`repo@sha256:…` of that image, if a registry has it."""
    environment: str
    """What the trials are planned for: `sandbox.base.environment_of`."""
    gpus: float = 0
    """GPUs of one trial."""
    gpu_memory: int = 0
    """Bytes that the largest trial needs on its GPU, by estimate; 0 if nothing is known."""
    memory: int | None = None
    """Bytes of one trial; None where the grid does not say."""
    store: str
    """Absolute address."""
    store_file: tuple[int, int] | None = None
    """Device and inode of a folder store's database, as the asking machine sees it; None where there is none yet."""
    named_spool: str | None = None
    """As in a job: for nodes that have no setting of their own."""
    grid: str | None = None
    """Name of the grid; None where no grid is asked about."""
    models: tuple[ModelRef, ...] = ()
    strategies: tuple[str, ...] = ()
    """Packages of others that trials need, as `name==version`."""
    scorers: tuple[ScorerPlace, ...] = ()
    thorough: bool = True
    """Whether to ask hub and registry as well, and to read models; otherwise only what takes a moment."""


class Gpu(Frozen):
    """An NVIDIA GPU, as its driver tells it."""

    name: str
    driver: str
    """Version."""
    memory: int
    """Bytes."""


class Disk(Frozen):
    """The file system of a folder that trials need, whether the folder is there or not."""

    path: str
    free: int
    """Bytes."""
    writable: bool


class StoreAccess(Frozen):
    """The store as a node reaches it."""

    token: str | None = None
    """Name of the node's token; None for a folder."""
    scope: str | None = None
    """What that token allows; None for a folder."""
    file: tuple[int, int] | None = None
    """Device and inode of a folder store's database; None for a server, and where there is none."""


class Installation(Frozen):
    """What computes trials: Python, wtsbench and the libraries."""

    python: str
    """Version, with its patch level."""
    executable: str
    ray: str
    wtsbench: str
    code: str
    """Digest of the code that computes results."""
    libraries: dict[str, str]
    """`provenance.environment()`."""


class Lack(Frozen):
    """Something that is not as trials need it, as only the node can tell."""

    about: About
    found: str
    remedy: str | None = None


class Facts(Frozen):
    """Everything a node says of itself."""

    model_config = ConfigDict(extra="ignore")  # another version may say more

    host: str
    boot: str | None
    """The kernel's id of its last start, which all containers of a machine share; None where it has none."""
    installation: Installation
    environment: str | None
    """What trials would run in; None if the sandbox cannot be had."""
    engine: str | None
    """The Docker engine's version; None if it was not asked, or does not answer."""
    image: Literal["here", "pullable"] | None
    """Where the trials' image is; None for the process sandbox, and if it is nowhere."""
    gpus: tuple[Gpu, ...]
    """Empty as well where nobody asked: without `thorough`, for trials without GPUs."""
    driver_cuda: str | None
    """The newest CUDA that the GPU's driver serves, as `13.0`; None without a driver."""
    torch: str
    """Version with its build."""
    torch_cuda: str | None
    """The CUDA that torch was built for; None for builds without."""
    spool: Disk
    cache: Disk
    memory: int
    """Bytes of the machine."""
    memory_free: int
    store: StoreAccess | None
    """None if it does not let the node in."""
    models: dict[str, Standing]
    """Those that can be had, by name."""
    lacks: tuple[Lack, ...]
