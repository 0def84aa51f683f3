"""Charts as Vega-Lite specifications, and those as SVG.

Colours are CSS variables and `currentColor`, so that one drawing serves light and dark pages; every group has a shape
of its own as well, so that nothing depends on telling colours apart. The palette is that of Okabe and Ito (2008).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PALETTE = 8
"""Colours `--c0` to `--c7` that a page defines; further groups share them and differ in shape."""
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
_WIDTH = 420
_LETTER = 7
"""Pixels that a letter may take: a page's font may be wider than the one that the drawing was measured with."""
_LABEL = 230
"""Pixels that a label may take as the drawing measures it; what is longer ends in an ellipsis."""
_MOST_ROOM = 310
"""Pixels that labels get at most: those that they may take, in a wider font."""
_ROW = 22
"""Pixels of height for each line of a forest plot."""
Point = Mapping[str, Any]

_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "domainColor": "currentColor",
        "tickColor": "currentColor",
        "gridColor": "var(--line)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelLimit": _LABEL,
        "labelFlush": False,
        "labelSeparation": 8,
        "titleFontWeight": "normal",
    },
    "legend": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelLimit": _LABEL,
        "orient": "bottom",
        "columns": 2,
        "columnPadding": 40,
    },
}


def forest(points: Sequence[Point], *, axis: str, references: Mapping[str, float]) -> dict[str, Any]:
    """Scores with their intervals, a line each, from the top as they come.

    Args:
        points: `name`, `kind`, `value`, `low` and `high` each.
        axis: title of the axis of scores.
        references: vertical lines by name, such as the weak supervisor's score.
    """
    order = [point["name"] for point in points]
    y = _names(order)
    layers = [
        {
            "data": {"values": [{"name": name, "value": value} for name, value in references.items()]},
            "mark": {"type": "rule", "strokeDash": [4, 3], "color": "var(--dim)"},
            "encoding": {"x": {"field": "value", "type": "quantitative"}, "detail": {"field": "name"}},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {
                "y": y,
                "x": {"field": "low", "type": "quantitative", "title": axis, "scale": {"zero": False}},
                "x2": {"field": "high"},
                "color": _color(points, "kind", None),
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {
                "y": y,
                "x": {"field": "value", "type": "quantitative"},
                "color": _color(points, "kind", "kind"),
                "shape": _shape(points, "kind", "kind"),
            },
        },
    ]
    return _spec(layers, points, height=_ROW * len(points))


def by_size(points: Sequence[Point], *, axis: str) -> dict[str, Any]:
    """PGR against the size of the strong model, with intervals, a colour and shape a strategy.

    Strategies stand side by side, or intervals of one model would hide each other.

    Args:
        points: `strategy`, `parameters` (a number), `value`, `low` and `high` each.
        axis: title of the axis of PGR.
    """
    strategies = list(dict.fromkeys(point["strategy"] for point in points))
    sizes = sorted({point["parameters"] for point in points})
    step = 1.06 if len(sizes) == 1 else min(1.06, (sizes[-1] / sizes[0]) ** (0.25 / max(1, len(strategies))))
    aside = {name: step ** (place - len(strategies) / 2) for place, name in enumerate(strategies)}
    moved = [{**point, "parameters": point["parameters"] * aside[point["strategy"]]} for point in points]
    x = {
        "field": "parameters",
        "type": "quantitative",
        "title": "parameters of the strong model",
        "scale": {"type": "log", "domain": [sizes[0] / 1.5, sizes[-1] * 1.5], "nice": False},
        "axis": {"format": "~s", "tickCount": 4},
    }
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": [{"value": 0.0}, {"value": 1.0}]},
            "mark": {"type": "rule", "strokeDash": [4, 3], "color": "var(--dim)"},
            "encoding": {"y": {"field": "value", "type": "quantitative"}},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {
                "x": x,
                "y": {"field": "low", "type": "quantitative", "title": axis},
                "y2": {"field": "high"},
                "color": _color(moved, "strategy", None),
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {
                "x": x,
                "y": {"field": "value", "type": "quantitative"},
                "color": _color(moved, "strategy", "strategy"),
                "shape": _shape(moved, "strategy", "strategy"),
            },
        },
    ]
    return _spec(layers, moved, height=260)


