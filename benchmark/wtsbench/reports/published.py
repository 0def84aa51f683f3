"""Figures that others published, put beside the rows that they are of. Nothing is tested against them, or ranked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from wtsbench.reports.rows import PublishedFigure, Row
from wtsbench.spec import manifests


def with_published(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows, each with the figures of its task, pair, strategy and metric on the task's own test set.

    Raises:
        SpecError: a file of published figures cannot be read, or is wrong.
    """
    shown = tuple(rows)
    if not shown:
        return shown
    found: dict[tuple[str, str | None, str | None, str, str], list[PublishedFigure]] = {}
    for name in manifests.names("published"):
        source = manifests.load_published(name)
        for each in source.figures:
            if each.weak is None or each.strong is None:
                continue
            figure = PublishedFigure(
                source=source.source,
                differences=source.differences,
                score=each.score,
                weak_score=each.weak_score,
                ceiling_score=each.ceiling_score,
                pgr=each.recovered,
            )
            found.setdefault((each.task, each.weak, each.strong, each.strategy, each.metric), []).append(figure)
    return tuple(
        replace(row, published=tuple(found.get((row.task, row.weak, row.strong, row.strategy, row.metric), ())))
        if row.split == "test"
        else row
        for row in shown
    )
