"""A report as data: sections of prose, tables and charts, which every renderer walks and none computes.

A cell holds its text as people read it, and beside it the number that a table is sorted by. Texts of users and trials
are kept as they are: each renderer makes them harmless for its own form (HTML, Markdown, LaTeX, a terminal).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["plain", "good", "bad", "warn", "dim"]
"""What a text says beside its words; never by itself: the words say it as well."""


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """One cell of a table."""

    text: str
    number: float | None = None
    """What the column is sorted by; None sorts by text, after all numbers."""
    tone: Tone = "plain"
    link: str | None = None
    """Address of another page, on pages that are served or lie side by side."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table."""

    heading: str
    numeric: bool = False
    """Aligned to the right, and sorted by number."""
    help: str = ""
    """What the column is, where the heading alone does not say it."""
    narrow: bool = True
    """Whether it is shown where there is room for 80 characters only."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a table."""

    cells: tuple[TableCell, ...]
    kind: str = "strategy"
    """`strategy`, `weak`, `ceiling`, `control`, `trivial` or `baseline`; only the first kind is ranked."""
    source: str | None = None
    """Key of `Document.sources`: where its numbers come from."""
    interval: tuple[float, float, float] | None = None
    """Low end, value and high end of its score, which a terminal with room draws."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Lines under headings."""

    caption: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    order: str = ""
    """By what the lines are sorted, in words."""
    parted: bool = False
    """Whether columns that do not fit beside the names go into a further table; else cells fold."""

    @property
    def name_column(self) -> int:
        """Which column names a line: the first that holds words."""
        return next((place for place, column in enumerate(self.columns) if not column.numeric), 0)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart as a Vega-Lite specification; its numbers are also in a table of the same section."""

    title: str
    description: str
    """What a reader who cannot see it should know: what is drawn, and what it shows."""
    spec: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Prose:
    """A paragraph."""

    text: str
    tone: Tone = "plain"
    link: str | None = None
    """As a cell's."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list of short texts."""

    items: tuple[str, ...]
    tone: Tone = "plain"


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A formula in plain text, with what it is."""

    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Verbatim:
    """Lines as a program printed them."""

    text: str


Block = Table | Chart | Prose | Listing | Formula | Verbatim


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it."""

    title: str
    anchor: str
    """Unique within the document; letters, digits and dashes."""
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()
    folded: bool = False
    """Whether a page shows the heading alone until it is asked for more."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A whole report."""

    title: str
    lead: tuple[Block, ...]
    sections: tuple[Section, ...]
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Provenance of lines, by their `source`: JSON values."""
    trials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is known of the trials that sources name, by trial id: JSON values."""
