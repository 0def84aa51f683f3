"""Asks the nodes of a cluster, before trials are given to them, whether trials could run there.

One small task for each living node, all at once, within a time limit: a node that does not answer is a fault like any
other. `node_facts` is what a node says, `node_faults` what follows from it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import ray
import ray.exceptions
from pydantic import ValidationError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wtsbench.errors import ClusterError
from wtsbench.execution.fitting import fitting
from wtsbench.execution.node_answers import Facts, Question
from wtsbench.execution.node_facts import boot_id, installation, store_file
from wtsbench.execution.node_faults import Clock, Fault, Here, Node, faults_of, told
from wtsbench.execution.ray_access import workers_by_uv
from wtsbench.images.pins import resolve_image
from wtsbench.models.memory import needed_by
from wtsbench.sandbox.base import Sandbox, environment_of
from wtsbench.settings import named_spool
from wtsbench.spec.grid import Resources
from wtsbench.store.client import absolute
from wtsbench.visible import first_line

if TYPE_CHECKING:
    from wtsbench.execution.session import Session

SUBMIT_SECONDS = 30.0
"""Time limit before a submission. Nodes answer within some 3 s, most of which is a worker's start; the first trial on
the node uses that worker."""
UV_SECONDS = 90.0
"""Where each worker is started by `uv run`, which may have to fetch packages."""
DOCTOR_SECONDS = 90.0
"""Time limit where hub and registry are asked too."""
_TICKS = 3
"""Short questions to each node for its clock."""
_TICK_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The nodes of a cluster, and what speaks against giving trials to them."""

    question: Question
    nodes: tuple[Node, ...]
    """By name."""
    faults: tuple[Fault, ...]
    """Those that make trials fail first."""

    @property
    def failing(self) -> list[Node]:
        """Nodes that are large enough for trials and would fail them."""
        names = {name for fault in self.faults if fault.state == "fail" for name in fault.nodes}
        return [node for node in self.nodes if node.name in names]

    @property
    def fit(self) -> list[Node]:
        """Nodes that trials can be given to."""
        failing = {node.id for node in self.failing}
        return [node for node in self.nodes if node.runs_trials and node.id not in failing]

    def state(self, node: Node) -> Literal["ok", "warn", "fail", "-"]:
        """The worst that was found on a node; `-` if it is too small for a trial, and so not judged."""
        if not node.runs_trials:
            return "-"
        states = {fault.state for fault in self.faults if node.name in fault.nodes}
        return "fail" if "fail" in states else "warn" if "warn" in states else "ok"

    def why(self, node: Node) -> list[Fault]:
        """What makes trials fail on a node."""
        return [fault for fault in self.faults if fault.state == "fail" and node.name in fault.nodes]


def question_for(session: Session) -> Question | None:
    """What a submission asks the nodes: what takes a moment. None on this machine alone, which `prepare` has looked at.

    Workers that `uv run` starts may never start: with them, this machine is asked too.
    """
    if session.options.ray is None and not workers_by_uv():
        return None
    return question_of(session, thorough=False)


def question_of(session: Session, *, thorough: bool) -> Question:
    """Whether the trials that a session lacks could run."""
    missing = [trial.spec for trial in session.report.trials if trial.state != "stored"]
    used = [model for spec in missing for model in (spec.model, spec.reference) if model is not None]
    gpus = session.grid.resources.gpus
    base = bare_question(session.options.store, session.sandbox, session.grid.resources, image=session.grid.image)
    return base.model_copy(
        update={
            "grid": session.grid.name,
            "gpu_memory": max((needed_by(spec, on_gpu=True) or 0 for spec in missing), default=0) if gpus else 0,
            "models": tuple({model.revision: model for model in used}.values()),
            "strategies": tuple(sorted({spec.strategy_package for spec in missing if spec.strategy_package})),
            "scorers": tuple(dict.fromkeys(session.scorers.values())),
            "thorough": thorough,
        }
    )


