"""Figures that others published, put beside the rows that they are of. Nothing is tested against them, or ranked.

They are all that a leaderboard has from elsewhere than its store: from manifests where it is made, so each says from
which.
"""

from __future__ import annotations

import hashlib
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
        path = manifests.find("published", name)
        source = manifests.load_published(name)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        for each in source.figures:
            if each.weak is None or each.strong is None:
                continue
            figure = PublishedFigure(
                source=source.source,
                file=path.name,
                sha256=sha256,
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
