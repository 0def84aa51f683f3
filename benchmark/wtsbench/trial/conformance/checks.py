"""The checks, in order. Each gets a `Subject` and returns what it saw, or raises `Violation` with what is wrong.

Shapes: N items, B items of a batch, C classes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError

from wtsbench.errors import UserError
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Form, Role
from wtsbench.strategies import recipes, registry
from wtsbench.strategies.base import Labelled, Parameters, Step, Strategy, Supervision, Supervisor
from wtsbench.trial.conformance import world
from wtsbench.trial.run import run_folder

HEAVY = ("torch", "transformers", "datasets", "ray", "docker", "duckdb", "scipy", "sklearn", "pandas")
"""What planning must not wait for."""
_TOLERANCE = 1e-6
_SECONDS = 300.0


class Violation(Exception):
    """The strategy breaks a promise."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One line of the table."""

    strategy: str
    check: str
    verdict: Literal["passed", "failed", "skipped"]
    detail: str


@dataclass(frozen=True)
class Subject:
    """What is checked: one strategy with its default parameters."""

    name: str
    scratch: Path

    @cached_property
    def kind(self) -> type[Strategy]:
        """Its class."""
        return registry.get(self.name)

    @cached_property
    def strategy(self) -> Strategy:
        """With its defaults."""
        return registry.resolve(StrategyCall(name=self.name))

    def labels(self, classes: int = 2) -> Supervision:
        """Constructed weak labels."""
        return world.supervision(self.supervisors, min(self.strategy.truth_budget(), 16), classes=classes)

    @cached_property
    def supervisors(self) -> tuple[Supervisor, ...]:
        """Whom it asks for."""
        return self.strategy.supervisors(world.CONTEXT)


def check(name: str) -> Iterator[Verdict]:
    """All verdicts on one strategy. A check whose ground failed is skipped."""
    with tempfile.TemporaryDirectory(prefix="wtsbench-check-") as scratch:
        subject = Subject(name, Path(scratch))
        broken = False
        for title, run, applies in CHECKS:
            if broken:
                yield Verdict(strategy=name, check=title, verdict="skipped", detail="a check before it failed")
                continue
            if applies == "classification" and "classification" not in subject.kind.forms:
                yield Verdict(strategy=name, check=title, verdict="skipped", detail="for classification only")
                continue
            try:
                yield Verdict(strategy=name, check=title, verdict="passed", detail=run(subject))
            except Violation as error:
                yield Verdict(strategy=name, check=title, verdict="failed", detail=str(error))
                broken = title in GROUND
            except Exception as error:  # noqa: BLE001  # another package's code may raise anything: that is a verdict
                first = next(iter(str(error).strip().splitlines()), "")
                yield Verdict(
                    strategy=name, check=title, verdict="failed", detail=f"{type(error).__name__}: {first}"[:300]
                )
                broken = title in GROUND


def form(subject: Subject) -> str:
    """Entry point, class and description."""
    try:
        kind = subject.kind
    except UserError as error:
        raise Violation(error.message) from error
    for field in ("summary", "source"):
        _expect(isinstance(getattr(kind, field, None), str) and bool(getattr(kind, field)), f"`{field}` is missing")
    _expect(_is(kind.version, int) and kind.version >= 1, "`version` is not a whole number from 1 on")
    _expect(set(kind.forms) <= {"classification", "generation"} and bool(kind.forms), f"`forms` are {kind.forms!r}")
    _expect(bool((kind.__doc__ or "").strip()), "the class has no docstring")
    return f"{kind.__module__}:{kind.__qualname__}, version {kind.version}"


def parameters(subject: Subject) -> str:
    """Validated, described, and kept as JSON."""
    kind = subject.kind.Parameters
    _expect(issubclass(kind, Parameters), "`Parameters` is no subclass of wtsbench.strategies.base.Parameters")
    full = registry.full_call(subject.strategy)
    written = json.loads(json.dumps(full.model_dump(mode="json"), allow_nan=False))
    again = registry.full_call(registry.resolve(StrategyCall.model_validate(written)))
    _expect(again == full, "parameters that were written as JSON and read again are others")
    try:
        kind.model_validate({"surely_no_parameter": 1})
    except ValidationError:
        pass
    else:
        raise Violation("an unknown parameter is taken without complaint; inherit the strictness of base.Parameters")
    bare = sorted(name for name, field in kind.model_fields.items() if not field.description)
    _expect(not bare, f"no docstring below {', '.join(bare)}")
    return ", ".join(full.parameters)


