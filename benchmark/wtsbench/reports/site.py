"""A static site of several reports of a store: an index over time, with what changed since the last one on top.

A report has a folder of its own, named by when its last trial began and by what its grids scored, so that publishing
the same results again adds nothing. Beside its page it keeps a baseline of each grid: the next report is compared with
it as a gate would, by item and seed, without the old store. The index is made of those folders alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wtsbench.errors import SpecError
from wtsbench.reports import outcome
from wtsbench.reports.anchors import anchor_of
from wtsbench.reports.baseline import SUFFIX, measured, read
from wtsbench.reports.baseline import write as write_baseline
from wtsbench.reports.compose import grids
from wtsbench.reports.document import Block, Column, Document, Line, Prose, Section, Table, TableCell
from wtsbench.reports.files import PAGE, require_own, write
from wtsbench.reports.gate import Limits, gate
from wtsbench.reports.html import page
from wtsbench.reports.publish import publish
from wtsbench.reports.rows import Leaderboard
from wtsbench.reports.runs import Runs
from wtsbench.reports.wording import MISSING, number
from wtsbench.store.client import Store
from wtsbench.visible import visible

_ENTRY = "report.json"
"""What the index knows of a report, in its folder."""
_SHOWN = 8
"""Reports whose scores stand side by side; all are listed."""


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """One report of a site."""

    name: str
    """Of its folder."""
    at: str
    """When its last trial began, UTC."""
    grids: dict[str, str]
    """By name, the file of its baseline."""
    scores: dict[str, float]
    """By entry of a table."""


def add(store: Store, board: Leaderboard, site: Path, *, samples: bool = False) -> tuple[Path, Path]:
    """Publish a report into a site, and make the site's index anew.

    Args:
        store: where the trials are.
        board: the leaderboard.
        site: the site's folder, made where there is none.
        samples: as of `publish`.

    Returns:
        The index, and the report's page.

    Raises:
        SpecError: the folder cannot be written, its index is another program's page, or what is in it is no report.
        StoreError: the store cannot be read.
    """
    require_own(site, [PAGE])
    baselines = {grid: measured(store, grid) for grid in dict.fromkeys(row.grid for row in board.rows)}
    at = max((one["started_at"] for one in Runs(store, board).trials.values()), default="")
    scores = {
        f"{grid}: {visible(group.title)}: {visible(row.strategy)}": row.student_score
        for grid, tables in grids(board)
        for group, _ in tables
        for row in group.rows
        if row.student_score is not None
    }
    said = json.dumps([at, board.records()], sort_keys=True, default=str)
    name = f"{at[:10] or 'empty'}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
    made = publish(store, board, site / name, samples=samples)[0]
    files = {grid: f"{anchor_of(grid)}{SUFFIX}" for grid in baselines}
    for grid, baseline in baselines.items():
        write_baseline(baseline, site / name / files[grid])
    entry = {"name": name, "at": at, "grids": files, "scores": scores}
    write(site / name / _ENTRY, (json.dumps(entry, indent=1, ensure_ascii=False) + "\n").encode())
    known = published(site)
    write(site / PAGE, page(index(known, site)).encode())
    return site / PAGE, made


def published(site: Path) -> list[SiteReport]:
    """The reports of a site, newest first.

    Raises:
        SpecError: what a folder says of its report cannot be read.
    """
    found = []
    for path in site.glob(f"*/{_ENTRY}"):
        try:
            one = SiteReport(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise SpecError(
                f"{path} is no entry of a site: {error}", remedy="remove its folder from the site."
            ) from None
        if one.name == path.parent.name:  # a copy under another name is not a report more
            found.append(one)
    return sorted(found, key=lambda one: (one.at, one.name), reverse=True)


def index(reports: Sequence[SiteReport], site: Path) -> Document:
    """The page of a site.

    Args:
        reports: newest first.
        site: the folder of the site.
    """
    sections = [Section(title="Reports", anchor="reports", blocks=tuple(_listed(reports)))]
    if len(reports) > 1:
        newest, before = reports[:2]
        changes = Section(
            title=f"What changed since {_days(reports[:2])[1]}",
            anchor="changes",
            blocks=tuple(_changes(before, newest, site)),
        )
        sections = [changes, *sections]
    return Document(title="wtsbench reports", lead=(), sections=tuple(sections))


def _changes(before: SiteReport, now: SiteReport, site: Path) -> Iterator[Block]:
    """Each grid of the newest report beside the same one of the report before it."""
    for grid, file in now.grids.items():
        if grid not in before.grids:
            yield Prose(text=f"Grid {grid} is new.")
            continue
        then = read(site / before.name / before.grids[grid])
        found = gate(then, read(site / now.name / file), Limits(thresholds={}))
        yield Prose(text=f"Grid {grid}")
        for section in outcome.document(found, (), against="the report before").sections:
            yield from section.blocks
    for grid in before.grids.keys() - now.grids.keys():
        yield Prose(text=f"Grid {grid} is no longer there.", tone="warn")


def _listed(reports: Sequence[SiteReport]) -> Iterator[Block]:
    yield Table(
        caption="Newest first",
        columns=(Column(heading="last trial"), Column(heading="grids"), Column(heading="entries", numeric=True)),
        lines=tuple(
            Line(
                cells=(
                    TableCell(
                        text=one.at.replace("T", " ").replace("Z", " UTC") or one.name, link=f"{one.name}/index.html"
                    ),
                    TableCell(text=", ".join(map(visible, one.grids))),
                    TableCell(text=f"{len(one.scores):,}", number=len(one.scores)),
                ),
                kind="report",
            )
            for one in reports
        ),
    )
    shown = reports[:_SHOWN]
    entries = list(dict.fromkeys(name for one in shown for name in one.scores))
    if len(shown) < 2:
        return
    yield Table(
        caption=f"Scores over time, newest first{f'; the last {_SHOWN} reports' if len(reports) > _SHOWN else ''}",
        columns=(Column(heading="entry"), *(Column(heading=day, numeric=True) for day in _days(shown))),
        lines=tuple(
            Line(cells=(TableCell(text=name), *(_score(one.scores.get(name)) for one in shown)), kind="entry")
            for name in entries
        ),
    )


def _days(reports: Sequence[SiteReport]) -> list[str]:
    """The days of reports, with the time where two are of one day."""
    days = [one.at[:10] for one in reports]
    return [f"{day} {one.at[11:19]}" if days.count(day) > 1 else day for day, one in zip(days, reports, strict=True)]


def _score(value: float | None) -> TableCell:
    return TableCell(text=MISSING if value is None else number(value, 3), number=value)
