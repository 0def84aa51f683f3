"""What a report shows of the data that trials learned from and were tested on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wtsbench.reports.document import Block, Column, Line, Listing, Prose, Table, TableCell

if TYPE_CHECKING:
    from wtsbench.data.account import Account


def accounts(found: Sequence[Account]) -> Iterator[Block]:
    """What became of the rows of each task, its splits, and what to be warned of."""
    from wtsbench.data.account import SHOWS

    warnings = tuple(warning for account in found for warning in account.warnings)
    if warnings:
        yield Listing(items=warnings, tone="warn")
    yield Listing(items=tuple(line for account in found for line in account.lines))
    headings = {"task": False, "split": False, "items": True, "groups": True, "classes": False, "left out": False}
    columns = [Column(heading=name, numeric=numeric) for name, numeric in headings.items()]
    rows = [(account.task, split) for account in found for split in account.splits]
    yield Table(
        caption="",
        columns=(*columns, Column(heading="shows", help=SHOWS.partition(": ")[2])),
        lines=tuple(
            Line(
                cells=(
                    TableCell(text=task),
                    TableCell(text=split.split),
                    *(TableCell(text=f"{number:,}", number=number) for number in (split.items, split.groups)),
                    *(TableCell(text=text) for text in (split.shares, split.gone, split.shown)),
                ),
                kind="split",
            )
            for task, split in rows
        ),
    )
    if any(split.shows for _, split in rows):
        yield Prose(text=SHOWS, tone="dim")
