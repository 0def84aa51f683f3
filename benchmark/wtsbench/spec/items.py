"""How a task's items are made from rows: label, groups, splits, demonstrations, and several items per row."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from wtsbench.spec.frozen import Frozen, Text
from wtsbench.spec.source import Column, LabelValues

Balance = Literal["all", "train", "none"]
"""Which splits of a classification are cut until every class has as many items as the rarest: all of them, as Burns et
al. 2023 do; those that decide what a model learns (weak_train, transfer, validation); or none, so that classes are as
common as they are in the source."""


class LabelColumn(Frozen):
    """The column of the label, and what its values mean."""

    column: Column
    """Name of the column."""
    values: LabelValues = Field(default_factory=dict)
    """Empty: the column holds the class names themselves."""


class Choices(Frozen):
    """Rows are questions of several choices; each gives two items, with the right choice and with one wrong choice.

    Burns et al. 2023 (arXiv 2312.09390, appendix A) make a yes-or-no task of them so. The label is `right` or `wrong`.
    A hash picks the wrong choice; both items are of one group. The template names the choice as `{choice}`.
    """

    meanings: ClassVar[tuple[str, str]] = ("right", "wrong")
    """The labels of items, whatever the task's classes are called and in whatever order they are."""
    values: LabelValues = Field(default_factory=dict)
    """The task's class for each of them; empty if the classes have these names."""

    options: Annotated[tuple[Column, ...], Field(min_length=2)]
    """The columns that hold the choices."""
    right: Column | None = None
    """The one of them that holds the right choice in every row; or:"""
    number: Column | None = None
    """the column that holds the right choice's number, counted from 0."""

    @model_validator(mode="after")
    def _one_way(self) -> "Choices":
        if (self.right is None) == (self.number is None):
            raise ValueError("give right, a column, or number, a column of numbers")
        if self.right is not None and self.right not in self.options:
            raise ValueError(f"right: {self.right!r} is not one of the options {', '.join(self.options)}")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The source columns it needs."""
        return (*self.options, *(() if self.number is None else (self.number,)))


class Preference(Frozen):
    """Rows are two texts of which one is better; each row gives one item that shows both.

    A hash of the two decides which is shown first. The label says which is the better one, `first` or `second`. The
    template names them `{first}` and `{second}`.
    """

    meanings: ClassVar[tuple[str, str]] = ("first", "second")
    """As for choices."""
    values: LabelValues = Field(default_factory=dict)
    """As for choices."""

    better: Column
    """The column with the better text."""
    worse: Column
    """The column with the worse text."""
    marker: Text | None = None
    """The common beginning of the two texts, up to and including the marker's last occurrence, is shown once: the
    template names it `{context}`. In rows whose texts share no such beginning, the context is empty."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The source columns it needs."""
        return (self.better, self.worse)


class Mismatch(Frozen):
    """Rows are pairs that belong together; each gives two items, the pair and one whose part is another row's.

    The label is `together` or `apart`.
    """

    meanings: ClassVar[tuple[str, str]] = ("together", "apart")
    """As for choices."""
    values: LabelValues = Field(default_factory=dict)
    """As for choices."""

    column: Column
    """The part that is taken from another row, which a hash picks."""
    apart: Column
    """It is only taken from a row in which this column differs."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The source columns it needs."""
        return (self.column, self.apart)


class Continuation(Frozen):
    """The text that followed a prompt in the source."""

    column: Column
    """White space at its ends is kept. If it is empty, the row has no continuation."""


class Demonstrations(Frozen):
    """Which continuations may be learned from as ground truth: those whose `column` is within the bounds.

    Other rows, and those without a value, have no target: they are left out of `weak_train` and `transfer`, and are
    prompts like any other in `validation` and `test`.
    """

    column: Column
    """The column of numbers that decides."""
    at_most: float | None = None
    """Largest number of a continuation that may be learned from."""
    at_least: float | None = None
    """Smallest number of one."""

    @model_validator(mode="after")
    def _bounded(self) -> "Demonstrations":
        if self.at_most is None and self.at_least is None:
            raise ValueError("give at_most or at_least")
        if self.at_most is not None and self.at_least is not None and self.at_most < self.at_least:
            raise ValueError("at_most is below at_least: no row could be a demonstration")
        return self

    def allow(self, value: float) -> bool:
        """Whether a row with this value may be learned from; the bounds are inclusive."""
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)


class Grouping(Frozen):
    """Which items the split must keep together."""

    columns: tuple[Column, ...] = ()
    """Items with an equal (normalised) value in one of these columns are one group."""
    similar: tuple[Column, ...] = ()
    """Items whose words in these columns are nearly the same are one group. Default: those alike in `columns`,
    and those alike in the template's columns."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Items with at least this Jaccard similarity of word pairs are nearly the same; at 1 the pairs must be equal."""


class SplitSize(Frozen):
    """How much of the data a split gets."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the items that are left after deduplication; groups are kept whole."""
    items: Annotated[int, Field(ge=2)] | None = None
    """Upper bound, applied after the split; class shares stay as they are. A grid's `data` may give another."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        """`0.2` is `{share: 0.2}`."""
        return {"share": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Splits(Frozen):
    """Shares of the four disjoint splits; they add up to 1."""

    weak_train: SplitSize = SplitSize(share=0.3)
    """Ground truth for the weak supervisors."""
    transfer: SplitSize = SplitSize(share=0.4)
    """Weakly labelled for the students, ground truth for the ceilings."""
    validation: SplitSize = SplitSize(share=0.1)
    """For choices such as when to stop; students have weak labels there as well."""
    test: SplitSize = SplitSize(share=0.2)
    """What all models are scored on."""

    @model_validator(mode="after")
    def _whole(self) -> "Splits":
        total = self.weak_train.share + self.transfer.share + self.validation.share + self.test.share
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of the splits add up to {total:g}, not 1")
        return self
