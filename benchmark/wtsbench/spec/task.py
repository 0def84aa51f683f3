"""The task manifest: where a task's data is, what its items are made of, and how they are split."""

import re
import string
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from wtsbench.spec.control_tokens import marked
from wtsbench.spec.frozen import Document, FileName, Frozen, Text
from wtsbench.spec.generation import GenerationMetricName, GenerationSettings, ZeroShot
from wtsbench.spec.items import (
    Balance,
    Choices,
    Continuation,
    Demonstrations,
    Grouping,
    LabelColumn,
    Mismatch,
    Preference,
    Splits,
)
from wtsbench.spec.source import CodeSource, Mirror, PathSource, Source, SyntheticSource
from wtsbench.spec.trial import Form

MetricName = Literal["accuracy", "balanced_accuracy", "f1"]
"""Metrics of classification."""

_SHAPES = ("label", "choices", "preference", "mismatch")
"""Where the label comes from: one of these."""
_TEST_ONLY = {"ood": True}
"""Context of the validation of a set that nobody learns from: its prompts need no continuation."""
_PLAIN_NAME = re.compile(r"(?!\d+$)[^\[\]]+")


class OodSet(Frozen):
    """A test set from elsewhere: what a task's models make of texts unlike those they learned from."""

    name: FileName
    """What the set is called."""
    summary: Text
    """One line for people."""
    licence: str | None = None
    """Of the data, where its users must know."""
    source: Source
    """Where its rows are."""
    mirror: Mirror | None = None
    """Where the same rows are below `WTSBENCH_DATA_MIRROR`."""
    template: Text | None = None
    """None: the task's."""
    label: LabelColumn | None = None
    """None of this and the next three: the task's."""
    choices: Choices | None = None
    """As the task's."""
    preference: Preference | None = None
    """As the task's."""
    mismatch: Mismatch | None = None
    """As the task's."""
    group: Grouping = Grouping()
    """Which of its items belong together."""
    items: Annotated[int, Field(ge=2)] | None = None
    """Upper bound."""