def bare_question(store: str, sandbox: Sandbox, resources: Resources, *, image: str) -> Question:
    """Whether trials of any grid could run.

    Args:
        store: its address.
        sandbox: as here.
        resources: of one trial.
        image: name or digest of the docker sandbox's image.
    """
    place, docker = absolute(store), sandbox.name == "docker"  # a pod's own image is no engine's to look for
    return Question(
        sandbox=sandbox.name,
        image=sandbox.image_digest if docker else None,
        image_reference=resolve_image(image).reference if docker else None,
        environment=environment_of(sandbox, resources),
        gpus=resources.gpus,
        memory=resources.memory,
        store=place,
        store_file=store_file(place),
        named_spool=named_spool(),
    )


@dataclass(frozen=True, kw_only=True)
class LateCheck:
    """What a worker looks at before its first trial, on a node that joined after the others had been asked."""

    question: Question
    here: Here
    asked: frozenset[str]
    """Ids of the nodes that were asked."""

    def refusal(self, resources: Resources) -> str | None:
        """What makes trials fail on the node of this worker; None if nothing is known to."""
        key = ray.get_runtime_context().get_node_id()
        if key in self.asked:
            return None
        nodes = [node for node in _living(resources) if node.id == key]
        return refusal(nodes[0], self.question, self.here) if nodes else None


def refusal(node: Node, question: Question, here: Here) -> str | None:
    """What makes trials fail on the node that this process is on; None if nothing does.

    Args:
        node: this one, without what it says.
        question: what it is asked.
        here: the machine that asks.
    """
    said = _told(node, _Answer(said=_probe()(question.model_dump(mode="json"))))
    unclocked = replace(said, clock=None)  # the asking machine's clock is not known here
    faults = [fault for fault in faults_of([unclocked], question, here) if fault.state == "fail"]
    return "; ".join(fault.found for fault in faults) or None


def admitted(question: Question, resources: Resources) -> Survey:
    """The survey of the cluster that this process is connected to, if trials can be given to any of its nodes.

    Raises:
        ClusterError: to none; the message has the faults of all.
    """
    survey = survey_of(question, resources, seconds=UV_SECONDS if workers_by_uv() else SUBMIT_SECONDS)
    if survey.fit or not survey.failing:  # a cluster without a node that is large enough is refused elsewhere
        return survey
    faults = [fault for fault in survey.faults if fault.state == "fail"]
    raise ClusterError(
        "\n  ".join(("no node can run these trials:", *map(told, faults))),
        remedy="\n".join(dict.fromkeys(fault.remedy for fault in faults)),
    )


def survey_of(question: Question, resources: Resources, *, seconds: float) -> Survey:
    """Ask every living node of the cluster that this process is connected to, and compare the answers.

    Args:
        question: what they are asked.
        resources: of one trial; nodes that are too small for one are asked and not judged.
        seconds: how long nodes may take to answer.
    """
    nodes = _living(resources)
    answers = _answers([node.id for node in nodes], question, seconds)
    told_by = tuple(_told(node, answers[node.id]) for node in nodes)
    if question.thorough:
        told_by = tuple(replace(node, clock=_clock(node)) for node in told_by)
    return Survey(question=question, nodes=told_by, faults=tuple(faults_of(told_by, question, this_machine())))


def this_machine() -> Here:
    """The machine that asks."""
    return Here(installation=installation(), boot=boot_id(), uv=workers_by_uv())


def _living(resources: Resources) -> list[Node]:
    living = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    hosts = Counter(node["NodeManagerHostname"] for node in living)
    found = []
    for node in living:
        host, key = node["NodeManagerHostname"], node["NodeID"]
        found.append(
            Node(
                id=key,
                name=host if hosts[host] == 1 else f"{host}/{key[:6]}",
                address=node["NodeManagerAddress"],
                offers=node["Resources"],
                runs_trials=fitting(node["Resources"], resources) > 0,
            )
        )
    return sorted(found, key=lambda node: node.name)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What came back from a node, or why nothing did."""

    said: Mapping[str, Any] | None = None
    silence: str | None = None
    asked: float = 0.0
    """Seconds since the epoch by this machine's clock, as `came`."""
    came: float = 0.0