def two_sets(points: Sequence[Point], *, axis: str) -> dict[str, Any]:
    """Scores in and out of distribution, a line each.

    Args:
        points: `name`, `set` and `value` each; two sets a name at most.
        axis: title of the axis of scores.
    """
    order = list(dict.fromkeys(point["name"] for point in points))
    y = _names(order)
    x = {"field": "value", "type": "quantitative", "title": axis, "scale": {"zero": False}}
    layers = [
        {"mark": {"type": "line", "color": "var(--dim)"}, "encoding": {"y": y, "x": x, "detail": {"field": "name"}}},
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {
                "y": y,
                "x": x,
                "color": _color(points, "set", "test set"),
                "shape": _shape(points, "set", "test set"),
            },
        },
    ]
    return _spec(layers, points, height=_ROW * len(order))


def curves(points: Sequence[Point], *, axis: str) -> dict[str, Any]:
    """Numbers over training steps, a line each.

    Args:
        points: `name`, `step` and `value` each.
        axis: title of the axis of numbers.
    """
    encoding = {
        "x": {"field": "step", "type": "quantitative", "title": "training step", "axis": {"tickMinStep": 1}},
        "y": {"field": "value", "type": "quantitative", "title": axis, "scale": {"zero": False}},
        "color": _color(points, "name", None),
        "strokeDash": {
            "field": "name",
            "type": "nominal",
            "title": None,
            "scale": {"domain": _order(points, "name")},  # that of the colours, or there would be two legends
        },
    }
    return _spec([{"mark": {"type": "line"}, "encoding": encoding}], points, height=220)


def distributions(points: Sequence[Point], *, axis: str) -> dict[str, Any]:
    """Quantiles of a number over prompts, a line each: 5 to 95% as a rule, 25 to 75% as a bar, the median as a tick.

    Args:
        points: `name`, `q05`, `q25`, `q50`, `q75` and `q95` each.
        axis: title of the axis.
    """
    y = _names([point["name"] for point in points])

    def x(name: str) -> dict[str, Any]:
        return {"field": name, "type": "quantitative", "title": axis}

    layers = [
        {"mark": {"type": "rule", "color": "var(--c0)"}, "encoding": {"y": y, "x": x("q05"), "x2": {"field": "q95"}}},
        {
            "mark": {"type": "bar", "height": 10, "color": "var(--c0)", "opacity": 0.5},
            "encoding": {"y": y, "x": x("q25"), "x2": {"field": "q75"}},
        },
        {
            "mark": {"type": "tick", "thickness": 3, "size": 16, "color": "currentColor"},
            "encoding": {"y": y, "x": x("q50")},
        },
    ]
    return _spec(layers, points, height=_ROW * len(points))


def svg(spec: Mapping[str, Any]) -> str:
    """A specification as SVG, for a page that defines `--c0` to `--c7`, `--line` and `--dim`."""
    import vl_convert  # the renderer takes a second to start

    drawn: str = vl_convert.vegalite_to_svg(dict(spec))
    return drawn


def _spec(layers: Sequence[Mapping[str, Any]], points: Sequence[Point], *, height: int) -> dict[str, Any]:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "config": _CONFIG,
        "width": _WIDTH,
        "height": height,
        "data": {"values": [dict(point) for point in points]},
        "layer": list(layers),
    }


def _names(order: Sequence[str]) -> dict[str, Any]:
    """The axis of names, from the top."""
    room = min(_MOST_ROOM, _LETTER * max(map(len, order)))
    return {"field": "name", "type": "nominal", "sort": list(order), "title": None, "axis": {"minExtent": room}}


def _order(points: Sequence[Point], field: str) -> list[str]:
    return list(dict.fromkeys(str(point[field]) for point in points))


def _color(points: Sequence[Point], field: str, title: str | None) -> dict[str, Any]:
    names = _order(points, field)
    colors = [f"var(--c{index % PALETTE})" for index in range(len(names))]
    return {"field": field, "type": "nominal", "title": title, "scale": {"domain": names, "range": colors}}


def _shape(points: Sequence[Point], field: str, title: str) -> dict[str, Any]:
    names = _order(points, field)
    shapes = [_SHAPES[index % len(_SHAPES)] for index in range(len(names))]
    return {"field": field, "type": "nominal", "title": title, "scale": {"domain": names, "range": shapes}}
