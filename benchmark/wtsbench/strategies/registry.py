"""Registry of strategies by name: those of wtsbench, and those of other packages.

A package adds a strategy with an entry point of the group `wtsbench.strategies`, whose name equals the class's `name`:

    [project.entry-points."wtsbench.strategies"]
    mine = "my_package.mine:Mine"
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from wtsbench.errors import SpecError
from wtsbench.spec.faults import nearest
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.wording import worded
from wtsbench.strategies.adaboost import AdaBoost
from wtsbench.strategies.adaptconf import AdaptConf
from wtsbench.strategies.base import Strategy
from wtsbench.strategies.best_of_n import BestOfN
from wtsbench.strategies.bootstrap import Bootstrap
from wtsbench.strategies.confidence_filter import ConfidenceFilter
from wtsbench.strategies.contrastive_decoding import ContrastiveDecoding
from wtsbench.strategies.cosupervise import Cosupervise
from wtsbench.strategies.dpo import Dpo
from wtsbench.strategies.early_stop import EarlyStop
from wtsbench.strategies.ensemble import Ensemble
from wtsbench.strategies.entropy import Entropy
from wtsbench.strategies.generation_filter import GenerationFilter
from wtsbench.strategies.linear_probe import LinearProbe
from wtsbench.strategies.logconf import LogConf
from wtsbench.strategies.lora import Lora
from wtsbench.strategies.mix import Mix
from wtsbench.strategies.naive import Naive
from wtsbench.strategies.noisy_channel import NoisyChannel
from wtsbench.strategies.probe_relabel import ProbeRelabel
from wtsbench.strategies.product import Product
from wtsbench.strategies.random_filter import RandomFilter
from wtsbench.strategies.reliability import Reliability
from wtsbench.strategies.reverse_kl import ReverseKl
from wtsbench.strategies.selective import Selective
from wtsbench.strategies.self_labels import SelfLabels
from wtsbench.strategies.self_refine import SelfRefine
from wtsbench.strategies.task_finetuning import TaskFinetuning
from wtsbench.strategies.trust import Trust
from wtsbench.strategies.window import Window
from wtsbench.strategies.wspo import Wspo

GROUP = "wtsbench.strategies"

BUILT_IN: dict[str, type[Strategy]] = {
    Naive.name: Naive,
    LogConf.name: LogConf,
    Entropy.name: Entropy,
    Product.name: Product,
    AdaptConf.name: AdaptConf,
    Window.name: Window,
    ReverseKl.name: ReverseKl,
    ConfidenceFilter.name: ConfidenceFilter,
    Reliability.name: Reliability,
    ProbeRelabel.name: ProbeRelabel,
    Trust.name: Trust,
    Selective.name: Selective,
    NoisyChannel.name: NoisyChannel,
    SelfRefine.name: SelfRefine,
    EarlyStop.name: EarlyStop,
    TaskFinetuning.name: TaskFinetuning,
    LinearProbe.name: LinearProbe,
    Lora.name: Lora,
    Bootstrap.name: Bootstrap,
    Ensemble.name: Ensemble,
    AdaBoost.name: AdaBoost,
    Cosupervise.name: Cosupervise,
    Mix.name: Mix,
    RandomFilter.name: RandomFilter,
    SelfLabels.name: SelfLabels,
    BestOfN.name: BestOfN,
    GenerationFilter.name: GenerationFilter,
    Dpo.name: Dpo,
    Wspo.name: Wspo,
    ContrastiveDecoding.name: ContrastiveDecoding,
}


ParameterFault = tuple[tuple[str | int, ...], str, str | None]
"""The key path below the strategy, what is wrong, and the nearest valid name."""


class StrategyFaults(SpecError):
    """A strategy's parameters are wrong in one or more places."""

    def __init__(self, strategy: str, faults: tuple[ParameterFault, ...]) -> None:
        self.strategy = strategy
        self.faults = faults
        super().__init__("\n  ".join(f"strategy {strategy}: {_sentence(*fault)}" for fault in faults))

    def __reduce__(self) -> tuple[object, ...]:
        return StrategyFaults, (self.strategy, self.faults)


def names() -> tuple[str, ...]:
    """All names, those of wtsbench first."""
    return (*BUILT_IN, *sorted(set(_third_party()) - set(BUILT_IN)))


