"""Names of places in a document: anchors of sections, and keys of what stands behind a row."""

from __future__ import annotations

import hashlib
import re

from wtsbench.reports.rows import Row
from wtsbench.visible import storable


def anchor_of(*parts: str) -> str:
    """An anchor, or a name of a file, of letters, digits and dashes: another one for other parts, none of them long."""
    return "--".join(map(_anchor_part, parts))


def _anchor_part(part: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-")[:40]
    return plain if plain == part else f"{plain}-{hashlib.sha256(storable(part).encode()).hexdigest()[:8]}".strip("-")


def source_of(row: Row) -> str:
    """The key of a row's provenance."""
    judged = f"{row.data_digest[:12]}{(row.scorer or '')[:12]}"
    return "|".join((row.grid, row.task, row.weak, row.strong, row.split, judged, row.strategy))
