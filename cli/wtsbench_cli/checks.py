"""The checks of `wtsbench doctor`. Each looks at one thing, changes nothing, and says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from wtsbench.errors import UserError
from wtsbench.settings import user_path

State = Literal["ok", "warn", "fail"]

GIB = 2**30
NEEDED_DISK = 2 * GIB
"""Free bytes below which a store or a cache is likely to run full."""
NEEDED_MEMORY = 2 * GIB
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
SECONDS = 5.0
"""Time limit for answers of other programs and machines."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of a check, and what to do about it."""

    name: str
    state: State
    found: str
    remedy: str | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the verbs would use: the options and environment of this command."""

    store: str
    ray: str | None
    mirror: Path | None


def all_checks(place: Place) -> Iterator[Check]:
    """Every check, in the order in which one would fix things. A check that breaks is reported as failed."""
    looks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("python", python),
        ("packages", packages),
        ("cores", cores),
        ("memory", memory),
        ("gpu", gpu),
        ("docker", docker),
        ("ray", lambda: ray(place.ray)),
        ("store", lambda: store(place.store)),
        ("disk", lambda: disk(_existing(user_path(place.store)))),
        ("cache", cache),
        ("data mirror", lambda: mirror(place.mirror)),
        ("hub", hub),
        ("git", git),
    )
    for name, look in looks:
        try:
            yield look()
        except UserError as error:
            yield Check(name=name, state="fail", found=error.message, remedy=error.remedy)
        except Exception as error:  # noqa: BLE001  # this verb exists to report broken installations
            yield Check(name=name, state="fail", found=f"{type(error).__name__}: {error}")


def python() -> Check:
    """The interpreter."""
    return Check(name="python", state="ok", found=f"{platform.python_version()} at {sys.executable}")


def packages() -> Check:
    """Installed packages against what wtsbench asks for."""
    from wtsbench.spec.provenance import environment_lock

    lock = environment_lock()
    try:
        requirements = importlib.metadata.requires("wtsbench") or []
    except importlib.metadata.PackageNotFoundError:
        return Check(
            name="packages",
            state="warn",
            found=f"wtsbench runs from its source and is not installed; environment lock {lock[:12]}",
            remedy="pip install -e . in the checkout, so that versions can be checked.",
        )
    applicable = [requirement for text in requirements if _applies(requirement := Requirement(text))]
    wrong = [fault for requirement in applicable if (fault := _unmet(requirement)) is not None]
    if wrong:
        return Check(name="packages", state="fail", found="; ".join(wrong), remedy="install wtsbench again.")
    found = f"{len(applicable)} requirements met; environment lock {lock[:12]}"
    return Check(name="packages", state="ok", found=found)


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _unmet(requirement: Requirement) -> str | None:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} is {version}, needed is {requirement.specifier}"


def cores() -> Check:
    """Processor cores that this process may use."""
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    found = str(usable) if usable == present else f"{usable} of {present} may be used"
    return Check(name="cores", state="ok", found=found)


def memory() -> Check:
    """Memory that is free."""
    import psutil

    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    found = f"{free / GIB:.1f} GiB free of {total / GIB:.1f}"
    if free < NEEDED_MEMORY:
        return Check(name="memory", state="warn", found=found, remedy="trials may run out of memory; stop other work.")
    return Check(name="memory", state="ok", found=found)


def disk(folder: Path) -> Check:
    """Free space where the store is, or would be."""
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free"
    if free < NEEDED_DISK:
        return Check(name="disk", state="warn", found=found, remedy=f"free some space at {folder}.")
    return Check(name="disk", state="ok", found=found)


def gpu() -> Check:
    """NVIDIA devices, and whether the installed torch can use them."""
    from wtsbench.execution.node_facts import listed_gpus

    gpus, _ = listed_gpus()
    build = importlib.metadata.version("torch")
    if not gpus:
        return Check(name="gpu", state="ok", found=f"none; trials run on the CPU (torch {build})")
    found = f"{'; '.join(f'{gpu.name}, {gpu.memory // 2**20} MiB' for gpu in gpus)} (torch {build})"
    if build.endswith("+cpu"):
        return Check(name="gpu", state="warn", found=found, remedy="this torch is a CPU build; install a CUDA build.")
    return Check(name="gpu", state="ok", found=found)


def gpu_bytes() -> int | None:
    """Memory of this machine's smallest NVIDIA device; None if there is none, as on the head of a cluster."""
    from wtsbench.execution.node_facts import listed_gpus

    return min((gpu.memory for gpu in listed_gpus()[0] if gpu.memory), default=None)


def ray(address: str | None) -> Check:
    """Ray's version; whether the cluster answers, if one is named, and accepts the token on this machine."""
    from wtsbench.execution.ray_access import token_for

    version = importlib.metadata.version("ray")
    if address is None:
        return Check(name="ray", state="ok", found=f"{version}; no address given, it starts on this machine")
    if address.startswith("ray://"):
        return Check(name="ray", state="ok", found=f"{version}; address {address}, not asked")
    try:
        token = token_for(address)
    except UserError as error:
        return Check(name="ray", state="fail", found=f"{version}; {error.message}", remedy=error.remedy)
    how = "needs no token" if token is None else f"accepts the token of {token}"
    return Check(name="ray", state="ok", found=f"{version}; the cluster at {address} answers and {how}")