def _answers(nodes: Sequence[str], question: Question, seconds: float) -> dict[str, _Answer]:
    """The answers by the ids of nodes."""
    task, asked = _task(_probe()), question.model_dump(mode="json")
    begun, deadline = time.time(), time.monotonic() + seconds
    waiting = {_on(task, node).remote(asked): node for node in nodes}
    answers = {}
    while waiting and (left := deadline - time.monotonic()) > 0:
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=left)
        for reference in ready:
            answers[waiting.pop(reference)] = _answer(reference, begun)
    for reference, node in waiting.items():
        ray.cancel(reference, force=False)
        answers[node] = _Answer(silence=f"it has not answered within {seconds:.0f} s")
    return answers


def _answer(reference: Any, asked: float) -> _Answer:
    came = time.time()
    try:
        return _Answer(said=ray.get(reference), asked=asked, came=came)
    except ray.exceptions.RayTaskError as error:
        return _Answer(silence=f"it cannot say how it is: {type(error.cause).__name__}: {error.cause}")
    except ray.exceptions.RayError as error:
        return _Answer(silence=f"it was lost while it was asked: {first_line(error)}")


def _told(node: Node, answer: _Answer) -> Node:
    """The node with what it said."""
    said = answer.said
    if said is None:
        return replace(node, silence=answer.silence)
    facts, silence = None, said["fault"]
    if said["facts"] is not None:
        try:
            facts = Facts.model_validate(said["facts"])
        except ValidationError as error:
            silence = f"it speaks another form: {error.error_count()} fields are not as here"
    return replace(
        node,
        facts=facts,
        silence=silence,
        python=said["python"],
        executable=said["executable"],
        wtsbench=said["wtsbench"],
        clock=_clock_of(said["time"], answer.asked, answer.came),
    )


def _probe() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The task. Ray sends the code of an inner function along, so that a node without a wtsbench can answer too."""

    def ask(question: dict[str, Any]) -> dict[str, Any]:
        import platform
        import sys
        import time

        said: dict[str, Any] = {
            "python": platform.python_version(),
            "executable": sys.executable,
            "wtsbench": None,
            "facts": None,
        }
        fault = None
        try:
            import wtsbench

            said["wtsbench"] = wtsbench.__version__
            from wtsbench.execution.node_answers import Question
            from wtsbench.execution.node_facts import facts

            said["facts"] = facts(Question.model_validate(question)).model_dump(mode="json")
        except Exception as error:  # noqa: BLE001  # whatever is wrong with an installation is what is asked for
            fault = f"{type(error).__name__}: {error}"
        return {**said, "fault": fault, "time": time.time()}

    return ask


def _clock(node: Node) -> Clock | None:
    """The node's clock, measured more closely than by its answer: its worker runs now, and answers in milliseconds."""
    best = node.clock
    if best is None:
        return None
    tick = _on(_task(_tick()), node.id)
    for _ in range(_TICKS):
        asked = time.time()
        try:
            said = ray.get(tick.remote(), timeout=_TICK_SECONDS)
        except ray.exceptions.RayError:
            return best
        measured = _clock_of(said, asked, time.time())
        best = min(best, measured, key=lambda clock: clock.uncertain)
    return best


def _tick() -> Callable[[], float]:
    def tick() -> float:
        import time

        return time.time()

    return tick


def _clock_of(theirs: float, asked: float, came: float) -> Clock:
    return Clock(ahead=theirs - (asked + came) / 2, uncertain=(came - asked) / 2)


def _task(function: Callable[..., Any]) -> Any:
    """It takes no resources, so that it runs on a node that is full of trials, too."""
    return ray.remote(num_cpus=0, max_retries=0)(function)


def _on(task: Any, node: str) -> Any:
    return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False), name="wtsbench-preflight")
