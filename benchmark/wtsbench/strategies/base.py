"""The interface of all strategies.

A strategy may override four methods; their defaults make the plain strategy `naive`:

1. `supervisors` (planning): whose predictions the student learns from, and so which trials come before it;
2. `prepare` (before training, numpy): labels, weights and the set of items;
3. `loss` (every step, torch): what the student minimises;
4. `run` (the whole student trial): how often, and on what, the student is trained.

This module and the modules of the strategies import no torch at their top: planning reads them too.

Shapes: S supervisors, N items, C classes, B items of a batch.
"""

from __future__ import annotations

import hashlib
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from wtsbench.spec.frozen import Frozen
from wtsbench.spec.generation import ZeroShot
from wtsbench.spec.grid import ControlName
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import Finetune
from wtsbench.spec.trial import Form, Role

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]


class Parameters(Frozen):
    """What every strategy takes; a strategy adds its own fields in a subclass."""

    labels: Literal["soft", "hard"] = "soft"
    """Learn from the supervisor's probabilities, or from its argmax."""
    finetune: Finetune | None = None
    """What of the student is trained: `full`, `lora` or `linear_probe`; null takes the training settings' choice."""


@dataclass(frozen=True, kw_only=True)
class PlanningContext:
    """What a strategy is given to name its supervisors."""

    weak: str
    """Name of the pair's weak model."""
    strong: str
    """Name of the pair's strong model."""
    ladder: tuple[str, ...]
    """Names of the models of the pair's family strictly between weak and strong by size, smallest first."""
    seed: int
    form: Form = "classification"
    """Form of the task."""
    frames: tuple[str, ...] = ()
    """Other wordings of an item that the task's manifest has, with `{text}` where the item's text goes."""
    zero_shot: ZeroShot | None = None
    """How to ask a model that was not trained on the task, if the manifest defines it."""

    def weak_supervisor(
        self, recipe: StrategyCall | None = None, supervisors: tuple[Supervisor, ...] = ()
    ) -> Supervisor:
        """The pair's weak model with the student's own seed; for the arguments see `Supervisor`."""
        return Supervisor(role=Role.WEAK, model=self.weak, seed=self.seed, recipe=recipe, supervisors=supervisors)


