"""Strategies by name, their parameters, and whom they ask for supervision."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from wtsbench.errors import SpecError
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Role
from wtsbench.strategies import registry
from wtsbench.strategies.base import PlanningContext, Supervisor

CONTEXT = PlanningContext(weak="small", strong="large", ladder=("middle", "big"), seed=4)


def supervisors(name: str, context: PlanningContext = CONTEXT, **parameters: Any) -> tuple[Supervisor, ...]:
    """Whom the strategy asks for."""
    return registry.resolve(StrategyCall(name=name, parameters=parameters)).supervisors(context)


def test_every_strategy_describes_itself() -> None:
    """Each is listed with a name, a line and a source, and its defaults are valid."""
    assert {"naive", "logconf", "bootstrap", "ensemble"} <= set(registry.names())
    for name in registry.names():
        kind = registry.get(name)
        assert kind.name == name
        assert kind.summary
        assert kind.source
        assert registry.resolve(StrategyCall(name=name)).parameters == kind.Parameters()


def test_a_full_call_holds_every_default() -> None:
    """The call that goes into identities names all parameters, and means the same strategy again."""
    full = registry.full_call(registry.resolve(StrategyCall(name="logconf", parameters={"max_weight": 0.75})))
    assert full.parameters == {"labels": "soft", "finetune": None, "max_weight": 0.75, "variant": "as_published"}
    assert registry.full_call(registry.resolve(full)) == full


def test_an_unknown_name_gets_the_nearest() -> None:
    """A typo in a strategy's name is an error that names the right one."""
    with pytest.raises(SpecError, match="did you mean 'logconf'"):
        registry.resolve(StrategyCall(name="logcnof"))


def test_all_faults_of_the_parameters_at_once() -> None:
    """Unknown keys and bad values are reported together, each with what would be right."""
    wrong = {"max_wieght": 0.5, "max_weight": 7, "variant": "as_publishd", "labels": "firm"}
    with pytest.raises(registry.StrategyFaults) as caught:
        registry.resolve(StrategyCall(name="logconf", parameters=wrong))
    assert {path[0] for path, _, _ in caught.value.faults} == set(wrong)
    said = str(caught.value)
    assert "did you mean 'max_weight'" in said
    assert "did you mean 'as_published'" in said
    assert "at most 1" in said
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own bytes, as Ray would carry them
    assert again.faults == caught.value.faults


@pytest.mark.parametrize("name", ["naive", "logconf"])
def test_the_weak_model_supervises(name: str) -> None:
    """`naive` and `logconf` ask for the pair's weak model with the student's seed."""
    assert supervisors(name) == (Supervisor(role=Role.WEAK, model="small", seed=4),)


def test_the_chain_of_bootstrap() -> None:
    """`bootstrap` asks for the last model of the ladder, taught by the one before, down to the weak model."""
    weak = Supervisor(role=Role.WEAK, model="small", seed=4)
    plain = StrategyCall(name="naive", parameters={"labels": "soft"})
    middle = Supervisor(role=Role.STUDENT, model="middle", seed=4, strategy=plain, supervisors=(weak,))
    big = Supervisor(role=Role.STUDENT, model="big", seed=4, strategy=plain, supervisors=(middle,))
    assert supervisors("bootstrap") == (big,)
    assert supervisors("bootstrap", via=["middle"]) == (middle,)
    hard = supervisors("bootstrap", via=["middle"], labels="hard")[0]
    assert hard.strategy == StrategyCall(name="naive", parameters={"labels": "hard"})


def test_a_chain_needs_a_model_between() -> None:
    """Without an intermediate model `bootstrap` is refused, with what to do about it."""
    alone = PlanningContext(weak="small", strong="large", ladder=(), seed=0)
    with pytest.raises(SpecError, match="no model between small and large") as caught:
        supervisors("bootstrap", alone)
    assert caught.value.remedy is not None
    assert "via" in caught.value.remedy
    assert supervisors("bootstrap", alone, via=["middle"])[0].model == "middle"


@pytest.mark.parametrize("via", [["small"], ["large"], ["middle", "middle"]])
def test_a_chain_meets_no_model_twice(via: list[str]) -> None:
    """A chain through the weak, the strong or one model twice is refused."""
    with pytest.raises(SpecError, match="twice in the chain"):
        supervisors("bootstrap", via=via)


def test_the_members_of_an_ensemble() -> None:
    """`ensemble` asks for the weak model with derived seeds, and for each further model once."""
    assert [(one.model, one.seed) for one in supervisors("ensemble")] == [
        ("small", 4),
        ("small", 1004),
        ("small", 2004),
    ]
    mixed = supervisors("ensemble", members=1, models=["other"])
    assert [(one.model, one.seed) for one in mixed] == [("small", 4), ("other", 4)]
    assert supervisors("ensemble", members=1) == supervisors("naive")


@pytest.mark.parametrize("models", [["small"], ["large"], ["other", "other"]])
def test_further_models_of_an_ensemble(models: list[str]) -> None:
    """The weak model, the student and a model named twice are no further weak models."""
    with pytest.raises(SpecError, match="ensemble"):
        supervisors("ensemble", models=models)


def _third_party(monkeypatch: pytest.MonkeyPatch, value: str, name: str = "mine") -> None:
    point = EntryPoint(name=name, value=value, group=registry.GROUP)
    monkeypatch.setattr(registry, "_third_party", lambda: {name: point})


def test_a_strategy_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point brings in a strategy, which is then known like those of wtsbench."""
    (tmp_path / "their_package.py").write_text(
        "from wtsbench.strategies.base import Strategy\n\n\n"
        "class Mine(Strategy):\n    name = 'mine'\n    summary = 'theirs'\n    source = 'them'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    _third_party(monkeypatch, "their_package:Mine")
    assert "mine" in registry.names()
    assert registry.resolve(StrategyCall(name="mine")).summary == "theirs"


@pytest.mark.parametrize("value", ["no_such_package:Mine", "os:getcwd"])
def test_a_broken_strategy_of_another_package(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point that cannot be loaded, or is no strategy, is an error that names it."""
    _third_party(monkeypatch, value)
    with pytest.raises(SpecError, match=value):
        registry.get("mine")


def test_planning_imports_nothing_heavy() -> None:
    """Resolving strategies loads no torch, transformers or anything else that takes long."""
    code = (
        "import sys\nfrom wtsbench.strategies import registry\nfrom wtsbench.spec.grid import StrategyCall\n"
        "registry.resolve(StrategyCall(name='logconf'))\n"
        "print(sorted({'torch', 'transformers', 'ray', 'docker', 'duckdb', 'datasets', 'scipy'} & set(sys.modules)))"
    )
    path = os.pathsep.join(str(Path(part).resolve()) for part in sys.path if part)
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"


def test_a_chain_is_trained_alike() -> None:
    """What `finetune` asks of a bootstrapped student it asks of the students before it, and of none where null."""
    for asked in (None, "lora"):
        strategy = registry.resolve(StrategyCall(name="bootstrap", parameters={"via": ["middle"], "finetune": asked}))
        (stage,) = strategy.supervisors(PlanningContext(weak="small", strong="large", ladder=(), seed=0))
        assert stage.strategy is not None
        assert registry.full_call(registry.resolve(stage.strategy)).parameters["finetune"] == asked
