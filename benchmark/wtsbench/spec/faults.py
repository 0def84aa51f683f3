"""Faults of a user's file: each with line, key path and the nearest valid name, all of them reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from wtsbench.errors import SpecError
from wtsbench.visible import visible

MOST_LINES = 50
"""Faults that a message names; a list of thousands of wrong numbers would push everything else off the screen."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong with a file."""

    file: str
    message: str
    """What is wrong, in one line of plain words."""
    path: str = ""
    """Where in the document, as `strategies[1].max_weight`; empty for the document as a whole."""
    line: int | None = None
    """Counted from 1; None if the fault has no line, such as an unreadable file."""
    column: int | None = None
    """Counted from 1, in characters."""
    suggestion: str | None = None
    """The nearest valid name."""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        path = f" {self.path}:" if self.path else ""
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion is not None else ""
        return visible(f"{where}:{path} {self.message}{hint}")


class SpecFaults(SpecError):
    """A file is wrong in one or more places."""

    faults: tuple[Fault, ...]

    def __init__(self, faults: Iterable[Fault]) -> None:
        ordered = sorted(dict.fromkeys(faults), key=lambda fault: (fault.file, fault.line or 0, fault.column or 0))
        assert ordered, "a report of faults names at least one"
        self.faults = tuple(ordered)
        lines = [str(fault) for fault in ordered[:MOST_LINES]]
        more = [f"and {len(ordered) - MOST_LINES:,} more"] if len(ordered) > MOST_LINES else []
        super().__init__(lines[0] if len(ordered) == 1 else "\n  ".join([f"{len(ordered):,} faults", *lines, *more]))

    def __reduce__(self) -> tuple[object, ...]:
        return SpecFaults, (self.faults,)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The valid name that `name` was probably meant to be; None if none is similar. Case is ignored."""
    folded = {_fold(valid): valid for valid in names}
    close = difflib.get_close_matches(_fold(name), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")