def imports(subject: Subject) -> str:
    """Planning loads no heavy library with it."""
    code = (
        f"import importlib, sys; importlib.import_module({subject.kind.__module__!r});"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=_SECONDS)
    _expect(ended.returncode == 0, f"{subject.kind.__module__} cannot be imported alone")
    heavy = ended.stdout.split()
    _expect(not heavy, f"importing its module imports {', '.join(heavy)}; import them inside functions")
    return "nothing heavy"


def planning(subject: Subject) -> str:
    """Supervisors that can be planned, the same every time."""
    strategy = subject.strategy
    for form_of_task in strategy.forms:
        context = replace(world.CONTEXT, form=form_of_task)
        found = strategy.supervisors(context)
        _expect(_is(found, tuple) and bool(found), "`supervisors` gives no tuple with at least one")
        _expect(found == strategy.supervisors(context), "`supervisors` gives others when asked twice")
        for supervisor in found:
            _plan(supervisor, form_of_task)
    budget = strategy.truth_budget()
    _expect(_is(budget, int) and budget >= 0, f"`truth_budget` is {budget!r}")
    said = f"{len(found)} supervisor{'s' if len(found) > 1 else ''}"
    return f"{said}, {budget} items of ground truth declared" if budget else f"{said}, no ground truth"


def labels(subject: Subject) -> str:
    """Targets and weights of the right form, made from the given labels and seed alone."""
    for classes in (2, 3):
        given = subject.labels(classes)
        for what, made_from in (("", given), (" where the supervisors are certain of one class", world.certain(given))):
            with _global_seeds(1):
                first = subject.strategy.prepare(made_from)
            with _global_seeds(2):
                second = subject.strategy.prepare(made_from)
            _well_formed(first, given, classes, what)
            _expect(_same(first, second), f"`prepare` gives others when called twice{what}; draw from "
                    "`supervision.random`")  # fmt: skip
    return f"{len(first.item_ids)} of {len(given.item_ids)} items in the last case"


def order(subject: Subject) -> str:
    """An item's label does not depend on where it stands."""
    given = subject.labels()
    turned = subject.strategy.prepare(world.reordered(given, np.arange(len(given.item_ids))[::-1]))
    plain = subject.strategy.prepare(given)
    _expect(sorted(turned.item_ids) == sorted(plain.item_ids), "another order of the items keeps other items")
    places = {item: row for row, item in enumerate(turned.item_ids)}
    rows = [places[item] for item in plain.item_ids]
    same = np.allclose(turned.targets[rows], plain.targets, atol=_TOLERANCE) and np.allclose(
        turned.weights[rows], plain.weights, atol=_TOLERANCE
    )
    _expect(same, "another order of the items gives an item another label or weight")
    return "items in reverse"


def loss(subject: Subject) -> str:
    """A finite scalar with a gradient, whatever the batch, and the same for every order within it."""
    for classes in (2, 3):
        for size in (1, 2, 16):
            for sure in (False, True):
                _loss_of_batch(subject.strategy, classes, size, sure)
    return "batches of 1, 2 and 16 items, 2 and 3 classes"


def trial(subject: Subject) -> str:
    """A whole trial: predictions that are numbers, and the same bits in another process."""
    first, second = (subject.scratch / name for name in ("first", "second"))
    _here(subject, first)
    predictions = world.predictions_of(first)
    values = np.array(list(predictions.values()))
    _expect(bool(np.isfinite(values).all()), "the student predicts NaN")
    ended = _child(subject, second)
    _expect(ended.returncode == 0, f"in another process the trial fails: {_reason(second)}")
    _expect(world.predictions_of(second) == predictions, "the same trial in another process gives other predictions")
    return f"{len(predictions)} predictions, the same in two processes"


