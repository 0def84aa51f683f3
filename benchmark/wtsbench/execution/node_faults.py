"""What speaks against giving trials to the nodes of a cluster: pure comparisons of what they said of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wtsbench.execution.node_answers import About, Facts, Installation, Question
from wtsbench.execution.ray_access import UV_RUN
from wtsbench.models.memory import CLEARLY

GIB = 2**30
LITTLE = 2 * GIB
"""Free bytes of a disk or of memory below which trials may run out of it."""
TOO_LITTLE = GIB // 4
"""Free bytes of the spool below which a trial has no room for its inputs and its records."""
SKEW_SECONDS = 2.0
"""Difference of clocks from which times in the store mislead."""
TOO_MUCH_SKEW_SECONDS = 60.0
"""Difference of clocks from which certificates and tokens may seem expired, or not valid yet."""
_SHOWN_PATHS = 60


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How far a node's clock is ahead of this machine's, in seconds, as measured by a question and its answer."""

    ahead: float
    """Assuming that both ways take equally long."""
    uncertain: float
    """Half of the time between question and answer: the true value is at most this far away."""

    @property
    def surely(self) -> float:
        """The least difference that explains the answer, as an amount."""
        return max(0.0, abs(self.ahead) - self.uncertain)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A living node of the cluster, and what it answered."""

    id: str
    """Ray's, in hexadecimal digits."""
    name: str
    """Its host name; where several nodes share it, with the first digits of the id."""
    address: str
    offers: Mapping[str, float]
    """Its resources under Ray's names."""
    runs_trials: bool
    """Whether it is large enough for a trial."""
    facts: Facts | None = None
    silence: str | None = None
    """Why there are no facts."""
    python: str | None = None
    """Version; known also of a node without a wtsbench that can be asked."""
    executable: str | None = None
    wtsbench: str | None = None
    clock: Clock | None = None


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that is not as trials need it, on one node or between several."""

    nodes: tuple[str, ...]
    """Names."""
    about: About
    state: Literal["fail", "warn"]
    """`fail`: trials would fail there, or come out otherwise."""
    found: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Here:
    """The machine that asks."""

    installation: Installation
    boot: str | None
    uv: bool = False
    """Whether it has Ray start workers with `uv run`."""


def faults_of(nodes: Sequence[Node], question: Question, here: Here) -> list[Fault]:
    """All faults, each once with the nodes that have it; those of nodes that get no trials are left out."""
    found: dict[tuple[Any, ...], list[str]] = {}
    judged = [node for node in nodes if node.runs_trials]
    for node in judged:
        for about, state, text, remedy in _of(node, question, here):
            found.setdefault((about, state, text, remedy), []).append(node.name)
    for about, state, text, remedy in _between(judged):
        found.setdefault((about, state, text, remedy), [node.name for node in judged])
    faults = [
        Fault(nodes=tuple(names), about=about, state=state, found=text, remedy=remedy)
        for (about, state, text, remedy), names in found.items()
    ]
    return sorted(faults, key=lambda fault: fault.state)


_Found = tuple[About, Literal["fail", "warn"], str, str]


def _of(node: Node, question: Question, here: Here) -> Iterator[_Found]:
    """The faults of one node."""
    ours = here.installation
    if node.python is not None and node.python != ours.python:
        yield (
            "python",
            "fail",
            f"Python {node.python}, and {ours.python} here",
            "install the same Python on all nodes and here, the patch level included: Ray wants that.",
        )
    if node.facts is None:
        yield from _unanswered(node, here)
        return
    yield from _installed(node.facts.installation, question, ours)
    yield from _environment(node.facts, question, ours)
    for lack in node.facts.lacks:
        remedy = "see the logs of its Ray." if lack.remedy is None else f"on the node: {lack.remedy}"
        yield lack.about, "fail", lack.found, remedy
    yield from _store(node.facts, question, here)
    yield from _room(node.facts, question)
    yield from _gpus(node, node.facts, question)
    yield from _clock(node.clock)


def _unanswered(node: Node, here: Here) -> Iterator[_Found]:
    ours = here.installation
    if node.python is None:
        remedy = "look why its workers do not start, in the logs of its Ray (session_latest/logs); restart it."
        if here.uv:
            remedy = f"unset {UV_RUN}: with it Ray starts every worker with `uv run`, which has to work on every node."
        yield "answer", "fail", node.silence or "it does not answer", remedy
        return
    install = f"install wtsbench {ours.wtsbench} for {node.executable}, and start Ray there with it."
    if node.wtsbench is not None and node.wtsbench != ours.wtsbench:
        yield "wtsbench", "fail", f"wtsbench {node.wtsbench}, and {ours.wtsbench} here", install
    else:
        yield "wtsbench", "fail", f"its wtsbench cannot be asked: {node.silence}", install


def _installed(theirs: Installation, question: Question, ours: Installation) -> Iterator[_Found]:
    again = f"install wtsbench {ours.wtsbench} for {theirs.executable}, as here."
    if theirs.wtsbench != ours.wtsbench:
        yield "wtsbench", "fail", f"wtsbench {theirs.wtsbench}, and {ours.wtsbench} here", again
    elif theirs.code != ours.code and question.sandbox == "process":
        found = f"wtsbench {theirs.wtsbench} with other code than here, so trials may give other results"
        yield "wtsbench", "warn", found, "have the same commit there and here, without changes of your own."
    if theirs.ray != ours.ray:
        yield "wtsbench", "fail", f"Ray {theirs.ray}, and {ours.ray} here", f"install Ray {ours.ray} there."


def _environment(facts: Facts, question: Question, ours: Installation) -> Iterator[_Found]:
    """What `supervise` would refuse: another image, or other libraries."""
    if facts.environment is None or facts.environment == question.environment:
        return
    if question.sandbox == "docker":
        yield (
            "image",
            "fail",
            f"trials would run in {facts.environment}, and are planned for {question.environment}",
            "have the pinned image on the node's engine: `wtsbench image verify --pull` there.",
        )
        return
    theirs = facts.installation.libraries
    others = ", ".join(
        f"{name} {theirs.get(name, 'absent')} (here {ours.libraries.get(name, 'absent')})"
        for name in sorted(theirs.keys() | ours.libraries.keys())
        if theirs.get(name) != ours.libraries.get(name)
    )
    remedy = "install the same versions on all nodes and here, as with `pip install -c constraints.txt`; or use docker."
    yield "libraries", "fail", f"other libraries: {others or facts.environment}", remedy


def _store(facts: Facts, question: Question, here: Here) -> Iterator[_Found]:
    access = facts.store
    if access is None:
        return  # the node has said why
    if access.scope is not None:
        allowed = access.scope in ("append", "admin") or (
            access.scope.startswith("append:") and question.grid in (None, access.scope.removeprefix("append:"))
        )
        if not allowed:
            scope = "append" if question.grid is None else f"append:{question.grid}"
            found = f"its token {access.token} has scope {access.scope}, which does not allow to submit"
            remedy = (
                f"make one with `wtsbench store token create --scope {scope}`; name it in WTSBENCH_TOKEN_FILE there."
            )
            yield "store", "warn" if question.grid is None else "fail", found, remedy
        return
    serve = "serve the store with `wtsbench store serve`, and give its address as --store (docs/store.md)."
    elsewhere = facts.boot is None or facts.boot != here.boot
    inode = None if access.file is None else access.file[1]
    wanted = None if question.store_file is None else question.store_file[1]
    if elsewhere or access.file != question.store_file:
        if inode is None or inode != wanted:
            where = _short(question.store)
            yield "store", "fail", f"the store {where} is a folder of this machine, which the node does not have", serve
        elif elsewhere:
            found = "the store is a folder on a shared file system, whose locks may not hold between machines"
            yield "store", "warn", found, serve


def _room(facts: Facts, question: Question) -> Iterator[_Found]:
    for disk, what, elsewhere in (
        (facts.spool, "spool", "start its Ray with WTSBENCH_SPOOL set to another folder"),
        (facts.cache, "cache", "set WTSBENCH_CACHE there to another folder"),
    ):
        path = _short(disk.path)
        if not disk.writable:
            remedy = f"make {path} writable for the user of the node's Ray, or {elsewhere}."
            yield "disk", "fail", f"its {what} {path} cannot be written", remedy
        elif disk.free < LITTLE:
            state: Literal["fail", "warn"] = "fail" if what == "spool" and disk.free < TOO_LITTLE else "warn"
            found = f"only {_size(disk.free)} free for its {what} {path}"
            yield "disk", state, found, f"free some space there, or {elsewhere}."
    needed = question.memory or LITTLE
    if facts.memory_free < needed:
        found = f"{_size(facts.memory_free)} of memory free of {_size(facts.memory)}; a trial may take {_size(needed)}"
        yield "memory", "warn", found, "stop other work there."


def _gpus(node: Node, facts: Facts, question: Question) -> Iterator[_Found]:
    if not (question.gpus or question.thorough):
        return
    offered = int(node.offers.get("GPU", 0))
    state: Literal["fail", "warn"] = "fail" if question.gpus else "warn"
    if not offered:
        if facts.gpus and not question.gpus:
            found = f"{len(facts.gpus)} GPUs, of which Ray offers none"
            yield "gpu", "warn", found, "start Ray there with --num-gpus, if trials are to use them."
        return
    if len(facts.gpus) < offered:
        found = f"Ray offers {offered} GPUs, and nvidia-smi lists {len(facts.gpus) or 'none'}"
        remedy = "install the NVIDIA driver there, or start Ray with as many GPUs as there are (--num-gpus)."
        yield "gpu", state, found, remedy
        return
    share = min(gpu.memory for gpu in facts.gpus) * min(1.0, question.gpus)
    if 0 < share < CLEARLY * question.gpu_memory:
        found = f"a trial's share of a GPU is {_size(share)}; the largest needs about {_size(question.gpu_memory)}"
        yield "gpu", "warn", f"{found} by estimate", "see `wtsbench models` for what needs less, or name other nodes."
    if question.sandbox == "docker":
        return  # the image has a torch of its own
    if facts.torch_cuda is None:
        yield "gpu", state, f"torch {facts.torch} is a build without CUDA", "install a CUDA build of torch there."
    elif facts.driver_cuda is not None and _major(facts.torch_cuda) > _major(facts.driver_cuda):
        found = (
            f"driver {facts.gpus[0].driver} serves CUDA {facts.driver_cuda}, and torch {facts.torch} is built for "
            f"{facts.torch_cuda}"
        )
        yield (
            "gpu",
            state,
            found,
            f"install a driver for CUDA {_major(facts.torch_cuda)}, or a torch for an older CUDA.",
        )


def _clock(clock: Clock | None) -> Iterator[_Found]:
    if clock is None or clock.surely <= SKEW_SECONDS:
        return
    state: Literal["fail", "warn"] = "fail" if clock.surely > TOO_MUCH_SKEW_SECONDS else "warn"
    way = "ahead of" if clock.ahead > 0 else "behind"
    found = f"its clock is about {abs(clock.ahead):,.0f} s {way} that of this machine"
    yield "clock", state, found, "have a time service set both clocks (chrony, systemd-timesyncd)."


def _between(nodes: Sequence[Node]) -> Iterator[_Found]:
    """What is no fault of any one node."""
    kinds: dict[str, list[str]] = {}
    for node in nodes:
        for gpu in sorted({f"{gpu.name}, driver {gpu.driver}" for gpu in node.facts.gpus} if node.facts else ()):
            kinds.setdefault(gpu, []).append(node.name)
    if len(kinds) > 1:
        found = "; ".join(f"{kind} on {_names(names)}" for kind, names in sorted(kinds.items()))
        remedy = "scores differ a little between kinds of GPUs: run all trials that are compared on one kind."
        yield "gpu", "warn", f"different GPUs or drivers: {found}", remedy


def told(fault: Fault) -> str:
    """A fault with its nodes, in one line."""
    return f"{_names(fault.nodes)}: {fault.found}"


def _names(names: Sequence[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _short(path: str) -> str:
    return path if len(path) <= _SHOWN_PATHS else f"…{path[-_SHOWN_PATHS:]}"


def _size(number: float) -> str:
    return f"{number / 2**20:,.0f} MiB" if number < GIB else f"{number / GIB:,.1f} GiB"
