"""The one interface every strategy is written against.

A strategy may decide at four points; each has a default that makes the plain strategy `naive`:

1. `supervisors` (planning): whose predictions the student learns from, and so the chain of trials before it;
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
    """What a strategy knows when it names its supervisors."""

    weak: str
    """Name of the pair's weak model."""
    strong: str
    """Name of the pair's strong model."""
    ladder: tuple[str, ...]
    """Names of the models of the pair's family strictly between weak and strong by size, smallest first."""
    seed: int
    form: Form = "classification"
    """The task's."""
    frames: tuple[str, ...] = ()
    """Other wordings of an item that the task's manifest has, with `{text}` where the item's text goes."""
    zero_shot: ZeroShot | None = None
    """How a model that was not trained on the task is asked, where the manifest says it."""


@dataclass(frozen=True, kw_only=True)
class Supervisor:
    """A trial that must come first: its predictions on `transfer` and `validation` are the student's labels."""

    role: Literal[Role.WEAK, Role.STUDENT]
    model: str
    seed: int
    strategy: StrategyCall | None = None
    """For students, how they learn."""
    recipe: StrategyCall | None = None
    """For weak supervisors, how they differ from plain finetuning: a name in `strategies.recipes`, with parameters."""
    supervisors: tuple[Supervisor, ...] = ()
    """For students, from whom; for weak supervisors with a recipe, those whose predictions it builds on."""


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
    """The weak labels of one split, item by item. No ground truth but `truth`."""

    item_ids: tuple[str, ...]
    texts: tuple[str, ...]
    probabilities: Floats
    """[S, N, C], one distribution per supervisor and item, in the order of `Strategy.supervisors`."""
    asked: Floats | None = None
    """[S, V, N, C], the same under V further wordings of each item, where the supervisors' recipe asks them so."""
    validation: Supervision | None = None
    """The weak labels of `validation`, for strategies that select by them; None within itself."""
    truth: Labelled | None = None
    """The ground truth that the strategy declared (`Strategy.truth_budget`), items of `weak_train`."""
    said_of_truth: Floats | None = None
    """[S, T, C] what the supervisors say of the T items of `truth`, which they were not trained on; NaN of a supervisor
    whose recipe does not have it asked (`recipes.Reserved` and `recipes.Prior` do)."""
    seed: int = 0
    """The trial's, for what a strategy draws itself: see `random`."""

    def random(self, purpose: str) -> np.random.Generator:
        """A generator for one purpose, a function of the trial's seed and the purpose alone."""
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
    """When a fit stops before its time. It never sees ground truth: `held_out` has weak labels."""

    held_out: Labelled
    """Items that are not trained on; their weighted mean cross-entropy to the targets is watched."""
    checks: int
    """Looks at it in the whole fit, evenly spaced, the last at the end."""
    patience: int
    """Looks without a new best after which the fit ends. The weights of the best look are kept."""


class Student(Protocol):
    """The strong model as `Strategy.run` handles it."""

    @property
    def classes(self) -> int:
        """Number of classes C."""

    def fit(self, items: Labelled, strategy: Strategy) -> None:
        """Train the current weights on `items`, minimising `strategy.loss`."""

    def fit_monitored(self, items: Labelled, strategy: Strategy, monitor: Monitor) -> None:
        """The same, with an eye on items that are not trained on."""

    def fit_language(self, texts: Sequence[str], epochs: float) -> None:
        """Train the current body as a language model on the texts; fails where the model is none."""

    def reset(self) -> None:
        """Back to the pretrained weights, with a freshly seeded head."""

    def predict(self, texts: Sequence[str]) -> Floats:
        """[N, C] probabilities of the current weights."""

    def activations(self, texts: Sequence[str]) -> Floats:
        """[N, H] what the pretrained body, before any training, says of each text."""


class Strategy(ABC):
    """Base of all strategies; as it stands it is `naive` finetuning on the mean of the supervisors' labels."""

    name: ClassVar[str]
    forms: ClassVar[tuple[Form, ...]] = ("classification",)
    """The forms of tasks it is for. In a grid it is taken for the tasks of these forms."""
    filters: bool = False
    """Whether it keeps some of the items only: then the control `random_filter` has something to match."""
    language: bool = False
    """Whether the student has to be a language model, as `Student.fit_language` asks: no encoder."""
    asks: ClassVar[bool] = False
    """Whether the strong model is asked untrained (`prior`): it has to be a language model, and the task has to say
    how it is asked."""
    control: ClassVar[bool] = False
    """Whether it is there to compare others with, not to be compared itself."""
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
        """What a trial's identity holds of the strategy's code: its version. One that works by another adds that's."""
        return self.version

    @property
    def suits(self) -> tuple[Form, ...]:
        """The forms of tasks that it is for with these parameters.

        A continuation is no class and has no argmax: hard labels and a linear probe, which is a classification head,
        are for classification alone.
        """
        classes = self.parameters.labels == "hard" or self.parameters.finetune == "linear_probe"
        return tuple(form for form in self.forms if form == "classification" or not classes)

    @property
    def matched(self) -> ControlName | None:
        """The control that its gain is to be held against, beside those for every strategy; None where it has none."""
        if self.control:
            return None
        return "random_filter" if self.filters else "self_labels" if self.asks else None

    def supervisors(self, context: PlanningContext) -> tuple[Supervisor, ...]:
        """Whose predictions supervise the student: here the weak model with the student's own seed.

        Raises SpecError where the pair does not allow the strategy (no model between weak and strong, say).
        """
        return (Supervisor(role=Role.WEAK, model=context.weak, seed=context.seed),)

    def truth_budget(self) -> int:
        """How many items of `weak_train` come with their ground truth; 0 for weak-to-strong learning proper."""
        return 0

    def prepare(self, supervision: Supervision) -> Labelled:
        """Targets, weights and the set of items: here the mean distribution, hardened if asked, all weights 1."""
        targets = supervision.probabilities.mean(axis=0)
        if self.parameters.labels == "hard":
            targets = np.eye(targets.shape[1])[targets.argmax(axis=1)]
        return Labelled(
            item_ids=supervision.item_ids,
            texts=supervision.texts,
            targets=targets,
            weights=np.ones(len(targets)),
        )

    def kept(self, supervision: Supervision) -> int:
        """For strategies that filter: how many items they keep, which `random_filter` matches."""
        return len(self.prepare(supervision).item_ids)

    def loss(self, step: Step) -> torch.Tensor:
        """Scalar loss of a batch: here the weighted mean cross-entropy to the targets."""
        return cross_entropy(step.logits, step.targets, step.weights)

    def run(self, student: Student, supervision: Supervision) -> None:
        """The student's training from first to last: here one fit on what `prepare` gives."""
        student.fit(self.prepare(supervision), self)


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose of a trial with this seed."""
    content = hashlib.sha256(f"{seed}/strategy/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(content[:8], "big"))


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean over the batch of -sum_c targets[b, c] log softmax(logits)[b, c].

    logits [B, C], targets [B, C], weights [B]; the sum is divided by B, so that weights of mean 1 keep the scale.
    """
    return (-(targets * logits.log_softmax(dim=-1)).sum(dim=-1) * weights).mean()
