"""A document as one HTML page that opens from disk: no server, no request, nothing that a text in it could execute.

Texts of users and trials are escaped by the template engine, and reach the page's script as data alone; the page's own
policy allows one script, by its digest, and no other source of anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from wtsbench import __version__
from wtsbench.reports import charts
from wtsbench.reports.document import Chart, Document, Formula, Listing, Table, Verbatim

_MOST_PLAIN = 1_000_000
"""Characters of a page that is written as it is; packed, an eighth is left of the 13 million of 1,000 cells."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A document as HTML."""

    whole: str
    """The page."""
    inner: str
    """What stands in its `main`, where the page is not a packed one."""
    sources: str
    """JSON of what its script knows behind the lines."""


def page(document: Document, logs: Mapping[str, str] | None = None) -> str:
    """The document as HTML; the same document gives the same bytes.

    Args:
        document: what to show.
        logs: by trial id, the last lines of trials that failed.
    """
    return made(document, logs).whole


def made(document: Document, logs: Mapping[str, str] | None = None, *, live: str | None = None) -> Page:
    """The page with its parts. One that is `live`, with this tag of its content, asks its server for newer ones."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    kinds = {"table": Table, "chart": Chart, "listing": Listing, "formula": Formula, "verbatim": Verbatim}
    for name, kind in kinds.items():
        environment.tests[name] = lambda block, kind=kind: isinstance(block, kind)
    environment.filters["drawn"] = lambda chart: charts.svg(chart.spec)
    script = _shipped("report.js") + (_shipped("live.js") if live is not None else "")
    sources = _embedded({"sources": document.sources, "trials": document.trials, "logs": logs or {}})
    module = environment.from_string(_shipped("report.html")).make_module(
        {
            "document": document,
            "live": live,
            "most": _MOST_PLAIN,
            "packed": _packed,
            "version": __version__,
            "style": _shipped("report.css"),
            "script": script,
            "script_digest": f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
            "sources": sources,
        }
    )
    return Page(whole=str(module), inner=str(vars(module)["inner"]), sources=sources)


def _packed(inner: str, sources: str) -> str:
    """The page's content and its data, compressed: the page's script unpacks them."""
    text = json.dumps([str(inner), sources], ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _embedded(value: Any) -> str:
    """JSON that cannot end the script element it stands in, nor begin a comment."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _shipped(name: str) -> str:
    return (files("wtsbench.reports") / "page" / name).read_text(encoding="utf-8")
