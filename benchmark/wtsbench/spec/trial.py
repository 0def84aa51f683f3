"""The trial: one model, one task, one seed, one source of labels, one strategy."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from wtsbench.spec.frozen import Frozen
from wtsbench.spec.generation import GenerationSettings
from wtsbench.spec.identity import IDENTITY_VERSION, digest
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import Finetune, Training

SCIENCE_VERSION = 5
"""Raised when a change of code changes results; then older trials no longer count as the new ones."""


class Role(StrEnum):
    """What a trial is for; it decides which labels the trial sees."""

    WEAK = "weak"
    """Learns from ground truth on `weak_train`."""
    CEILING = "ceiling"
    """Learns from ground truth on `transfer`, the items its student learns from."""
    STUDENT = "student"
    """Learns from its parents' predictions on `transfer`; sees no ground truth but the budget its strategy declares."""
    CONTROL = "control"
    """Does not learn from the weak labels as they are: what a student's gain is held against."""


class Split(StrEnum):
    """Disjoint by group of near-identical items."""

    WEAK_TRAIN = "weak_train"
    TRANSFER = "transfer"
    VALIDATION = "validation"
    TEST = "test"
    OOD = "ood"
    """A test set out of the task's distribution, where the task has one; no group of it occurs elsewhere."""


TRAIN_SPLIT = {
    Role.WEAK: Split.WEAK_TRAIN,
    Role.CEILING: Split.TRANSFER,
    Role.STUDENT: Split.TRANSFER,
    Role.CONTROL: Split.TRANSFER,
}
LABELLED_SPLITS: dict[Role, frozenset[Split]] = {
    Role.WEAK: frozenset({Split.WEAK_TRAIN, Split.VALIDATION}),
    Role.CEILING: frozenset({Split.TRANSFER, Split.VALIDATION}),
    Role.STUDENT: frozenset(),
    Role.CONTROL: frozenset({Split.TRANSFER, Split.VALIDATION}),
}
"""The splits whose ground truth enters the trial folder. That of the test sets never does: scoring is outside the
sandbox. For generation, ground truth is the continuation to learn from (`target`)."""
PREDICTED_SPLITS = (Split.TRANSFER, Split.VALIDATION, Split.TEST, Split.OOD)
"""The splits a trial predicts, as far as the task has them."""
CURVES = ("loss",)
"""Metrics that a trial writes itself, over the steps of its training; all others are computed outside of it."""
TEST_SPLITS = (Split.TEST, Split.OOD)
"""The splits that leaderboards are made of."""
EXTERNAL = "external"
"""Environment of trials whose predictions other code made, and, before a colon, how tables mark their strategies."""
Form = Literal["classification", "generation"]
"""What a task's trials make: a distribution over classes for each item, or continuations of prompts."""


class ModelRef(Frozen):
    """A model, resolved to what exactly its weights are."""

    name: str
    """How the grid calls it. Not part of the identity."""
    kind: Literal["embedded", "hub", "folder", "labels", "endpoint", "external"]
    """`labels` and `endpoint` are supervisors that wtsbench does not train: a file of labels, a prompted model
    elsewhere. `external` is a model of other code, whose predictions were imported; no grid can name one."""
    id: str
    """Embedded name, hub id, for a folder or a file its base name, for an endpoint the model's name there."""
    revision: str
    """Embedded: digest of the recipe; hub: commit; folder: SHA-256 over its files; labels and endpoint: digest of all
    that decides the labels; external: digest of the predictions themselves."""
    path: str | None = None
    """The folder or file, for `folder`, `labels` and `endpoint` (its manifest). Not part of the identity."""
    family: str | None = None
    """The ladder it belongs to. Not part of the identity."""
    parameters: int | None = None
    """Number of weights, where known; orders a ladder. Not part of the identity."""

    @property
    def trained(self) -> bool:
        """Whether wtsbench trains it; otherwise its labels are taken as they are."""
        return self.kind not in ("labels", "endpoint", "external")

    def identity(self) -> dict[str, Any]:
        """Equal for equal weights, whatever the folder is called."""
        if self.kind in ("folder", "labels"):
            return {"kind": self.kind, "revision": self.revision}
        return {"kind": self.kind, "id": self.id, "revision": self.revision}