def matching(target: str) -> tuple[str, ...]:
    """The strategies that a name stands for: one of that name, or all of a package, by its own or its module's name.

    Raises:
        StrategyFaults: there is no such strategy or package.
    """
    if target in names():
        return (target,)
    wanted = target.replace("-", "_").lower()
    matches = tuple(
        name
        for name, point in sorted(_third_party().items())
        if wanted == point.module.partition(".")[0].lower()
        or (point.dist is not None and wanted == point.dist.name.replace("-", "_").lower())
    )
    if not matches:
        fault = (("name",), "is no strategy, and no package that brings one in", nearest(target, names()))
        raise StrategyFaults(target, (fault,))
    return matches


def get(name: str) -> type[Strategy]:
    """The class of a strategy.

    Raises:
        StrategyFaults: there is no strategy of this name.
        SpecError: another package's strategy cannot be loaded.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    point = _third_party().get(name)
    if point is None:
        known = names()
        fault = (("name",), f"is not known; there are {', '.join(known)}", nearest(name, known))
        raise StrategyFaults(name, (fault,))
    return _load(point)


def package_of(name: str) -> str | None:
    """The package of a strategy, as `name==version`; None for those of wtsbench.

    Two packages may have strategies of one name, and a package may change one without raising the strategy's version.
    """
    point = None if name in BUILT_IN else _third_party().get(name)
    if point is None or point.dist is None:
        return None
    return f"{point.dist.name}=={point.dist.version}"


def resolve(call: StrategyCall) -> Strategy:
    """The strategy with its parameters checked and completed by their defaults.

    Raises:
        StrategyFaults: the name or parameters are wrong; all faults at once.
    """
    kind = get(call.name)
    try:
        return kind(kind.Parameters.model_validate(call.parameters))
    except ValidationError as error:
        raise StrategyFaults(call.name, tuple(_fault(kind, dict(entry)) for entry in error.errors())) from None


def full_call(strategy: Strategy) -> StrategyCall:
    """The call with all parameters, defaults included, for a trial's identity."""
    return StrategyCall(name=strategy.name, parameters=strategy.parameters.model_dump(mode="json"))


def short_label(call: StrategyCall) -> str:
    """The shortest form of a strategy in a grid: with those parameters that differ from the defaults."""
    try:
        kind = get(call.name)
    except SpecError:  # of a package that is no longer installed
        return call.label
    defaults = kind.Parameters.model_construct().model_dump(mode="json")
    given = {name: _short(value) for name, value in call.parameters.items() if value != defaults.get(name, ...)}
    return call.model_copy(update={"parameters": given}).label


def _short(value: Any) -> Any:
    """The same for a parameter's value, which may be a strategy itself."""
    nested = isinstance(value, dict) and value.keys() >= {"name", "parameters"}
    return short_label(StrategyCall.model_validate(value)) if nested else value


@cache
def _third_party() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _load(point: EntryPoint) -> type[Strategy]:
    try:
        kind = point.load()
    except Exception as error:  # another package's import may raise anything; the message names the package
        raise SpecError(
            f"strategy {point.name}: {point.value} cannot be loaded: {type(error).__name__}: {error}",
            remedy="repair or remove the package that brings it.",
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Strategy) and getattr(kind, "name", None) == point.name):
        raise SpecError(
            f"strategy {point.name}: {point.value} is not a subclass of wtsbench.strategies.base.Strategy of this name",
            remedy="the class's `name` and the entry point's name must be equal.",
        )
    return kind


def _fault(kind: type[Strategy], entry: dict[str, Any]) -> ParameterFault:
    path = tuple(entry["loc"])
    if entry["type"] == "extra_forbidden":
        known = sorted(kind.Parameters.model_fields)
        return path, f"is not a parameter; there are {', '.join(known)}", nearest(str(path[-1]), known)
    message, guess = worded(entry)
    return path, message, guess


def _sentence(path: tuple[str | int, ...], message: str, guess: str | None) -> str:
    hint = f" (did you mean {guess!r}?)" if guess is not None else ""
    key = ".".join(map(str, path))
    return f"{key} {message}{hint}" if key != "name" else f"{message}{hint}"
