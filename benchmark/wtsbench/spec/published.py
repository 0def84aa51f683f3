"""Published figures: what others report of a task, a pair and a strategy, to be shown beside a row, never ranked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wtsbench.spec.frozen import Document, Frozen, Positive, Text


class Figure(Frozen):
    """What a source says of one strategy."""

    task: Text
    """A task of wtsbench."""
    weak: Text | None = None
    """A model of wtsbench; null where the source does not say, or puts several pairs together: then no row matches."""
    strong: Text | None = None
    strategy: Text = "naive"
    """Label of a row: the strategy, with the parameters that are not its defaults."""
    metric: Text = "accuracy"
    score: float | None = None
    """Of the student."""
    weak_score: float | None = None
    ceiling_score: float | None = None
    pgr: float | None = None
    """As published; null takes it from the three scores, where all are there."""
    note: Text | None = None

    @property
    def recovered(self) -> float | None:
        """The PGR, published or from the scores."""
        if self.pgr is not None or self.score is None or self.weak_score is None or self.ceiling_score is None:
            return self.pgr
        gap = self.ceiling_score - self.weak_score
        return (self.score - self.weak_score) / gap if gap else None


class Published(Document):
    """A source and its figures."""

    kind: Literal["published"] = "published"
    name: Text
    source: Text
    """Who published it, where."""
    models: Text
    data: Text
    seeds: Positive | None = None
    """Null where the source does not say."""
    differences: tuple[Text, ...]
    """In what its protocol is not that of wtsbench: why a figure and a row are not the same measurement."""
    figures: Annotated[tuple[Figure, ...], Field(min_length=1)]
