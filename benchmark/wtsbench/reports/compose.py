"""A leaderboard as a document: an overview, a section a table, what is missing, and the methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wtsbench.reports.anchors import anchor_of
from wtsbench.reports.blocks import main_table, metrics, overview
from wtsbench.reports.document import (
    Block,
    Column,
    Document,
    Formula,
    Line,
    Listing,
    Prose,
    Section,
    Table,
    TableCell,
)
from wtsbench.reports.findings import findings, gain_verdict, gap_proven
from wtsbench.reports.rows import Comparison, Leaderboard
from wtsbench.reports.wording import (
    EMPTY,
    Group,
    Notes,
    groups,
    legend,
    missing_seeds,
    other_submissions,
    published_notes,
)

if TYPE_CHECKING:
    from wtsbench.data.account import Account


def grids(board: Leaderboard) -> Iterator[tuple[str, list[tuple[Group, list[Comparison]]]]]:
    """Grid names, each with its tables and what was compared in them."""
    for grid, tables in groups(board.rows):
        yield (
            grid,
            [(group, [each for each in board.comparisons if each.table == group.rows[0].table]) for group in tables],
        )


def sentence(group: Group, compared: Sequence[Comparison]) -> str:
    """What a table proves, and what it does not, in one sentence or two."""
    strategies = [row for row in group.strategies if row.seeds_done]
    if not strategies:
        return "Nothing is measured yet."
    said = "The ceiling is proven better than the weak supervisor"
    if not any(map(gap_proven, strategies)):
        said = "No gap is proven that a student could recover"
    verdicts = {row.strategy: gain_verdict(row) for row in strategies}
    up, down = ([name for name, verdict in verdicts.items() if verdict == each] for each in ("better", "worse"))
    gain = "gain over the weak supervisor is proven"
    parts = [f"a {gain} for {_names(up)}" if up else f"no {gain}"]
    if down:
        parts.append(f"a loss for {_names(down)}")
    origin = " Other code made these predictions; they were imported." if strategies[0].origin == "external" else ""
    return f"{said}; {', '.join(parts)}.{_told_apart(compared)}{origin}"


def _told_apart(compared: Sequence[Comparison]) -> str:
    """Of how many pairs of strategies one is proven better; nothing where no two were compared."""
    verdicts = [each.verdict for each in compared if each.family == "strategies" and each.verdict is not None]
    if not verdicts:
        return ""
    apart = sum(verdict != "tie" for verdict in verdicts)
    pairs = f"{apart} of {len(verdicts)} pairs of strategies {'is' if apart == 1 else 'are'}"
    return f" After correction, {pairs if apart else 'no two strategies are'} told apart."


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)


def table_section(group: Group, notes: Notes, blocks: Sequence[Block]) -> Section:
    """One table with what its reader has to know, and what else is shown of it."""
    row = group.rows[0]
    footnotes, sources = tuple(notes.of(group.rows)), tuple(published_notes(group))
    return Section(
        title=group.title,
        anchor=anchor_of(
            row.grid,
            row.task,
            row.weak,
            row.strong,
            row.split,
            (row.scorer or "")[:8],
            *([row.data_digest[:8]] if group.apart else []),
        ),
        blocks=(
            *([Prose(text=group.warning, tone="warn")] if group.warning else []),
            main_table(group, notes),
            *([Listing(items=footnotes, tone="warn")] if footnotes else []),
            *([Listing(items=sources, tone="dim")] if sources else []),
            *blocks,
        ),
    )


def board_document(board: Leaderboard, *, details: bool = False) -> Document:
    """A leaderboard for people: an overview of each grid, its tables, which strategies help, what is missing.

    Args:
        board: what to show.
        details: whether the metrics beside the one that ranks are shown.
    """
    notes = Notes(board.rows)
    sections = [
        Section(
            title=grid,
            anchor=anchor_of("grid", grid),
            blocks=tuple(opening(board, grid, len(tables))),
            sections=tuple(
                table_section(
                    group, notes, (Prose(text=sentence(group, compared)), *(metrics(group) if details else ()))
                )
                for group, compared in tables
            ),
        )
        for grid, tables in grids(board)
    ]
    return Document(
        title="wtsbench leaderboard",
        lead=() if sections else (Prose(text=EMPTY),),
        sections=(*sections, *closing(board, notes)),
    )


def opening(board: Leaderboard, grid: str, tables: int) -> Iterator[Block]:
    """What stands before the tables of a grid."""
    for line in other_submissions(board.submissions, grid):
        yield Prose(text=line, tone="warn")
    if tables > 1:
        yield overview(board, grid)
    yield from findings(board, grid)


def closing(board: Leaderboard, notes: Notes) -> Iterator[Section]:
    """What is missing, and what the columns mean."""
    if not board.rows:
        return
    lacking = tuple(missing_seeds(board.rows))
    if lacking:
        yield Section(title="Incomplete", anchor="incomplete", blocks=(Listing(items=lacking, tone="bad"),))
    if board.data:
        yield Section(title="Data", anchor="data", blocks=tuple(_accounts(board.data)))
    if board.unread:
        lines = tuple(f"cannot be read: {line}" for line in board.unread)
        yield Section(title="Unreadable", anchor="unreadable", blocks=(Listing(items=lines, tone="warn"),))
    blocks: list[Block] = [Prose(text=notes.count, tone="warn")] if notes.count else []
    blocks.append(Listing(items=tuple(legend(board.rows)), tone="dim"))
    yield Section(title="How to read it", anchor="legend", blocks=tuple(blocks))


def _accounts(found: Sequence[Account]) -> Iterator[Block]:
    """What became of the rows of each task that trials learned from, its splits, and what to be warned of."""
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


_METHODS = (
    "The weak supervisor learns from ground truth of the split weak_train. Its predictions on transfer are the "
    "student's labels; the ceiling is the same strong model on the same items with ground truth. Splits are "
    "disjoint by group of near-identical items.",
    "Intervals are 95%, over seeds and groups of test items: a paired bootstrap whose variance is taken apart "
    "into seeds, items and their interaction, with Student's t at Satterthwaite's degrees of freedom. The "
    "interval of PGR is Fieller's, in the same construction. Where a table names draws of the training items, "
    "these, each the mean of its seeds, stand for seeds; elsewhere nothing is said of other training items.",
    "Strategies are compared pair by pair on the seeds that both have done and on the same items, and p-values "
    "are corrected for all pairs of a table (Holm 1979) at 5%. A rank is 1 plus the number of strategies that are "
    "proven better; ties share it. Controls are never ranked.",
    "PGR is shown only where the gap is proven. That selection pulls what is shown towards .5 where gaps are "
    "small. A trial that failed counts in the denominator of seeds, never as a score.",
)
METHODS = Section(
    title="Methods",
    anchor="methods",
    blocks=(
        Formula(name="PGR", text="(student − weak) / (ceiling − weak), as a ratio of means over seeds"),
        *(Prose(text=text) for text in _METHODS),
    ),
)