def seeds(subject: Subject) -> str:
    """Another seed is another trial, and one trial leaves nothing behind for the next."""
    other, again = (subject.scratch / name for name in ("other", "again"))
    _here(subject, other, seed=1)
    _here(subject, again)
    first = world.predictions_of(subject.scratch / "first")
    _expect(world.predictions_of(again) == first, "after a trial of another seed, the same trial gives others")
    _expect(world.predictions_of(other) != first, "another seed gives the same predictions")
    return "two seeds, in turn"


def resume(subject: Subject) -> str:
    """Killed in the middle, and run anew as a further attempt, it gives what it would have given."""
    whole = json.loads((subject.scratch / "first" / "scratch" / "progress.json").read_text())["total"]
    killed, anew = (subject.scratch / name for name in ("killed", "anew"))
    ended = _forked(subject, killed, whole / 2)
    _expect(ended == -signal.SIGKILL, "the trial ended before half of it was done")
    _here(subject, anew)
    same = world.predictions_of(anew) == world.predictions_of(subject.scratch / "first")
    _expect(same, "after a killed attempt the trial gives other predictions")
    return "killed half way, run anew"


Check = tuple[str, Callable[[Subject], str], Literal["all", "classification"]]
CHECKS: tuple[Check, ...] = (
    ("form", form, "all"),
    ("parameters", parameters, "all"),
    ("imports", imports, "all"),
    ("planning", planning, "all"),
    ("labels", labels, "classification"),
    ("order", order, "classification"),
    ("loss", loss, "classification"),
    ("trial", trial, "classification"),
    ("seeds", seeds, "classification"),
    ("resume", resume, "classification"),
)
GROUND = frozenset({"form", "parameters", "planning", "labels", "loss", "trial"})
"""Checks without which those behind them mean nothing."""


def main(arguments: list[str]) -> int:
    """Print verdicts as JSON; or run the trial of a folder."""
    if arguments[:1] == ["--trial"]:
        return run_folder(Path(arguments[1]))
    verdicts = [verdict for name in arguments for verdict in check(name)]
    print(json.dumps([vars(verdict) for verdict in verdicts]))
    return 1 if any(verdict.verdict == "failed" for verdict in verdicts) else 0


def _expect(kept: bool, otherwise: str) -> None:
    if not kept:
        raise Violation(otherwise)


def _is(value: object, kind: type) -> bool:
    """Whether another package kept to the types."""
    return isinstance(value, kind)


def _plan(supervisor: Supervisor, form_of_task: Form) -> None:
    _expect(isinstance(supervisor, Supervisor), f"`supervisors` gives {supervisor!r}")
    _expect(supervisor.role in (Role.WEAK, Role.STUDENT), f"a supervisor has role {supervisor.role}")
    if supervisor.role is Role.STUDENT:
        _expect(supervisor.strategy is not None, "a student among the supervisors does not say how it learns")
        registry.resolve(supervisor.strategy or StrategyCall(name=""))
    if form_of_task == "generation":
        _expect(
            not supervisor.has_student, "a student supervises in generative tasks, where it writes nothing for others"
        )
    elif supervisor.recipe is not None:
        recipe = recipes.parse(supervisor.recipe)
        _expect(recipes.call(recipe) == supervisor.recipe, f"recipe {supervisor.recipe.name} is not complete")
    for below in supervisor.supervisors:
        _plan(below, form_of_task)


def _well_formed(items: Labelled, given: Supervision, classes: int, what: str) -> None:
    _expect(isinstance(items, Labelled), f"`prepare` gives a {type(items).__name__}, not base.Labelled{what}")
    size = len(items.item_ids)
    _expect(size > 0, f"`prepare` keeps no item{what}")
    _expect(len(set(items.item_ids)) == size, f"`prepare` has an item twice{what}")
    texts = dict(zip(given.item_ids, given.texts, strict=True))
    texts |= dict(zip(given.truth.item_ids, given.truth.texts, strict=True)) if given.truth is not None else {}
    known = all(texts.get(item) == text for item, text in zip(items.item_ids, items.texts, strict=True))
    _expect(known, f"`prepare` has items that were not given{what}")
    _expect(
        items.targets.shape == (size, classes), f"targets have shape {items.targets.shape}, not {size, classes}{what}"
    )
    _expect(items.weights.shape == (size,), f"weights have shape {items.weights.shape}, not {(size,)}{what}")
    for name, values in (("targets", items.targets), ("weights", items.weights)):
        _expect(bool(np.isfinite(values).all()), f"{name} are not all numbers{what}")
        _expect(bool((values >= 0).all()), f"some {name} are negative{what}")
    _expect(bool(np.allclose(items.targets.sum(axis=1), 1)), f"targets do not add up to 1{what}")
    _expect(bool(items.weights.sum() > 0), f"all weights are 0{what}")