def store(uri: str) -> Check:
    """Whether the store can be read and written, and whether another process holds its lock."""
    folder = user_path(uri)
    if "://" not in uri and (not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))):
        parent = _existing(folder)
        if _writable(parent):
            return Check(name="store", state="ok", found=f"{uri}: not there yet; a submission makes it")
        return Check(
            name="store", state="fail", found=f"{uri}: {parent} is not writable", remedy="give another --store."
        )
    from wtsbench.store.client import is_server, open_store

    try:
        if is_server(uri):
            return _central_store(uri)
        trials = open_store(uri).trials().num_rows
    except UserError as error:
        return Check(name="store", state="fail", found=error.message, remedy=error.remedy)
    if not _writable(folder):
        remedy = "results can be read; submit with another --store, or change its permissions."
        return Check(name="store", state="fail", found=f"{uri}: not writable", remedy=remedy)
    return Check(name="store", state="ok", found=f"{uri}: {trials:,} ended attempts, lock free, writable")


def _central_store(uri: str) -> Check:
    from wtsbench.store.remote import RemoteEngine

    with RemoteEngine.open(uri) as engine:
        name, scope, version = (engine.hello[key] for key in ("name", "scope", "wtsbench_version"))
    found = f"{uri}: wtsbench {version} answers; token {name} has scope {scope}"
    if scope == "read":
        return Check(name="store", state="warn", found=found, remedy="to submit, ask for a token with scope append.")
    return Check(name="store", state="ok", found=found)


def cache() -> Check:
    """The cache folder."""
    from wtsbench.settings import cache_folder

    folder = cache_folder()
    parent = _existing(folder)
    if not _writable(parent):
        remedy = "set WTSBENCH_CACHE to a folder that can be written."
        return Check(name="cache", state="fail", found=f"{folder}: not writable", remedy=remedy)
    return Check(name="cache", state="ok", found=f"{folder}: {'writable' if folder.exists() else 'not there yet'}")


def mirror(folder: Path | None) -> Check:
    """Which tasks and models the mirror folder has."""
    if folder is None:
        return Check(name="data mirror", state="ok", found="none; data comes from its canonical source")
    if not folder.is_dir():
        remedy = "set WTSBENCH_DATA_MIRROR to a folder that exists, or unset it."
        return Check(name="data mirror", state="fail", found=f"{folder}: no such folder", remedy=remedy)
    from wtsbench.spec import manifests

    tasks = {name: manifests.load_task(name)[0].mirror_paths for name in manifests.names("tasks")}
    paths_of = {name: paths for name, paths in tasks.items() if paths}
    paths_of |= {
        name: (model.mirror,) for name in manifests.names("models") if (model := manifests.load_model(name)[0]).mirror
    }
    present = [name for name, paths in paths_of.items() if all((folder / path).exists() for path in paths)]
    lacking = [name for name in paths_of if name not in present]
    found = f"{folder}: holds {', '.join(present) or 'nothing that a manifest names'}"
    if lacking:
        remedy = f"{', '.join(lacking)} will be downloaded from the canonical source."
        return Check(name="data mirror", state="warn", found=found, remedy=remedy)
    return Check(name="data mirror", state="ok", found=found)


def hub() -> Check:
    """Whether downloads from the Hugging Face hub are switched off."""
    off = [name for name in OFFLINE if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")]
    where = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    if off:
        remedy = "only what is cached can be used; unset it to download."
        return Check(name="hub", state="warn", found=f"offline by {', '.join(off)}; cache {where}", remedy=remedy)
    return Check(name="hub", state="ok", found=f"downloads are allowed; cache {where}")


def git() -> Check:
    """Git, from which every record gets the commit of the code."""
    version = _output("git", "--version")
    if version is None:
        remedy = "install git to have the commit in every record; everything else works without."
        return Check(name="git", state="warn", found="not found", remedy=remedy)
    return Check(name="git", state="ok", found=version)


def docker() -> Check:
    """The Docker engine and the pinned images; without them, trials run as processes."""
    from wtsbench.images.docker_engine import probe
    from wtsbench.images.pins import DEFAULT_IMAGE
    from wtsbench.images.verify import standing

    try:
        engine = probe()
        images = standing()
    except UserError as error:
        return Check(
            name="docker", state="warn", found=f"{error.message}; trials run as processes", remedy=error.remedy
        )
    described = "; ".join(f"image {name} {state}" for name, (state, _) in images.items())
    found = f"engine {engine.version} at {engine.address} ({engine.driver})"
    if DEFAULT_IMAGE not in images:
        remedy = "run `wtsbench image build`; until then trials run as processes."
        words = f"{found}; {described + '; ' if described else ''}no image {DEFAULT_IMAGE} is pinned"
        return Check(name="docker", state="warn", found=words, remedy=remedy)
    if not images[DEFAULT_IMAGE][1]:  # other images may be of older code on purpose
        remedy = "`wtsbench image build` builds the trial image of this code; `wtsbench image verify --pull` fetches."
        return Check(name="docker", state="warn", found=f"{found}; {described}", remedy=remedy)
    return Check(name="docker", state="ok", found=f"{found}; {described}")


def _existing(folder: Path) -> Path:
    """The folder itself, or its nearest existing ancestor."""
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _writable(folder: Path) -> bool:
    """Whether a file can be created there. Tries it, since permission bits do not tell everything."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _output(*command: str) -> str | None:
    """Standard output of a program; None if it is missing, fails or hangs."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()
