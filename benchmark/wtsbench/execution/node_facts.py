"""What a node of a cluster says of itself, before trials are given to it. Runs on the node; knows nothing of Ray.

Nothing is judged here but what only the node can see, such as a store that does not let it in: `node_faults` compares.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import wtsbench
from wtsbench.errors import SandboxError, UserError
from wtsbench.execution.judging import scorer_at
from wtsbench.execution.node_answers import About, Disk, Facts, Gpu, Installation, Lack, Question, StoreAccess
from wtsbench.images.code import code_digest
from wtsbench.models.fetch import Standing, standing
from wtsbench.sandbox.base import environment_of
from wtsbench.sandbox.choice import make_sandbox
from wtsbench.settings import cache_folder, spool_folder
from wtsbench.spec.grid import Resources
from wtsbench.spec.provenance import environment as libraries
from wtsbench.store.client import is_server
from wtsbench.store.folder import DATABASE

_SECONDS = 10.0
"""Time limit for answers of the GPU's driver."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def facts(question: Question) -> Facts:
    """Look at this node. Changes nothing; fetches and builds nothing but a small scorer that is made on first use."""
    import psutil

    lacks: list[Lack] = []
    sandbox = _Sandbox(question, lacks)
    gpus, driver_cuda = listed_gpus() if question.thorough or question.gpus else ((), None)
    torch, torch_cuda = _torch()
    store = None
    with _noting("store", lacks):
        store = store_access(question.store)
    if not question.image:
        lacks += _missing_strategies(question.strategies)
    memory = psutil.virtual_memory()
    return Facts(
        host=platform.node(),
        boot=boot_id(),
        installation=installation(),
        environment=sandbox.environment,
        engine=sandbox.engine,
        image=sandbox.image,
        gpus=gpus,
        driver_cuda=driver_cuda,
        torch=torch,
        torch_cuda=torch_cuda,
        spool=_disk(spool_folder(question.store, question.named_spool)),
        cache=_disk(cache_folder()),
        memory=memory.total,
        memory_free=memory.available,
        store=store,
        models=_models(question, lacks),
        lacks=(*lacks, *_scorers(question)),
    )


def installation() -> Installation:
    """The installation of this process."""
    return Installation(
        python=platform.python_version(),
        executable=sys.executable,
        ray=importlib.metadata.version("ray"),
        wtsbench=wtsbench.__version__,
        code=code_digest(),
        libraries=libraries(),
    )


def boot_id() -> str | None:
    """The kernel's id of its last start."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


def store_access(uri: str) -> StoreAccess:
    """How this process reaches a store; nothing of a folder store is opened.

    Raises:
        StoreError: a server does not answer, or refuses the token.
    """
    if is_server(uri):
        from wtsbench.store.remote import RemoteEngine

        with RemoteEngine.open(uri) as engine:
            return StoreAccess(token=str(engine.hello["name"]), scope=str(engine.hello["scope"]))
    return StoreAccess(file=store_file(uri))


def store_file(uri: str) -> tuple[int, int] | None:
    """Device and inode of a folder store's database; None for a server, and where there is none."""
    if is_server(uri):
        return None
    try:
        status = (Path(uri) / DATABASE).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _noting(about: About, lacks: list[Lack]) -> Iterator[None]:
    """Note a `UserError` as a lack."""
    try:
        yield
    except UserError as error:
        lacks.append(Lack(about=about, found=error.message, remedy=error.remedy))


class _Sandbox:
    """What the sandbox asked for is here."""

    def __init__(self, question: Question, lacks: list[Lack]) -> None:
        self.engine: str | None = None
        self.image: Literal["here", "pullable"] | None = None
        self.environment: str | None = None
        docker = question.sandbox == "docker"
        if docker or question.thorough:
            try:
                self.engine = _engine()
            except SandboxError as error:
                if docker:
                    lacks.append(Lack(about="image", found=error.message, remedy=error.remedy))
                    return
        try:
            sandbox = make_sandbox(question.sandbox, image=question.image)
        except UserError as error:
            if question.thorough and question.image_reference and _registry_has(question.image_reference):
                self.image = "pullable"
                pull = f"docker pull {question.image_reference}"
                lacks.append(Lack(about="image", found=f"{error.message}; its registry has it", remedy=pull))
            else:
                lacks.append(Lack(about="image", found=error.message, remedy=error.remedy))
            return
        self.image = "here" if docker else None
        self.environment = environment_of(sandbox, Resources(gpus=question.gpus))


def _engine() -> str:
    from wtsbench.images.docker_engine import probe

    return probe().version


def _registry_has(reference: str) -> bool:
    from wtsbench.images.docker_engine import connect
    from wtsbench.images.registry import registry_digest

    try:
        with connect(seconds=_SECONDS) as client:
            registry_digest(client, reference)
    except SandboxError:
        return False
    return True


def _models(question: Question, lacks: list[Lack]) -> dict[str, Standing]:
    found: dict[str, Standing] = {}
    for model in question.models:
        with _noting("models", lacks):
            found[model.name] = standing(model, ask=question.thorough)
    return found


def _scorers(question: Question) -> list[Lack]:
    lacks: list[Lack] = []
    for place in question.scorers if question.thorough else ():
        with _noting("scorers", lacks):
            scorer_at(place)
    return lacks


def _missing_strategies(packages: tuple[str, ...]) -> list[Lack]:
    """Packages that are not installed here in the version that was planned."""
    lacks = []
    for package in packages:
        name, _, version = package.partition("==")
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            here = None
        if here != version:
            found = f"the package {package} of a strategy is {'not installed' if here is None else here}"
            lacks.append(Lack(about="strategies", found=found, remedy=f"pip install {package}"))
    return lacks


def _disk(folder: Path) -> Disk:
    """The file system of a folder, or of its nearest ancestor that exists."""
    existing = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), Path("/"))
    return Disk(
        path=str(folder),
        free=shutil.disk_usage(existing).free,
        writable=os.access(existing, os.W_OK | os.X_OK),
    )


def listed_gpus() -> tuple[tuple[Gpu, ...], str | None]:
    """The GPUs that the driver lists, and the newest CUDA that it serves. Takes no memory on them."""
    listed = _said("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits")
    rows = [[field.strip() for field in line.split(",")] for line in listed.splitlines()]
    gpus = tuple(
        Gpu(name=name, driver=driver, memory=int(memory) * 2**20 if memory.isdigit() else 0)
        for name, driver, memory in (row for row in rows if len(row) == 3)
    )
    cuda = re.search(r"CUDA[^|]*Version\s*:\s*(\d+\.\d+)", _said("nvidia-smi")) if gpus else None
    return gpus, None if cuda is None else cuda[1]


def _said(*command: str) -> str:
    """Standard output of a program; empty if it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _torch() -> tuple[str, str | None]:
    """The version of torch, and the CUDA that it was built for; read from its files, since importing it takes long."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "absent", None
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return version, None
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return version, None
    cuda = re.search(r"^cuda\b[^=]*= *['\"](\d+\.\d+)", text, re.MULTILINE)
    return version, None if cuda is None else cuda[1]