class TrialSpec(Frozen):
    """Everything that can change a trial's result, and the names to show it by."""

    role: Role
    task: str
    data_digest: str
    """Digest of the prepared items, labels and splits included."""
    data_seed: int
    model: ModelRef
    strategy: StrategyCall | None = None
    """For students: the name with *all* parameters, defaults included."""
    strategy_version: int | None = None
    """Raised by a strategy's author when its results change."""
    strategy_package: str | None = None
    """Of a strategy that another package brings in: that package with its version, as `name==version`."""
    recipe: StrategyCall | None = None
    """For weak supervisors that are not plainly finetuned, and for controls: what they do in its place, with all
    parameters."""
    form: Form = "classification"
    generation: GenerationSettings | None = None
    """For generation: how continuations are drawn and what they are judged by."""
    scorer: str | None = None
    """For generation: digest of the identity of what scores its texts."""
    reference: ModelRef | None = None
    """For generation: the model under which the texts' perplexity is taken."""
    training: Training
    seed: int
    parents: tuple[str, ...] = ()
    """Ids of the trials whose predictions supervise this one, in the strategy's order."""
    environment: str
    """`process:<lock hash>`, in a pod `process:sha256:<image>:<lock hash>`, or `docker:sha256:<image id>`: the code and
    libraries that compute the result; or `external`."""
    grid: str | None = Field(default=None, exclude_if=lambda grid: grid is None)
    """The only grid that the result counts for: that of the narrow token under which the trial runs, or into which it
    was imported. None: all."""

    @property
    def predicted_splits(self) -> tuple[Split, ...]:
        """The splits it predicts, as far as the task has them.

        Only those that others may learn from predict `transfer`: weak supervisors, and students, which are compared
        with their supervisors there too. Students of generative tasks do neither. Of trials that other code ran, only
        what leaderboards are made of is asked.
        """
        if self.environment == EXTERNAL:
            return TEST_SPLITS
        if self.role is Role.WEAK or (self.role is Role.STUDENT and self.form == "classification"):
            return PREDICTED_SPLITS
        return tuple(split for split in PREDICTED_SPLITS if split is not Split.TRANSFER)

    @property
    def drawn(self) -> GenerationSettings:
        """How continuations are drawn; for generation alone."""
        assert self.generation is not None, "a generative task's trial says how continuations are drawn"
        return self.generation

    @property
    def finetune(self) -> Finetune:
        """What of the model is trained: what the strategy asks for, else what the training settings say."""
        requested: Finetune | None = None if self.strategy is None else self.strategy.parameters.get("finetune")
        return requested or self.training.finetune

    def identity(self) -> dict[str, Any]:
        """The dict whose digest is the trial's id."""
        strategy = None
        if self.strategy is not None:
            strategy = {**self.strategy.model_dump(mode="json"), "version": self.strategy_version}
            if self.strategy_package is not None:
                strategy["package"] = self.strategy_package
        return {
            "identity_version": IDENTITY_VERSION,
            "science_version": SCIENCE_VERSION,
            "role": self.role.value,
            "task": self.task,
            "data": self.data_digest,
            "data_seed": self.data_seed,
            "model": self.model.identity(),
            "strategy": strategy,
            "recipe": None if self.recipe is None else self.recipe.model_dump(mode="json"),
            "form": self.form,
            "generation": None if self.generation is None else self.generation.model_dump(mode="json"),
            "scorer": self.scorer,
            "reference": None if self.reference is None else self.reference.identity(),
            "training": self.training.model_dump(mode="json"),
            "seed": self.seed,
            "parents": list(self.parents),
            "environment": self.environment,
        }

    @property
    def shared_id(self) -> str:
        """SHA-256 of the identity: the trial's id where its result counts for every grid."""
        return digest(self.identity())

    @property
    def trial_id(self) -> str:
        """The id under which the result is stored."""
        return self.shared_id if self.grid is None else id_within(self.grid, self.shared_id)


def id_within(grid: str, shared_id: str) -> str:
    """The id of a trial whose result counts for one grid only: never that of a trial that counts for all."""
    return digest({"grid": grid, "trial": shared_id})


class TrialJob(Frozen):
    """What `spec.json` of a trial folder holds: the spec, and how to run it (which changes no result)."""

    trial_id: str
    attempt: int
    spec: TrialSpec
    labels: tuple[str, ...]
    """Class names; a label is an index into them. Empty for generation."""
    threads: int = 1
    gpus: float = 0
