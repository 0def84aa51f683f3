"""A site of reports: an index over time, what changed on top, and the same results once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.reports.worlds import World, simple
from wtsbench.errors import SpecError
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.site import add, published


def later(world: World, day: int) -> World:
    """The same with trials of another day of January 2026."""
    for row in world.trials:
        row["started_at"] = row["started_at"].replace(day=day)
    return world


def text_of(page: Path) -> str:
    """What a page shows, without its script and styles."""
    inner = page.read_text().partition("<main>")[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", inner).split())


def test_a_site_says_what_changed_and_keeps_every_report(tmp_path: Path) -> None:
    """Two reports: the loss of a strategy is named on top, the index leads to both, and a third time adds none."""
    site = tmp_path / "site"
    first = later(simple({"naive": 0.8, "logconf": 0.8}, items=120), 1).folder(tmp_path / "one")
    second = later(simple({"naive": 0.8, "logconf": 0.5}, items=120), 9).folder(tmp_path / "two")
    index, _ = add(first, leaderboard(first, resamples=500), site)
    assert "What changed" not in text_of(index)
    for _ in range(2):
        index, page = add(second, leaderboard(second, resamples=500), site)
    newest, oldest = published(site)
    assert (newest.at[:10], oldest.at[:10]) == ("2026-01-09", "2026-01-01")
    shown = text_of(index)
    assert shown.index("What changed since 2026-01-01") < shown.index("Newest first")
    assert re.search(r"Worse than the report before: 1 regression, ", shown)
    assert re.search(r"regression colours, small -&gt; large: logconf 0.800 0.500", shown)
    assert re.search(r"first: colours, small -&gt; large: logconf 0.500 0.800", shown)
    links = re.findall(r'href="([^"#]+)"', index.read_text().replace("data:,", "#"))
    assert [site / link for link in links] == [page, site / oldest.name / "index.html"]
    assert all((site / link).is_file() for link in links)


def test_reports_of_one_day_are_told_apart(tmp_path: Path) -> None:
    """Their columns have the time as well, and so has the heading of what changed."""
    site = tmp_path / "site"
    for hour, accuracy in ((8, 0.8), (9, 0.5)):
        world = later(simple({"naive": accuracy}, items=40), 1)
        for row in world.trials:
            row["started_at"] = row["started_at"].replace(hour=hour)
        store = world.folder(tmp_path / str(hour))
        index, _ = add(store, leaderboard(store, resamples=50), site)
    newest, oldest = (one.at.replace("T", " ")[:19] for one in published(site))
    shown = text_of(index)
    assert f"What changed since {oldest}" in shown
    assert re.search(rf"entry {newest} {oldest} first", shown)


def test_a_folder_that_is_no_report_is_named(tmp_path: Path) -> None:
    """A broken entry is the user's to remove; nothing is guessed."""
    (tmp_path / "2026-01-01-x").mkdir()
    (tmp_path / "2026-01-01-x" / "report.json").write_text("[]")
    with pytest.raises(SpecError, match="is no entry of a site"):
        published(tmp_path)


def test_a_report_of_a_site_has_samples_where_they_are_asked_for(tmp_path: Path) -> None:
    """As beside a report of its own: a file for each student, and none where they are not asked for any more."""
    store = simple({"naive": 0.8, "logconf": 0.8}, items=40).folder(tmp_path / "store")
    board = leaderboard(store, resamples=50)
    for samples, files in ((True, 2), (False, 0)):
        _, page = add(store, board, tmp_path / "site", samples=samples)
        assert len([*page.parent.rglob("*_samples.jsonl")]) == files
