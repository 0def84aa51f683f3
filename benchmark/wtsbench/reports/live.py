"""Pages of a store while it is written: how far it is, its report as it stands, and each trial with its log.

A page is computed when somebody asks for it, at most once in a while, and kept until then: looking costs the machine
that runs trials next to nothing, however many look.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from wtsbench.errors import NoStore, UserError
from wtsbench.planning.report import name_of
from wtsbench.reports import html
from wtsbench.reports.contents import submissions
from wtsbench.reports.document import Block, Column, Document, Line, Prose, Section, Table, TableCell, Verbatim
from wtsbench.reports.kept import KeptTables
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.publish import document
from wtsbench.reports.runs import Runs
from wtsbench.reports.status import Status, called, cells_by_trial, status
from wtsbench.store.client import Store, open_store
from wtsbench.visible import visible, visible_texts

_SECONDS = 1.0
"""Between two computations of a page."""
_SHARE = 5.0
"""And so many times as long as the last one took: looking takes a fifth of a core at most."""
_LOG_LINES = 2_000
"""Of a trial, from the end."""
_LISTED = 50
"""Trials of a kind that a page lists."""


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """A page, and a tag that another content has another one of."""

    tag: str
    title: str
    page: html.Page


@dataclass
class Live:
    """The pages of a store. Safe to use from several threads.

    Args:
        uri: the store's address; it need not be there yet.
        grid: only this grid.
    """

    uri: str
    grid: str | None
    _kept: dict[str, tuple[Tagged, float]] = field(default_factory=dict)
    """By trial id, or nothing for the report: pages with the time at which they grow old."""
    _store: Store | None = None
    """Once it is there."""
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def page(self, trial_id: str = "") -> Tagged | None:
        """The report, or a trial's page; None where the store has no such trial."""
        with self._mutex:
            known = self._kept.get(trial_id)
            if known is not None and time.monotonic() < known[1]:
                return known[0]
            begun = time.monotonic()
            try:
                shown = self._document(trial_id)
            except UserError as error:  # a store that is not there yet, or does not answer now
                if known is not None and not isinstance(error, NoStore):
                    return known[0]
                waiting = "There is no store yet." if isinstance(error, NoStore) else str(error)
                shown = (
                    Document(title=f"wtsbench: {self.uri}", lead=(Prose(text=waiting, tone="warn"),), sections=()),
                    {},
                )
            if shown is None:
                return None
            made = _tagged(*shown)
            took = time.monotonic() - begun
            if len(self._kept) > _LISTED:  # of trials that somebody looked at once
                self._kept = {"": self._kept[""]} if "" in self._kept else {}
            self._kept[trial_id] = made, time.monotonic() + max(_SECONDS, _SHARE * took)
            return made

    def _document(self, trial_id: str) -> tuple[Document, Mapping[str, str]] | None:
        store = self._store = self._store or open_store(self.uri)
        if trial_id:
            found = self._trial(store, trial_id)
            return None if found is None else (found, {})
        board = leaderboard(store, self.grid, kept=KeptTables.of_user())
        board = replace(board, rows=tuple(visible_texts(board.rows)))
        runs = Runs(store, board)
        whole = document(board, runs)
        progress = Section(
            title="Progress",
            anchor="progress",
            blocks=tuple(_progress(status(store, self.grid))),
        )
        return replace(whole, sections=(progress, *whole.sections)), runs.failure_logs()

    def _trial(self, store: Store, trial_id: str) -> Document | None:
        """Everything that is known of a trial: its attempts, and the log of the last one."""
        begun = store.attempts([trial_id]).to_pylist()
        ended = {row["attempt"]: row for row in store.trials([trial_id]).to_pylist()}
        numbers = sorted({*ended, *(row["attempt"] for row in begun)})
        if not numbers:
            return None
        last = numbers[-1]
        row = ended.get(last)
        if row is None:
            lines = store.printed(trial_id, last)["text"].to_pylist()
            facts = {"trial": trial_id, "attempt": last, "status": "begun, and not ended"}
            title = called(trial_id, cells_by_trial(submissions(store))) or f"trial {trial_id[:12]}"
        else:
            lines = store.logs(trial_id, last)["text"].to_pylist()
            hidden = ("spec", "strategy_json", "baselines", "failure_detail", "records", "measurements")
            facts = {name: value for name, value in row.items() if name not in hidden and value not in (None, "", [])}
            title = name_of(row["role"], row["task"], row["model"], row["strategy"], row["seed"], row["data_seed"])
        blocks: list[Block] = [
            _table("", ("", ""), [(name.replace("_", " "), _told(value)) for name, value in facts.items()])
        ]
        if row is not None and row["failure_detail"]:
            blocks.append(Verbatim(text=visible(row["failure_detail"], keep="\t\n")))
        shown = "\n".join(visible(line.rstrip("\n"), keep="\t") for line in lines[-_LOG_LINES:])
        log = Verbatim(text=shown) if shown else Prose(text="It has printed nothing so far.", tone="dim")
        return Document(
            title=visible(title),
            lead=(Prose(text="All results", link="/"),),
            sections=(
                Section(title="Record", anchor="record", blocks=tuple(blocks)),
                Section(title=f"Log of attempt {last}", anchor="log", blocks=(log,)),
            ),
        )


def _tagged(shown: Document, logs: Mapping[str, str]) -> Tagged:
    plain = html.made(shown, logs, live="")
    tag = hashlib.sha256(f"{shown.title}\0{plain.inner}\0{plain.sources}".encode()).hexdigest()[:32]
    whole = plain.whole.replace('data-tag=""', f'data-tag="{tag}"', 1)
    return Tagged(tag=tag, title=shown.title, page=replace(plain, whole=whole))


def _progress(found: Status) -> Iterator[Block]:
    headings = ("done", "failed", "running", "abandoned", "waiting")
    counts = [
        (
            visible(one.grid),
            f"{one.cells_done:,} of {one.cells_total:,}",
            *(f"{getattr(one.trials, name):,}" for name in headings),
        )
        for one in found.grids
    ]
    yield _table("Trials of each grid", ("grid", "cells", *headings), counts)
    now = [
        (
            _linked(one.trial_id, one.name),
            f"{one.attempt}",
            visible(one.host),
            f"{one.seconds:,.0f} s{', slow' if one.slow else ''}",
            "" if one.share is None else f"{one.share:.0%}",
        )
        for one in found.running
    ]
    if now:
        yield _table("Running now", ("trial", "attempt", "host", "for", "done"), now)
    failed = {one.trial_id: one for grid in found.grids for one in grid.failures}.values()
    why = [
        (
            _linked(one.trial_id, name_of(one.role, one.task, one.model, one.strategy, one.seed, one.data_seed)),
            visible(f"{one.failure_class}: {one.message}"),
        )
        for one in failed
    ]
    if why:
        yield _table("Failed", ("trial", "why"), why)


def _linked(trial_id: str, name: str) -> TableCell:
    return TableCell(text=visible(name), link=f"/trial/{trial_id}")


def _table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str | TableCell]]) -> Table:
    """A table of texts; the first so many lines of it."""
    more = f" (the first {_LISTED} of {len(rows):,})" if len(rows) > _LISTED else ""
    lines = [tuple(TableCell(text=cell) if isinstance(cell, str) else cell for cell in row) for row in rows[:_LISTED]]
    return Table(
        caption=caption + more,
        columns=tuple(Column(heading=heading) for heading in headings),
        lines=tuple(Line(cells=cells, kind="live") for cells in lines),
    )


def _clock(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _told(value: Any) -> str:
    return _clock(value) if isinstance(value, datetime) else visible(str(value))
