"""Rows that become several items, or an item made of several texts: choices, preferences, mismatches.

Every choice is made by a hash of the content: the same for every order of the rows and every data seed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from wtsbench.data.normalise import comparable, content_key, is_blank
from wtsbench.spec.items import Choices, Mismatch, Preference
from wtsbench.spec.task import TaskManifest

Cells = dict[str, str]
"""Column to text."""


@dataclass(frozen=True)
class Labelled:
    """The cells of an item and its label."""

    cells: Cells
    said: str
    """A value of the label column, or one of the expansion's `meanings`."""
    ties: tuple[str, ...] = ()
    """Items with a common value belong to one group."""


def expand(
    manifest: TaskManifest, rows: Sequence[tuple[int, Cells]], faults: list[str], counts: Counter[str]
) -> list[Labelled]:
    """The items of all rows; appends to `faults` and `counts`.

    Args:
        manifest: a task with one of the three expansions.
        rows: position and cells of each row.
        faults: errors, row by row.
        counts: of rows that were left out.
    """
    match manifest.expansion:
        case Mismatch() as mismatch:
            return _mismatched(mismatch, [cells for _, cells in rows], counts)
        case Preference() as preference:
            compared = [_compared(preference, cells) for _, cells in rows]
            counts["indistinct_pairs_dropped"] = compared.count(None)
            return [item for item in compared if item is not None]
        case Choices() as choices:
            question_columns = tuple(name for name in manifest.text_columns if name != "choice")
            return _chosen(choices, question_columns, rows, faults, counts)
    raise AssertionError("rows that are items themselves")


def _chosen(
    choices: Choices, asked: tuple[str, ...], rows: Sequence[tuple[int, Cells]], faults: list[str], counts: Counter[str]
) -> list[Labelled]:
    """Two items per question, one with the right choice and one with a wrong choice."""
    result: list[Labelled] = []
    counts["rows_without_two_choices"] = 0
    for place, cells in rows:
        if choices.right is not None:
            number = choices.options.index(choices.right)
        else:
            written = cells[choices.number or ""].removesuffix(".0")
            if not (written.isascii() and written.isdigit() and int(written) < len(choices.options)):
                last = len(choices.options) - 1
                faults.append(f"row {place + 1}: {choices.number} is {written!r}, not a number from 0 to {last}")
                continue
            number = int(written)
        right = cells[choices.options[number]]
        others = {cells[name] for name in choices.options if comparable(cells[name]) not in ("", comparable(right))}
        if is_blank(right) or not others:
            counts["rows_without_two_choices"] += 1
            continue
        question = content_key([cells[name] for name in asked])
        wrong = min(others, key=lambda other: (_hash(question, comparable(other)), other))
        for choice, said in ((right, "right"), (wrong, "wrong")):
            result.append(Labelled({**cells, "choice": choice}, said, (f"question\n{question}",)))
    return result


def _compared(preference: Preference, cells: Cells) -> Labelled | None:
    """The item that shows both texts; None if they are the same."""
    better, worse, context = cells[preference.better], cells[preference.worse], ""
    if preference.marker is not None:
        end = _common_end(better, worse, preference.marker)
        context, better, worse = better[:end].strip(), better[end:].strip(), worse[end:].strip()
    one, two = comparable(better), comparable(worse)
    if one == two:
        return None
    swapped = _hash(comparable(context), *sorted((one, two)))[0] % 2 == 1
    first, second = sorted((one, two), reverse=swapped)
    shown = (better, worse) if (one, two) == (first, second) else (worse, better)
    label = "first" if shown[0] is better else "second"
    return Labelled({**cells, "context": context, "first": shown[0], "second": shown[1]}, label)


def _common_end(one: str, two: str, marker: str) -> int:
    """End of the last marker within the common prefix of the two texts; 0 if there is none."""
    shared = next(
        (place for place, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
    )
    last = one.rfind(marker, 0, shared)
    return 0 if last < 0 else last + len(marker)


def _mismatched(mismatch: Mismatch, rows: Sequence[Cells], counts: Counter[str]) -> list[Labelled]:
    """Each row as it is, and once with a part from the next suitable row, in the order of a hash."""
    ranked = sorted(rows, key=lambda cells: (_hash(*(comparable(cells[name]) for name in sorted(cells))), str(cells)))
    apart = [comparable(cells[mismatch.apart]) for cells in ranked]
    result = [Labelled(cells, "together") for cells in ranked]
    counts["rows_without_another"] = 0
    for place, cells in enumerate(ranked):
        others = (step % len(ranked) for step in range(place + 1, place + len(ranked)))
        other = next((other for other in others if apart[other] != apart[place]), None)
        if other is None:
            counts["rows_without_another"] += 1
            continue
        result.append(Labelled({**cells, mismatch.column: ranked[other][mismatch.column]}, "apart"))
    return result


def _hash(*parts: str) -> bytes:
    return hashlib.sha256("\x1f".join(parts).encode()).digest()