class TaskManifest(Document):
    """A task: texts with labels or continuations, and how to score what a model makes of them."""

    kind: Literal["task"] = "task"
    name: FileName
    """What grids and tables call it."""
    summary: Text
    """One line for `wtsbench tasks`."""
    licence: str | None = None
    """Of the data, where its users must know."""
    form: Form = "classification"
    """Whether models choose a class or go on from a prompt."""
    labels: tuple[str, ...] = ()
    """Class names; a label is an index into them. F1 is of class 1 where there are two. Of `generation`: none."""
    metric: Literal[MetricName, GenerationMetricName] = "accuracy"
    """What the leaderboard ranks by."""
    template: Text
    """Text of an item, with source columns in braces: `{question}`. What must survive truncation comes first. Of
    `generation`: the prompt, whose white space stays as it is."""
    label: LabelColumn | None = None
    """Of `classification`: this, or one of the next three."""
    choices: Choices | None = None
    """Rows are questions with several answers."""
    preference: Preference | None = None
    """Rows are two texts of which one is better."""
    mismatch: Mismatch | None = None
    """Rows are pairs that belong together."""
    continuation: Continuation | None = None
    """Of `generation`."""
    demonstrations: Demonstrations | None = None
    """Of `generation`: None takes every continuation for ground truth."""
    generation: GenerationSettings | None = None
    """Of `generation`."""
    group: Grouping = Grouping()
    """Which items must not be parted by the split."""
    splits: Splits = Splits()
    """Shares of the splits, and upper bounds on their items."""
    balance: Balance = "none"
    """Of `classification`: the splits in which every class is cut to the number of the rarest: `all` (as Burns et al.
    2023), `train` (weak_train, transfer and validation; test sets stay as they are), `none`. A grid's `data` may say
    otherwise."""
    source: Source
    """The canonical place of the data."""
    mirror: Mirror | None = None
    """Where the same data is below `WTSBENCH_DATA_MIRROR`."""
    ood: OodSet | None = None
    """A test set from elsewhere; it becomes the split `ood`."""
    zero_shot: ZeroShot | None = None
    """Of `classification`: how to ask a model without training."""
    frames: tuple[str, ...] = ()
    """Other wordings of an item around `{text}`, for strategies that ask the weak model in several ways."""

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The template's columns, in order of first use; some may be made, such as `choice`."""
        return tuple(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(self.template) if name))

    @property
    def expansion(self) -> Choices | Preference | Mismatch | None:
        """How a row becomes items, where it is not one item itself."""
        return self.choices or self.preference or self.mismatch

    @property
    def made_columns(self) -> tuple[str, ...]:
        """Columns that no source has: they are made of others."""
        if self.choices is not None:
            return ("choice",)
        return () if self.preference is None else ("context", "first", "second")

    @property
    def columns(self) -> tuple[str, ...]:
        """Every source column the manifest uses, the label's last."""
        last: tuple[str, ...] = ()
        if self.label is not None:
            last = (self.label.column,)
        elif self.expansion is not None:
            last = self.expansion.columns
        else:
            last = (
                *(() if self.continuation is None else (self.continuation.column,)),
                *(() if self.demonstrations is None else (self.demonstrations.column,)),
            )
        named = (*self.text_columns, *self.group.columns, *self.group.similar)
        return tuple(dict.fromkeys((*(n for n in named if n not in (*self.made_columns, *last)), *last)))

    @property
    def mirror_paths(self) -> tuple[str, ...]:
        """What it needs below the mirror folder, its out-of-distribution set included."""
        mirrors = (self.mirror, None if self.ood is None else self.ood.mirror)
        return tuple(file.path for mirror in mirrors if mirror is not None for file in mirror.files)

    @property
    def similar_columns(self) -> tuple[tuple[str, ...], ...]:
        """The sets of columns in which near-identical items are looked for; a question's choices are in none."""
        if self.group.similar:
            return (self.group.similar,)
        without_choice = tuple(name for name in self.text_columns if name != "choice") or self.text_columns
        return tuple(dict.fromkeys(columns for columns in (self.group.columns, without_choice) if columns))

    def fill(self, texts: dict[str, str]) -> str:
        """The template with a text for each of its columns, and the control tokens that the template names marked."""
        return "".join(
            marked(before) + (texts[name] if name else "")
            for before, name, _, _ in string.Formatter().parse(self.template)
        )

    def ood_manifest(self) -> "TaskManifest | None":
        """The set from elsewhere as a task of its own, of this task's form and classes; its splits are unused."""
        if self.ood is None:
            return None
        own = {name: getattr(self.ood, name) for name in ("summary", "licence", "source", "mirror", "group")}
        shaped = self.ood if any(getattr(self.ood, name) is not None for name in _SHAPES) else self
        given = {
            "name": f"{self.name}.{self.ood.name}"[:100],
            **{name: getattr(self, name) for name in ("form", "labels", "metric", "generation")},
            "template": self.ood.template or self.template,
            **own,
            **{name: getattr(shaped, name) for name in _SHAPES},
        }
        return TaskManifest.model_validate(given, context=_TEST_ONLY)

    @model_validator(mode="after")
    def _of_its_form(self, info: ValidationInfo) -> "TaskManifest":
        generation = self.form == "generation"
        given = [name for name in _SHAPES if getattr(self, name) is not None]
        metrics = get_args(GenerationMetricName if generation else MetricName)
        if self.metric not in metrics:
            raise ValueError(f"metric: {self.metric} is none of the form {self.form}; there are {', '.join(metrics)}")
        foreign = [
            name
            for name in (
                ("labels", *given, "zero_shot") if generation else ("continuation", "demonstrations", "generation")
            )
            if getattr(self, name)
        ]
        if generation and self.balance != "none":
            foreign.append("balance")
        if foreign:
            raise ValueError(f"{foreign[0]}: not for a task of the form {self.form}")
        if generation:
            if self.generation is None:
                raise ValueError("generation: missing; it says how continuations are drawn and scored")
            if self.continuation is None and info.context != _TEST_ONLY:
                raise ValueError("continuation: missing; it is what the weak supervisors learn from")
            return self
        if len(self.labels) < 2:
            raise ValueError("labels: at least 2 classes")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: a class is named twice")
        if len(given) != 1:
            raise ValueError(f"label: give one of label, choices, preference and mismatch, not {len(given)}")
        if self.expansion is not None:
            self._check_meanings(given[0], self.expansion)
        return self

    def _check_meanings(self, name: str, expansion: Choices | Preference | Mismatch) -> None:
        """Which class a made item is of goes by name: the order of `labels` says nothing about it."""
        if len(self.labels) != 2:
            raise ValueError(f"labels: {name} makes items of two classes")
        one, two = expansion.meanings
        if not expansion.values and set(self.labels) != {one, two}:
            raise ValueError(
                f"{name}: say which class is which, as values: {{{one}: …, {two}: …}}; the labels are "
                f"{', '.join(self.labels)}"
            )
        if expansion.values and (
            set(expansion.values) != {one, two} or sorted(expansion.values.values()) != sorted(self.labels)
        ):
            raise ValueError(f"{name}: values gives each of {one} and {two} one of {', '.join(self.labels)}")

    @model_validator(mode="after")
    def _consistent(self) -> "TaskManifest":
        _check_braces("template", self.template)
        if not self.text_columns:
            raise ValueError("template: no column in it; write one in braces, such as {text}")
        used = (*self.text_columns, *self.group.columns, *self.group.similar)
        hidden = [
            part.column for part in (self.label, self.continuation, self.demonstrations) if part and part.column in used
        ]
        if hidden:
            raise ValueError(f"label: column {hidden[0]!r} is also used as text or group")
        self._check_values()
        if self.mirror is not None and isinstance(self.source, PathSource | SyntheticSource | CodeSource):
            raise ValueError(f"mirror: a {self.source.kind} source needs none")
        if self.zero_shot is not None:
            _check_wording("zero_shot.prompt", self.zero_shot.prompt)
            if set(self.zero_shot.answers) != set(self.labels):
                raise ValueError(f"zero_shot.answers: give one for each of {', '.join(self.labels)}")
            if len(set(self.zero_shot.answers.values())) != len(self.labels):
                raise ValueError("zero_shot.answers: two classes have the same answer")
        for frame in self.frames:
            _check_wording("frames", frame)
        try:
            self.ood_manifest()
        except ValidationError as error:
            said = "; ".join(entry["msg"].removeprefix("Value error, ") for entry in error.errors())
            raise ValueError(f"ood: {said}") from None
        return self

    def _check_values(self) -> None:
        values = {"label": self.label and self.label.values, "mirror": self.mirror and self.mirror.values}
        for where, meant in values.items():
            unknown = sorted(set(meant.values()) - set(self.labels)) if meant else []
            if unknown:
                raise ValueError(f"{where}: {', '.join(unknown)} is not one of the labels {', '.join(self.labels)}")
            missing = sorted(set(self.labels) - set(meant.values())) if meant else []
            if missing:
                raise ValueError(f"{where}: no value stands for {', '.join(missing)}")


def _check_braces(where: str, text: str) -> None:
    try:
        fields = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"{where}: {error}; write a literal brace twice") from error
    for _, name, spec, conversion in fields:
        if name is not None and (spec or conversion or not _PLAIN_NAME.fullmatch(name)):
            raise ValueError(f"{where}: braces hold a column's name and nothing else, not {name or 'nothing'!r}")


def _check_wording(where: str, text: str) -> None:
    _check_braces(where, text)
    if [name for _, name, _, _ in string.Formatter().parse(text) if name is not None] != ["text"]:
        raise ValueError(f"{where}: {{text}} must stand in it, once and alone")
