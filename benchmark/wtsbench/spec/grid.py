"""The grid file: what a user asks for."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from wtsbench.spec.failure import FailureClass
from wtsbench.spec.frozen import Frozen
from wtsbench.spec.generation import GenerationOverride
from wtsbench.spec.training import GridTraining

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
Name = Annotated[str, Field(min_length=1)]
GridName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
MOST_SEEDS = 1000
Seed = Annotated[int, Field(ge=0, lt=MOST_SEEDS)]
"""Grid seeds stay below 1,000: a strategy that needs further supervisors derives theirs as seed + 1000 k."""


class Pair(Frozen):
    """A weak supervisor and the strong student that learns from it."""

    weak: Name
    """A name in manifests/models, a folder (`./path`), or `hub:owner/name@revision`."""
    strong: Name

    def __str__(self) -> str:
        return f"{self.weak} -> {self.strong}"


def _short_forms(schema: dict[str, Any]) -> None:
    """In a grid file a strategy is a name, or a mapping of its name and its parameters."""
    properties = schema.pop("properties")
    name = {**properties["name"], "description": "A name that `wtsbench strategies` lists."}
    parameters = {**properties["parameters"], "description": "The parameters may also be written here."}
    mapping = {
        "type": "object",
        "properties": {"name": name, "parameters": parameters},
        "required": ["name"],
        "additionalProperties": {"description": "A parameter of the strategy."},
    }
    for key in ("type", "required", "additionalProperties"):
        schema.pop(key, None)
    schema["anyOf"] = [name, mapping]


class StrategyCall(Frozen):
    """A strategy by name, with the parameters that differ from its defaults."""

    model_config = ConfigDict(json_schema_extra=_short_forms)

    name: Name
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """How tables call it: `logconf`, or `logconf(max_weight=0.5)` where parameters were given."""
        if not self.parameters:
            return self.name
        given = ",".join(f"{key}={_plain(value)}" for key, value in sorted(self.parameters.items()))
        return f"{self.name}({given})"

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        """`naive`, `{name: logconf, max_weight: 0.5}` and the stored form are one thing."""
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "name" not in value:
            return {}  # what its other keys mean, only the name could tell
        if isinstance(value, dict):
            rest = {key: item for key, item in value.items() if key not in ("name", "parameters")}
            nested = value.get("parameters") or {}
            if not isinstance(nested, dict):
                return {"name": value["name"], "parameters": nested}
            return {"name": value["name"], "parameters": {**nested, **rest}}
        return value

    def __str__(self) -> str:
        return self.label


def _plain(value: Any) -> str:
    if isinstance(value, dict) and "name" in value:  # a strategy within a strategy
        return StrategyCall.model_validate(value).label
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


class DataCaps(Frozen):
    """Upper bounds on the items of the splits; None takes the task manifest's."""

    weak_train: Annotated[int, Field(ge=2)] | None = None
    transfer: Annotated[int, Field(ge=2)] | None = None
    validation: Annotated[int, Field(ge=2)] | None = None
    test: Annotated[int, Field(ge=2)] | None = None
    ood: Annotated[int, Field(ge=2)] | None = None


class DataSettings(DataCaps):
    """Which items a trial sees. Every field is part of the data's digest."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the split; separate from the optimisation seeds, so that all trials of a task share their items."""


class GridData(DataSettings):
    """A grid's items: for all tasks, and for single ones."""

    tasks: dict[str, DataCaps] = Field(default_factory=dict)
    """Bounds for single tasks of the grid, by name; over the grid's own."""

    def of(self, task: str) -> DataSettings:
        """What holds for one task, named as in the grid."""
        settings = DataSettings.model_validate(self.model_dump(exclude={"tasks"}))
        caps = self.tasks.get(task)
        return settings if caps is None else settings.model_copy(update=caps.model_dump(exclude_none=True))


class Resources(Frozen):
    """What one trial may use."""

    cpus: Annotated[int, Field(ge=1)] = 1
    """Threads of one trial; trials run side by side as far as the machine's cores go."""
    gpus: Annotated[float, Field(ge=0)] = 0
    memory: Size | None = None
    """Bytes, or a size such as 40GiB."""
    disk: Size = 20 * 2**30
    """What a trial may write to its folder: bytes, or a size such as 20GiB; one that writes more is a `trial_error`."""
    time: Seconds = 2 * 60 * 60
    """Seconds, or a duration such as 2h; past it an attempt is killed as `timeout`."""


class Retry(Frozen):
    """How many further attempts each class of failure gets within one submission."""

    infrastructure: Annotated[int, Field(ge=0, le=10)] = 2
    out_of_memory: Annotated[int, Field(ge=0, le=10)] = 0
    timeout: Annotated[int, Field(ge=0, le=10)] = 0
    diverged: Annotated[int, Field(ge=0, le=10)] = 0
    trial_error: Annotated[int, Field(ge=0, le=10)] = 0

    def allowed(self, failure: FailureClass) -> int:
        """Further attempts after a failure of this class; a cancelled trial gets none."""
        return 0 if failure is FailureClass.CANCELLED else int(getattr(self, failure.value))


class Exclusion(Frozen):
    """Cells to leave out: those that match every field given."""

    task: Name | None = None
    weak: Name | None = None
    strong: Name | None = None
    strategy: Name | None = None
    """A strategy's name or label."""
    seed: Seed | None = None

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


class Grid(Frozen):
    """A grid of weak/strong pairs x strategies x tasks x seeds."""

    api_version: Annotated[Literal["wtsbench/v1"], Field(alias="apiVersion")] = "wtsbench/v1"
    name: GridName
    """What the leaderboard calls it; submitting another grid of the same name replaces it there."""
    image: Name = "trial"
    """A name in manifests/images.yaml, or repo@sha256:…; used by the docker sandbox."""
    tasks: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_distinct)]
    """Names in manifests/tasks."""
    pairs: Annotated[tuple[Pair, ...], Field(min_length=1), AfterValidator(_distinct)]
    """Who supervises whom."""
    strategies: Annotated[tuple[StrategyCall, ...], Field(min_length=1), AfterValidator(_distinct)]
    """How the students learn: names, or mappings of a name and its parameters."""
    controls: Annotated[tuple[ControlName, ...], AfterValidator(_distinct)] = ()
    """What a student's gain is held against, for every task and pair."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)] = (0, 1, 2, 3, 4)
    """Optimisation seeds: head initialisation, order of items, dropout."""
    data: GridData = GridData()
    generation: GenerationOverride = GenerationOverride()
    """For generative tasks, over the task manifest's: how continuations are drawn, and what scores them."""
    training: GridTraining = GridTraining()
    resources: Resources = Resources()
    retry: Retry = Retry()
    exclude: tuple[Exclusion, ...] = ()
    gate: dict[Name, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """By metric, the change in its points that `wtsbench gate` takes for one that matters; 0.01 for others."""