def _same(one: Labelled, other: Labelled) -> bool:
    return (
        one.item_ids == other.item_ids
        and np.array_equal(one.targets, other.targets)
        and np.array_equal(one.weights, other.weights)
    )


def _loss_of_batch(strategy: Strategy, classes: int, size: int, sure: bool) -> None:
    what = f" for {size} items of {classes} classes{', all surely of one' if sure else ''}"
    drawn = torch.Generator().manual_seed(size)
    logits = torch.randn(size, classes, generator=drawn) * 2
    targets = torch.rand(size, classes, generator=drawn) + 0.1
    targets = targets / targets.sum(dim=1, keepdim=True)
    if sure:
        targets = torch.nn.functional.one_hot(torch.zeros(size, dtype=torch.int64), classes).float()
    weights = torch.rand(size, generator=drawn) + 0.5
    found = []
    for rows in (torch.arange(size), torch.arange(size), torch.arange(size).flip(0)):
        given = Step(logits=logits[rows].requires_grad_(), targets=targets[rows], weights=weights[rows], progress=0.3)
        kept = [part.detach().clone() for part in (given.logits, given.targets, given.weights)]
        value = strategy.loss(given)
        _expect(_is(value, torch.Tensor) and value.dim() == 0, f"the loss is no scalar{what}")
        _expect(bool(torch.isfinite(value)), f"the loss is {value.item()}{what}")
        _expect(value.requires_grad, f"the loss has no gradient{what}")
        value.backward()  # type: ignore[no-untyped-call]  # torch's own
        slope = given.logits.grad
        _expect(slope is not None and bool(torch.isfinite(slope).all()), f"the gradient is not all numbers{what}")
        now = (given.logits, given.targets, given.weights)
        _expect(all(torch.equal(a, b) for a, b in zip(kept, now, strict=True)), f"the loss changes its inputs{what}")
        found.append(float(value.detach()))
    _expect(found[0] == found[1], f"the loss of one batch is {found[0]} and then {found[1]}{what}")
    near = abs(found[0] - found[2]) <= 1e-4 * max(1.0, abs(found[0]))
    _expect(near, f"the loss depends on the order within the batch{what}")


def _here(subject: Subject, folder: Path, *, seed: int = 0) -> None:
    """Run a trial in this process, with nothing on standard output but the verdicts."""
    world.write_trial(folder, _model(subject), subject.strategy, seed=seed)
    with _quiet():
        code = run_folder(folder)
    _expect(code == 0, f"the trial fails: {_reason(folder)}")


def _child(subject: Subject, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a trial in a fresh process."""
    world.write_trial(folder, _model(subject), subject.strategy)
    command = [sys.executable, "-m", "wtsbench.trial.conformance", "--trial", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)


def _forked(subject: Subject, folder: Path, passes: float) -> int:
    """Run a trial in a fork of this process that kills itself when it has come so far; how it ended."""
    world.write_trial(folder, _model(subject), subject.strategy)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        with _quiet():
            world.die_at(passes)
            run_folder(folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _model(subject: Subject) -> Path:
    folder = subject.scratch / "model"
    if not folder.exists():
        world.write_model(folder)
    return folder


def _reason(folder: Path) -> str:
    try:
        failure = json.loads((folder / "outbox" / "result.json").read_text())["failure"]
    except OSError:
        return "it wrote no result"
    return "" if failure is None else str(failure["message"])


@contextmanager
def _quiet() -> Iterator[None]:
    said = sys.stdout
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = said


@contextmanager
def _global_seeds(seed: int) -> Iterator[None]:
    """The global generators, in another state for each call, so that who draws from them is found out."""
    before: tuple[Any, ...] = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
