"""What follows from what nodes say of themselves: every fault named, with the node and a remedy, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wtsbench.execution.node_answers import Disk, Facts, Gpu, Installation, Lack, Question, StoreAccess
from wtsbench.execution.node_faults import Clock, Fault, Here, Node, faults_of, told

GIB = 2**30
LIBRARIES = {"python": "3.11", "machine": "x86_64", "torch": "2.13.0"}
OURS = Installation(
    python="3.11.7", executable="/opt/bin/python", ray="2.60.0", wtsbench="1.0.0", code="c0de", libraries=LIBRARIES
)
HERE = Here(installation=OURS, boot="boot-1")
QUESTION = Question(sandbox="process", environment="process:lock", store="grpc+tls://s:1", grid="mine")
DISK = Disk(path="/spool", free=100 * GIB, writable=True)
FACTS = Facts(
    host="a",
    boot="boot-2",
    installation=OURS,
    environment="process:lock",
    engine=None,
    image=None,
    gpus=(),
    driver_cuda=None,
    torch="2.13.0",
    torch_cuda="13.0",
    spool=DISK,
    cache=Disk(path="/cache", free=100 * GIB, writable=True),
    memory=64 * GIB,
    memory_free=60 * GIB,
    store=StoreAccess(token="t", scope="append"),
    models={},
    lacks=(),
)
H100 = Gpu(name="NVIDIA H100", driver="580.1", memory=80 * GIB)


def node(name: str = "a", **changed: Any) -> Node:
    """A node without a fault, but for what is changed: fields of `Node`, else of its facts."""
    own = {key: value for key, value in changed.items() if key in Node.__dataclass_fields__}
    facts = FACTS.model_copy(update={key: value for key, value in changed.items() if key not in own})
    good = Node(
        id=f"{name}0",
        name=name,
        address="10.0.0.1",
        offers={"CPU": 8.0},
        runs_trials=True,
        facts=facts,
        python="3.11.7",
        executable="/opt/bin/python",
        wtsbench="1.0.0",
        clock=Clock(ahead=0.001, uncertain=0.002),
    )
    return replace(good, **own)


def faults(*nodes: Node, here: Here = HERE, **asked: Any) -> list[Fault]:
    """What is found, of a question that is changed."""
    return faults_of(nodes, QUESTION.model_copy(update=asked), here)


def test_a_good_node_has_no_fault() -> None:
    """Nothing is said of nodes that are as they must be."""
    assert faults(node("a"), node("b")) == []


def installed(**changed: Any) -> Installation:
    """An installation like ours, but for what is changed."""
    return OURS.model_copy(update=changed)


@pytest.mark.parametrize(
    ("changed", "asked", "about", "state", "found"),
    [
        ({"python": "3.11.9"}, {}, "python", "fail", "Python 3.11.9, and 3.11.7 here"),
        ({"installation": installed(wtsbench="0.9")}, {}, "wtsbench", "fail", "wtsbench 0.9, and 1.0.0 here"),
        ({"installation": installed(code="0ther")}, {}, "wtsbench", "warn", "with other code than here"),
        ({"installation": installed(ray="2.61.0")}, {}, "wtsbench", "fail", "Ray 2.61.0, and 2.60.0 here"),
        (
            {"environment": "process:0ther", "installation": installed(libraries={**LIBRARIES, "torch": "2.12.0"})},
            {},
            "libraries",
            "fail",
            "other libraries: torch 2.12.0 (here 2.13.0)",
        ),
        (
            {"environment": "docker:sha256:0"},
            {"sandbox": "docker", "image": "sha256:1", "environment": "docker:sha256:1"},
            "image",
            "fail",
            "planned for docker:sha256:1",
        ),
        (
            {"environment": None, "lacks": (Lack(about="image", found="no Docker engine runs here"),)},
            {"sandbox": "docker", "image": "sha256:1"},
            "image",
            "fail",
            "no Docker engine runs here",
        ),
        ({"store": StoreAccess(token="t", scope="read")}, {}, "store", "fail", "does not allow to submit"),
        ({"store": StoreAccess(token="t", scope="read")}, {"grid": None}, "store", "warn", "does not allow to submit"),
        ({"store": StoreAccess(token="t", scope="append:hers")}, {}, "store", "fail", "has scope append:hers"),
        ({"spool": DISK.model_copy(update={"free": GIB})}, {}, "disk", "warn", "only 1.0 GiB free for its spool"),
        ({"spool": DISK.model_copy(update={"free": 2**20})}, {}, "disk", "fail", "only 1 MiB free for its spool"),
        ({"cache": DISK.model_copy(update={"free": 2**20})}, {}, "disk", "warn", "only 1 MiB free for its cache"),
        ({"cache": DISK.model_copy(update={"writable": False})}, {}, "disk", "fail", "cannot be written"),
        ({"memory_free": 10 * GIB}, {"memory": 40 * GIB}, "memory", "warn", "a trial may take 40.0 GiB"),
        ({"clock": Clock(ahead=-9.0, uncertain=0.1)}, {}, "clock", "warn", "about 9 s behind that of this machine"),
        ({"clock": Clock(ahead=3600.0, uncertain=0.1)}, {}, "clock", "fail", "about 3,600 s ahead of"),
        ({"offers": {"GPU": 2.0}}, {"gpus": 1}, "gpu", "fail", "Ray offers 2 GPUs, and nvidia-smi lists none"),
        ({"offers": {"GPU": 2.0}}, {}, "gpu", "warn", "Ray offers 2 GPUs, and nvidia-smi lists none"),
        ({"gpus": (H100,)}, {}, "gpu", "warn", "1 GPUs, of which Ray offers none"),
        (
            {"offers": {"GPU": 1.0}, "gpus": (H100,)},
            {"gpus": 0.25, "gpu_memory": 30 * GIB},
            "gpu",
            "warn",
            "a trial's share of a GPU is 20.0 GiB; the largest needs about 30.0 GiB by estimate",
        ),
        (
            {"offers": {"GPU": 1.0}, "gpus": (H100,), "torch": "2.13.0+cpu", "torch_cuda": None},
            {"gpus": 1},
            "gpu",
            "fail",
            "torch 2.13.0+cpu is a build without CUDA",
        ),
        (
            {"offers": {"GPU": 1.0}, "gpus": (H100,), "driver_cuda": "12.8"},
            {"gpus": 1},
            "gpu",
            "fail",
            "driver 580.1 serves CUDA 12.8, and torch 2.13.0 is built for 13.0",
        ),
        (
            {"facts": None, "python": None, "silence": "it has not answered within 30 s"},
            {},
            "answer",
            "fail",
            "it has not answered within 30 s",
        ),
        (
            {"facts": None, "wtsbench": None, "silence": "ModuleNotFoundError: No module named 'wtsbench'"},
            {},
            "wtsbench",
            "fail",
            "its wtsbench cannot be asked: ModuleNotFoundError",
        ),
    ],
)
def test_a_fault_is_named(changed: dict[str, Any], asked: dict[str, Any], about: str, state: str, found: str) -> None:
    """A node on which something is wrong has this one fault, with a remedy."""
    (fault,) = faults(node("bad", **changed), **asked)
    assert (fault.nodes, fault.about, fault.state) == (("bad",), about, state)
    assert found in fault.found
    assert fault.remedy.endswith(".")


def test_what_is_harmless_is_no_fault() -> None:
    """Tokens for this grid and for all; a clock that is only badly measured; a driver newer than torch needs."""
    for scope in ("append", "append:mine", "admin"):
        assert faults(node(store=StoreAccess(token="t", scope=scope))) == []
    assert faults(node(store=StoreAccess(token="t", scope="append:hers")), grid=None) == []
    assert faults(node(clock=Clock(ahead=4.0, uncertain=3.0))) == []
    assert faults(node(offers={"GPU": 1.0}, gpus=(H100,), driver_cuda="13.2"), gpus=1) == []


def test_a_node_that_gets_no_trials_is_not_judged() -> None:
    """A head without cores may be as it likes."""
    assert faults(node("head", runs_trials=False, python="3.12.1", lacks=(Lack(about="store", found="no"),))) == []


def test_a_store_in_a_folder() -> None:
    """It has to be the same file: on this machine, or on a shared file system, whose locks are not to be relied on."""
    folder = {"store": "/results", "store_file": (1, 77)}

    def found(boot: str, file: tuple[int, int] | None, **asked: Any) -> list[tuple[str, str]]:
        got = faults(node(boot=boot, store=StoreAccess(file=file)), **{**folder, **asked})
        return [(fault.about, fault.state) for fault in got]

    assert found("boot-1", (1, 77)) == []
    assert found("boot-1", None, store_file=None) == []  # the submission makes it
    assert found("boot-1", None) == [("store", "fail")]
    assert found("boot-2", (9, 77)) == [("store", "warn")]
    assert found("boot-2", (1, 78)) == [("store", "fail")]
    assert found("boot-2", None, store_file=None) == [("store", "fail")]


def test_equal_faults_are_told_once() -> None:
    """One line for all nodes that have a fault, those that make trials fail first; long lists are cut."""
    many = [node(f"n{number}", python="3.11.9", clock=Clock(ahead=9, uncertain=0)) for number in range(7)]
    first, second = faults(*many)
    assert (first.state, second.state) == ("fail", "warn")
    assert told(first) == "n0, n1, n2, n3 and 3 more: Python 3.11.9, and 3.11.7 here"


def test_different_gpus_are_a_warning() -> None:
    """Nodes with different GPUs or drivers may give different scores: a fault of none of them."""
    offers = {"GPU": 1.0}
    other = H100.model_copy(update={"name": "NVIDIA A100"})
    (fault,) = faults(node("a", offers=offers, gpus=(H100,)), node("b", offers=offers, gpus=(other,)))
    assert fault.nodes == ("a", "b")
    assert fault.state == "warn"
    assert "NVIDIA A100, driver 580.1 on b" in fault.found
    assert faults(node("a", offers=offers, gpus=(H100,)), node("b", offers=offers, gpus=(H100,))) == []


def test_workers_by_uv_have_a_remedy_of_their_own() -> None:
    """Where the user has Ray start workers with uv, silence is put down to that."""
    silent = node(facts=None, python=None, silence="it has not answered within 30 s")
    (fault,) = faults(silent, here=replace(HERE, uv=True))
    assert "unset RAY_ENABLE_UV_RUN_RUNTIME_ENV" in fault.remedy
