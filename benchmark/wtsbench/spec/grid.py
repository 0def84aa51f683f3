"""The grid file: what a user asks for."""

import re
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from wtsbench.spec import manifests
from wtsbench.spec.failure import FailureClass
from wtsbench.spec.faults import nearest
from wtsbench.spec.frozen import Document, FileName, Frozen, Positive, Text
from wtsbench.spec.generation import GenerationOverride
from wtsbench.spec.items import Balance
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import GridTraining
from wtsbench.spec.yaml_file import Checks, load

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)")
_BINARY = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_UNITS = {**_BINARY, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_LARGEST = 2**63
_LONGEST = 10 * 365 * 86400.0
"""Seconds; clocks and timers of libraries end somewhere."""
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_size(text: str) -> int:
    """Bytes of a size such as 40GiB.

    Raises:
        ValueError: it is none.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a number with a unit, such as 40GiB, not {text!r}")
    size = float(match[1]) * _UNITS[match[2]]
    if size >= _LARGEST:
        raise ValueError(f"must be less than {_LARGEST >> 60} EiB")
    return int(size)


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None or not any(match.groups()):
            raise ValueError(f"must be a duration such as 90s, 30m, 2h or 1h30m, not {value!r}")
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:  # `index` lets the report point at the entry
            raise PydanticCustomError("given_twice", "{value} is given twice", {"value": str(value), "index": index})
    return values


_SizeInput = Annotated[int, Field(gt=0)] | Annotated[str, Field(pattern=f"^{_SIZE.pattern}$")]
_SecondsInput = Annotated[float, Field(gt=0)] | Annotated[str, Field(pattern=f"^{_DURATION.pattern}$", min_length=2)]

Size = Annotated[int, BeforeValidator(_size, json_schema_input_type=_SizeInput), Field(gt=0, lt=_LARGEST)]
Seconds = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=_SecondsInput), Field(gt=0, le=_LONGEST)]
MOST_SEEDS = 1000
Seed = Annotated[int, Field(ge=0, lt=MOST_SEEDS)]
"""Grid seeds stay below 1,000: a strategy that needs further supervisors derives theirs as seed + 1000 k."""


class Pair(Frozen):
    """A weak supervisor and the strong student that learns from it."""

    weak: Text
    """A name in manifests/models, a folder (`./path`), or `hub:owner/name@revision`."""
    strong: Text
    """The student and its ceiling; named as `weak` is, and one that wtsbench trains."""

    def __str__(self) -> str:
        return f"{self.weak} -> {self.strong}"


class Ladder(Frozen):
    """In place of a list of pairs: every pair of a ladder, the smaller model weak and the larger one strong."""

    ladder: Text | Annotated[tuple[Text, ...], Field(min_length=2)]
    """A family of models, which `wtsbench models` shows; or models, the weakest first."""


def _pairs(value: Any) -> Any:
    """Pairs as they are listed, or all of a ladder. Messages begin with the key that they are about."""
    if not isinstance(value, dict):
        return value
    if value.keys() != {"ladder"}:
        raise ValueError("must be a list of pairs, or {ladder: …} with a family or a list of models")
    given = value["ladder"]
    if isinstance(given, str):
        rungs = list(_family(given).items())
    elif isinstance(given, list | tuple) and all(isinstance(name, str) for name in given):
        rungs = [(name, place) for place, name in enumerate(given)]
        _distinct(tuple(given))
    else:
        raise ValueError(f"ladder: must be a family or a list of models, not {given!r}")
    pairs = [(weak, strong) for (weak, low), (strong, high) in combinations(rungs, 2) if low < high]
    if not pairs:
        raise ValueError("ladder: must have at least two models, of different size in a family")
    return tuple({"weak": weak, "strong": strong} for weak, strong in pairs)


def _family(name: str) -> dict[str, int]:
    ladders = manifests.ladders()
    if name not in ladders:
        near = nearest(name, ladders)
        hint = "" if near is None else f" (did you mean {near!r}?)"
        raise ValueError(f"ladder: there is no family {name!r}{hint}; known are {', '.join(ladders)}")
    return ladders[name]


DataSeed = Annotated[int, Field(ge=0, lt=2**31)]
"""As large as the store's column takes."""


class DataCaps(Frozen):
    """What a grid asks of a task's items; None takes the task manifest's. Caps are upper bounds; class shares stay."""

    balance: Balance | None = None
    """The splits in which every class is cut to the number of the rarest: `all`, `train` (all but test sets) or `none`.
    Texts to go on from have no classes: generative tasks pass it over."""
    weak_train: Annotated[int, Field(ge=2)] | None = None
    """Most items with ground truth for the weak supervisors."""
    transfer: Annotated[int, Field(ge=2)] | None = None
    """Most items that students learn from, and ceilings."""
    validation: Annotated[int, Field(ge=2)] | None = None
    """Most items of validation."""
    test: Annotated[int, Field(ge=2)] | None = None
    """Most items that models are tested on."""
    ood: Annotated[int, Field(ge=2)] | None = None
    """Most items of the test set from elsewhere."""


class DataSettings(DataCaps):
    """Which items a trial sees. Every field is part of the data's digest."""

    seed: DataSeed = 0
    """Decides the split."""
    draw: DataSeed | None = None
    """Decides anew which of the training items are `weak_train` and which `transfer`, and which of them a cap leaves;
    None: `seed` does."""


class GridData(DataCaps):
    """A grid's items: for all tasks, and for single ones."""

    seed: DataSeed = 0
    """Decides the split; separate from the optimisation seeds, so that all trials of a task share their items."""
    seeds: Annotated[tuple[DataSeed, ...], AfterValidator(_distinct)] = ()
    """Draws of the training items: for each seed, other items are `weak_train` and `transfer`, and `validation` and the
    test sets stay those of `seed`. Every cell of the grid is run on each draw. None: the one draw of `seed`."""
    tasks: dict[str, DataCaps] = Field(default_factory=dict)
    """Balance and caps of single tasks of the grid, by name; over the grid's own."""

    @property
    def draws(self) -> tuple[int, ...]:
        """The data seed of each draw of the training items."""
        return self.seeds or (self.seed,)

    def of(self, task: str, data_seed: int | None = None) -> DataSettings:
        """What holds for one task, named as in the grid, and one of the `draws`: by default that of `seed`."""
        settings = DataSettings.model_validate(self.model_dump(exclude={"tasks", "seeds"}))
        caps = self.tasks.get(task)
        drawn = {} if data_seed in (None, self.seed) else {"draw": data_seed}
        return settings.model_copy(update=drawn | ({} if caps is None else caps.model_dump(exclude_none=True)))


Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")]
"""A label of a node, or its value, as Ray and Kubernetes take them."""


class Resources(Frozen):
    """What one trial may use."""

    cpus: Positive = 1
    """Threads of one trial; trials run side by side as far as the machine's cores go."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs of one trial; a fraction lets several share one, each with that share of its memory."""
    memory: Size | None = None
    """Bytes, or a size such as 40GiB."""
    disk: Size = 20 * 2**30
    """What a trial may write to its folder: bytes, or a size such as 20GiB; one that writes more is a `trial_error`."""
    time: Seconds = 2 * 60 * 60
    """Seconds, or a duration such as 2h; past it an attempt is killed as `timeout`."""
    labels: dict[Label, Label] = Field(default_factory=dict)
    """Only a cluster's nodes with these labels (`ray start --labels=gpu=a100`) run trials; without one, ignored."""


class Retry(Frozen):
    """How many further attempts each class of failure gets within one submission."""

    infrastructure: Annotated[int, Field(ge=0, le=10)] = 2
    """A machine, a container or the store failed, and not the trial."""
    out_of_memory: Annotated[int, Field(ge=0, le=10)] = 0
    """Memory of the machine or of a GPU ran out."""
    timeout: Annotated[int, Field(ge=0, le=10)] = 0
    """It took longer than `resources.time`."""
    diverged: Annotated[int, Field(ge=0, le=10)] = 0
    """Its loss was no number any more."""
    trial_error: Annotated[int, Field(ge=0, le=10)] = 0
    """Any other error of the trial itself."""

    def allowed(self, failure: FailureClass) -> int:
        """Further attempts after a failure of this class; a cancelled trial gets none."""
        return 0 if failure is FailureClass.CANCELLED else int(getattr(self, failure.value))


class Exclusion(Frozen):
    """Cells to leave out: those that match every field given."""

    task: Text | None = None
    """A task, as the grid names it."""
    weak: Text | None = None
    """A weak model, as the grid names it."""
    strong: Text | None = None
    """A strong model, as the grid names it."""
    strategy: Text | None = None
    """A strategy's name or label."""
    seed: Seed | None = None
    """One of the grid's seeds."""

    @model_validator(mode="after")
    def _not_everything(self) -> "Exclusion":
        if not self.model_dump(exclude_none=True):
            raise ValueError("an exclusion names at least one of task, weak, strong, strategy, seed")
        return self


ControlName = Literal[
    "zero_shot", "random_labels", "weak_equals_strong", "strong_on_weak_train", "random_filter", "self_labels"
]
"""What makes a result believable (`planning.controls` says how each is planned):

    zero_shot               the strong model as it is, asked and not trained
    random_labels           the strong model on labels that are wrong at random as often as the weak model's are
    weak_equals_strong      the strong model supervised by itself, finetuned as the weak one is
    strong_on_weak_train    the strong model with the weak model's ground truth
    random_filter           for every strategy that keeps some items only: as many items, drawn at random
    self_labels             the strong model trained on what it answers untrained: no weak label is seen
"""


class Grid(Document):
    """A grid of weak/strong pairs x strategies x tasks x seeds."""

    name: FileName
    """What the leaderboard calls it; submitting another grid of the same name replaces it there."""
    image: Text = "trial"
    """A name in manifests/images.yaml, or repo@sha256:…; used by the docker sandbox."""
    tasks: Annotated[tuple[Text, ...], Field(min_length=1), AfterValidator(_distinct)]
    """Names in manifests/tasks."""
    pairs: Annotated[
        tuple[Pair, ...],
        Field(min_length=1),
        AfterValidator(_distinct),
        BeforeValidator(_pairs, json_schema_input_type=Annotated[tuple[Pair, ...], Field(min_length=1)] | Ladder),
    ]
    """Who teaches whom: a list of weak and strong models, or `{ladder: …}` for all pairs of a ladder."""
    strategies: Annotated[tuple[StrategyCall, ...], Field(min_length=1), AfterValidator(_distinct)]
    """How the strong model learns from the weak one's labels; names, or mappings with parameters."""
    controls: Annotated[tuple[ControlName, ...], AfterValidator(_distinct)] = ()
    """What a student's gain is held against, for every task and pair."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)] = (0, 1, 2, 3, 4)
    """Optimisation seeds: head initialisation, order of items, dropout."""
    data: GridData = GridData()
    """Which items trials see: data seed, balance, caps."""
    generation: GenerationOverride = GenerationOverride()
    """For generative tasks, over the task manifest's: how continuations are drawn, and what scores them."""
    training: GridTraining = GridTraining()
    """How models are trained; over their manifests' settings."""
    resources: Resources = Resources()
    """What one trial may use."""
    retry: Retry = Retry()
    """Further attempts of trials that fail."""
    exclude: tuple[Exclusion, ...] = ()
    """Cells to leave out."""
    gate: dict[Text, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """By metric, the smallest loss that `wtsbench gate` takes for one that matters: 0.02 is from 0.80 to 0.78. 0.01 for
    others."""


def load_grid(source: str | Path, *, check: Checks | None = None) -> Grid:
    """A grid by name or path, as its file has it.

    Args:
        source: a name, or a path.
        check: yields further faults, which are reported together with those of the grid's form.

    Raises:
        SpecError: there is none, or it is wrong; every fault is in the error.
    """
    return load(manifests.find("grids", source), Grid, check)
