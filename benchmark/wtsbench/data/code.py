"""Rows made by a function of another package.

A package registers it as an entry point of the group `wtsbench.tasks`: a function whose keyword arguments are the
manifest's `parameters`, and which yields rows, each a dict of column to value:

    [project.entry-points."wtsbench.tasks"]
    mine = "my_package.tasks:rows"
"""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from wtsbench.errors import DataError
from wtsbench.spec.faults import nearest
from wtsbench.spec.identity import digest
from wtsbench.spec.source import CodeSource

GROUP = "wtsbench.tasks"


def rows_of_code(source: CodeSource, where: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The rows' identity (the package's version and a digest of the rows), and the rows.

    Raises:
        DataError: there is no such entry point, it cannot be loaded or called, or it does not yield rows.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    point = points.get(source.entry_point)
    if point is None:
        near = nearest(source.entry_point, points)
        hint = "" if near is None else f"did you mean {near!r}? "
        available = ", ".join(sorted(points)) or "none"
        raise DataError(
            f"{where}: no installed package has it",
            remedy=f"{hint}The group {GROUP} has {available}; install the package.",
        )
    rows = _called(point, source, where)
    for place, row in enumerate(rows):
        if not (isinstance(row, dict) and all(isinstance(name, str) for name in row)):
            problem = f"row {place + 1} is a {type(row).__name__}"
            raise DataError(f"{where}: {problem}, not a dict of column to value", remedy=_repair(point))
    try:
        content = digest(json.loads(json.dumps(rows)))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: its rows hold what JSON has not: {error}", remedy=_repair(point)) from error
    report = {
        "kind": "code",
        "entry_point": source.entry_point,
        "parameters": source.parameters,
        "package": point.dist.name if point.dist is not None else None,
        "version": point.dist.version if point.dist is not None else None,
        "rows_digest": content,
    }
    return report, rows


def _called(point: EntryPoint, source: CodeSource, where: str) -> list[Any]:
    try:
        return list(point.load()(**source.parameters))
    except Exception as error:  # another package's code may raise anything; the message names the package
        problem = f"{point.value} failed: {type(error).__name__}: {error}"
        raise DataError(f"{where}: {problem}", remedy=_repair(point)) from error


def _repair(point: EntryPoint) -> str:
    package = "the package that brings it" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    return f"repair {package}, or give it other parameters in the manifest."