@dataclass(frozen=True, kw_only=True)
class Supervisor:
    """A trial that must come first: its predictions on `transfer` and `validation` are the student's labels."""

    role: Literal[Role.WEAK, Role.STUDENT]
    model: str
    seed: int
    strategy: StrategyCall | None = None
    """For students: their strategy."""
    recipe: StrategyCall | None = None
    """For weak supervisors other than plain finetuning: a name in `strategies.recipes`, with parameters."""
    supervisors: tuple[Supervisor, ...] = ()
    """For students: their supervisors; for weak supervisors with a recipe: those whose predictions it uses."""

    @property
    def has_student(self) -> bool:
        """Whether it, or one that it learns from, is a student; in generative tasks those write nothing for others."""
        return self.role is Role.STUDENT or any(below.has_student for below in self.supervisors)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Items with targets: what a student is trained on. Rows are aligned."""

    item_ids: tuple[str, ...]
    texts: tuple[str, ...]
    targets: Floats
    """[N, C] distributions over the classes."""
    weights: Floats
    """[N] non-negative; the loss of an item is multiplied by it."""

    def subset(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Labelled:
        """Only these rows, in order."""
        index = np.arange(len(self.item_ids))[rows]
        return replace(
            self,
            item_ids=tuple(self.item_ids[i] for i in index),
            texts=tuple(self.texts[i] for i in index),
            targets=self.targets[index],
            weights=self.weights[index],
        )


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """The weak labels of one split, item by item. No ground truth except `truth`."""

    item_ids: tuple[str, ...]
    texts: tuple[str, ...]
    probabilities: Floats
    """[S, N, C], one distribution per supervisor and item, in the order of `Strategy.supervisors`."""
    asked: Floats | None = None
    """[S, V, N, C], the same under V further wordings of each item, if the supervisors' recipe is `asked`."""
    validation: Supervision | None = None
    """The weak labels of `validation`, for strategies that select by them; None within itself."""
    truth: Labelled | None = None
    """The ground truth that the strategy declared (`Strategy.truth_budget`), items of `weak_train`."""
    said_of_truth: Floats | None = None
    """[S, T, C] the supervisors' predictions for the T items of `truth`, which they were not trained on; NaN for one
    whose recipe does not predict them (`recipes.Reserved` and `recipes.Prior` do)."""
    seed: int = 0
    """The trial's seed, for a strategy's own random draws: see `random`."""

    def random(self, purpose: str) -> np.random.Generator:
        """A random generator that depends on the trial's seed and the purpose only."""
        return generator(self.seed, purpose)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimisation step, as the loss sees it."""

    logits: torch.Tensor
    """[B, C] float32 student logits, with gradient."""
    targets: torch.Tensor
    """[B, C] float32 label distributions from `prepare`."""
    weights: torch.Tensor
    """[B] float32."""
    progress: float
    """Share of the optimisation steps already done, in [0, 1)."""


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """Early stopping of a fit. It never sees ground truth: `held_out` has weak labels."""

    held_out: Labelled
    """Items that are not trained on; their weighted mean cross-entropy to the targets is watched."""
    checks: int
    """Number of checks in the whole fit, evenly spaced, the last at the end."""
    patience: int
    """Checks without a new best after which the fit ends. The weights of the best check are kept."""


class Student(Protocol):
    """The strong model as `Strategy.run` sees it."""

    @property
    def classes(self) -> int:
        """Number of classes C."""

    def fit(self, items: Labelled, strategy: Strategy) -> None:
        """Train the current weights on `items`, minimising `strategy.loss`."""

    def fit_monitored(self, items: Labelled, strategy: Strategy, monitor: Monitor) -> None:
        """The same with early stopping."""

    def fit_language(self, texts: Sequence[str], epochs: float) -> None:
        """Train the current body as a language model on the texts; fails for other models."""

    def reset(self) -> None:
        """Reset to the pretrained weights and a freshly seeded head."""

    def predict(self, texts: Sequence[str]) -> Floats:
        """[N, C] probabilities of the current weights."""

    def activations(self, texts: Sequence[str]) -> Floats:
        """[N, H] activations of the pretrained body, before any training."""


class Strategy(ABC):
    """Base of all strategies; its defaults are `naive` finetuning on the mean of the supervisors' labels."""

    name: ClassVar[str]
    forms: ClassVar[tuple[Form, ...]] = ("classification",)
    """The forms of tasks that it supports; in a grid it is used for those tasks only."""
    filters: bool = False
    """Whether it drops items: then the control `random_filter` can match their number."""
    language: bool = False
    """Whether the student must be a language model, as for `Student.fit_language`, and not an encoder."""
    asks: ClassVar[bool] = False
    """Whether the untrained strong model is asked (`prior`): it must be a language model, and the task must define
    how to ask it."""
    control: ClassVar[bool] = False
    """Whether it is a control, which is not ranked."""
    summary: ClassVar[str]
    """One line for `wtsbench strategies`."""
    source: ClassVar[str]
    """Paper or code the formula comes from."""
    version: ClassVar[int] = 1
    """Raise it when results change: stored trials of another version are not reused."""
    Parameters: ClassVar[type[Parameters]] = Parameters

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    def revision(self) -> int:
        """Version of the strategy's code in a trial's identity. A strategy that uses another adds the other's."""
        return self.version

    @property
    def suits(self) -> tuple[Form, ...]:
        """The forms of tasks that it supports with these parameters.

        Hard labels and a linear probe are for classification only: a continuation has no argmax, and a probe is a
        classification head.
        """
        classes = self.parameters.labels == "hard" or self.parameters.finetune == "linear_probe"
        return tuple(form for form in self.forms if form == "classification" or not classes)

    @property
    def matched(self) -> ControlName | None:
        """The additional control for this strategy's gain, besides those for every strategy; None for none."""
        if self.control:
            return None
        return "random_filter" if self.filters else "self_labels" if self.asks else None

    def supervisors(self, context: PlanningContext) -> tuple[Supervisor, ...]:
        """The student's supervisors: here the weak model with the student's own seed.

        Raises SpecError if the pair does not allow the strategy (such as no model between weak and strong).
        """
        return (context.weak_supervisor(),)

    def truth_budget(self) -> int:
        """Number of items of `weak_train` given with ground truth; 0 in weak-to-strong learning in the strict sense."""
        return 0

    def prepare(self, supervision: Supervision) -> Labelled:
        """Targets, weights and the set of items: here the mean distribution, hardened if asked, all weights 1."""
        targets = supervision.probabilities.mean(axis=0)
        if self.parameters.labels == "hard":
            targets = one_hot(targets)
        return Labelled(
            item_ids=supervision.item_ids,
            texts=supervision.texts,
            targets=targets,
            weights=np.ones(len(targets)),
        )

    def kept(self, supervision: Supervision) -> int:
        """For strategies that filter: the number of items kept, which `random_filter` matches."""
        return len(self.prepare(supervision).item_ids)

    def loss(self, step: Step) -> torch.Tensor:
        """Scalar loss of a batch: here the weighted mean cross-entropy to the targets."""
        return cross_entropy(step.logits, step.targets, step.weights)

    def run(self, student: Student, supervision: Supervision) -> None:
        """The whole training of the student: here one fit on the result of `prepare`."""
        student.fit(self.prepare(supervision), self)


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A random generator for one purpose of a trial with this seed."""
    content = hashlib.sha256(f"{seed}/strategy/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(content[:8], "big"))


def one_hot(distributions: Floats) -> Floats:
    """[..., C]: 1 at the most probable class of distributions [..., C], the lower one of equals, and 0 elsewhere."""
    return np.asarray(np.eye(distributions.shape[-1])[distributions.argmax(axis=-1)])


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean over the batch of -sum_c targets[b, c] log softmax(logits)[b, c].

    logits [B, C], targets [B, C], weights [B]; the sum is divided by B, so that weights of mean 1 keep the scale.
    """
    return (-(targets * logits.log_softmax(dim=-1)).sum(dim=-1) * weights).mean()


def mixed_loss(step: Step, own: torch.Tensor, weight: float | torch.Tensor) -> torch.Tensor:
    """Scalar loss of a batch whose targets mix weak labels with the student's own: (1 - c) w + c o.

    Args:
        step: logits and weak labels w [B, C].
        own: the student's own labels o [B, C], without gradient.
        weight: c, one number or [B, 1]; 0 gives exactly the loss of `naive`.
    """
    return cross_entropy(step.logits, (1 - weight) * step.targets + weight * own, step.weights)
