"""The report's page in a real browser, opened from disk: it sorts, filters, tells its sources, and does no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.reports.test_renderers import merged
from tests.reports.worlds import simple
from wtsbench.errors import SpecError
from wtsbench.reports import html
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.publish import publish
from wtsbench.reports.site import add

ATTACK = '</script><script>document.title="owned"</script><img src=x onerror=document.title="owned">'
"""As a name of a strategy: it must show, and do nothing."""
TIMEOUT = 10_000
"""Milliseconds."""


@pytest.fixture(scope="module", params=["plain", "packed"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on two grids with hostile names, a failure and an unproven gap; packed as a large one."""
    folder = tmp_path_factory.mktemp("report")
    world = simple({"naive": 0.7, ATTACK: 0.8, "late": 0.5}, skip=[("late", 1), ("late", 2)], grid="first")
    world.trial(
        "student", "colours", "large", 2, world.datasets[0]["data_digest"],
        strategy="late", failure=("trial_error", f"{ATTACK} \x1b[31m"),
    )  # fmt: skip
    other = simple({"naive": 0.7}, weak=0.8, ceiling=0.81, task="`a`|*b*_c_ $x$ \\input{x} @all", grid="second")
    store = merged(world, other).folder(folder)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "packed":
            patch.setattr(html, "_MOST_PLAIN", 0)
        publish(store, leaderboard(store, resamples=1_000), folder / "out")
    return folder / "out"


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The page, opened; afterwards nothing was said on the console and nothing was asked for."""
    said: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(TIMEOUT)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("data:") else None)
    page.goto((report / "index.html").as_uri())
    page.locator("#filter").wait_for()
    yield page
    assert said == [(report / "index.html").as_uri()]
    page.close()


@pytest.mark.browser
def test_a_hostile_name_is_shown_and_does_nothing(page: Page) -> None:
    """The text of the attack stands in the table as it is; the title is still the report's."""
    assert page.title() == "Weak-to-strong generalization: first, second"
    assert page.locator("button.source", has_text=ATTACK).count() >= 1
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2


@pytest.mark.browser
def test_a_table_sorts_by_its_numbers(page: Page) -> None:
    """A click sorts upwards, another downwards; what has no number stays at the end."""
    table = page.locator("section.table table.sortable").first
    scores = table.locator("tbody tr td:nth-child(3)")
    button = table.get_by_role("button", name="score")
    button.click()
    values = [float(text.split()[0]) for text in scores.all_inner_texts() if text[0].isdigit()]
    assert values == sorted(values)
    assert len(set(values)) > 2
    button.click()
    assert [float(text.split()[0]) for text in scores.all_inner_texts() if text[0].isdigit()] == sorted(values)[::-1]
    assert table.locator("thead th").nth(2).get_attribute("aria-sort") == "descending"


@pytest.mark.browser
def test_a_filter_leaves_the_lines_that_fit(page: Page) -> None:
    """Words of a line's grid, task, models and strategy; tables without such a line are hidden."""
    every = page.locator("tr[data-text]:visible").count()
    page.get_by_label("Filter lines").fill("first naive")
    left = page.locator("tr[data-text]:visible")
    assert 0 < left.count() < every
    assert all("naive" in (left.nth(place).get_attribute("data-text") or "") for place in range(left.count()))
    assert page.locator("section.table:visible").count() == 1


@pytest.mark.browser
def test_behind_a_line_stand_its_trials(page: Page) -> None:
    """By keyboard: the name of a line opens where its numbers come from, trial by trial, and Escape closes it."""
    button = page.locator("button.source", has_text="naive").first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    assert dialog.locator("details").count() == 9
    assert "data digest" in dialog.inner_text()
    dialog.locator("summary").first.click()
    assert "model revision" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


@pytest.mark.browser
def test_the_page_fits_a_phone(page: Page) -> None:
    """Nothing but the tables scrolls sideways, and every chart has words for those who cannot see it."""
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    figures = page.locator("figure")
    assert figures.count() >= 2
    assert all(len(figures.nth(place).locator(".spoken").inner_text()) > 40 for place in range(figures.count()))


@pytest.mark.browser
def test_no_text_is_cut_off_or_covered_on_a_phone(page: Page) -> None:
    """Captions of wide tables fit the window, labels of charts their figures, and no label lies on another."""
    wide = "[...document.querySelectorAll('caption > span')].map(span => span.getBoundingClientRect().right)"
    assert max(page.evaluate(wide)) <= 390
    page.set_viewport_size({"width": 1280, "height": 900})
    outside = """[...document.querySelectorAll('figure svg text')].filter(text => {
        const box = text.getBoundingClientRect(), room = text.closest('figure').getBoundingClientRect();
        return box.width && (box.left < room.left - 1 || box.right > room.right + 1);
    }).map(text => text.textContent)"""
    assert page.evaluate(outside) == []
    covered = """[...document.querySelectorAll('figure svg .role-axis-label')].flatMap(axis => {
        const boxes = [...axis.querySelectorAll('text')].filter(text => getComputedStyle(text).opacity > 0)
            .map(text => [text.textContent, text.getBoundingClientRect()]);
        return boxes.slice(1).filter(([, box], place) => {
            const before = boxes[place][1];
            return box.left < before.right && before.left < box.right && box.top < before.bottom - 2
                && before.top < box.bottom - 2;
        }).map(([text]) => text);
    })"""
    assert page.locator("figure svg .role-axis-label").count() > 2
    assert page.evaluate(covered) == []


def test_the_same_store_gives_the_same_report(report: Path, tmp_path: Path) -> None:
    """Byte for byte, from rows in another order; the page is small, and names nothing on the network."""
    world = simple({"naive": 0.7, "logconf": 0.8})
    pages = []
    for number in range(2):
        store = world.folder(tmp_path / str(number))
        publish(store, leaderboard(store, resamples=500), tmp_path / f"out-{number}")
        pages.append((tmp_path / f"out-{number}" / "index.html").read_bytes())
    assert pages[0] == pages[1]
    text = (report / "index.html").read_text()
    assert len(text) < 2**20
    assert {line for line in text.split('"') if line.startswith("http") and "w3.org" not in line} == set()


def test_a_report_replaces_no_file_that_is_not_a_reports(tmp_path: Path) -> None:
    """A folder with somebody's `rows.csv`, or a page of another program, is refused and left as it is."""
    store = simple({"naive": 0.7}).folder(tmp_path / "store")
    board = leaderboard(store, resamples=500)
    (tmp_path / "rows.csv").write_text("my data")
    with pytest.raises(SpecError, match=r"is no report of wtsbench and has rows\.csv"):
        publish(store, board, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "store"]
    assert (tmp_path / "rows.csv").read_text() == "my data"
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("<title>my page</title>")
    with pytest.raises(SpecError, match=r"has index\.html"):
        add(store, board, tmp_path / "web")
    assert [path.name for path in (tmp_path / "web").iterdir()] == ["index.html"]


def test_a_report_leaves_nothing_of_the_one_before_it_in_its_folder(tmp_path: Path) -> None:
    """Files of students that are in it no more are gone, raw texts of test items too; what is not a report's stays."""
    before = simple({"naive": 0.7, "logconf": 0.8}).folder(tmp_path / "before")
    publish(before, leaderboard(before, resamples=500), tmp_path / "out", samples=True)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    after = simple({"naive": 0.7}).folder(tmp_path / "after")
    written = publish(after, leaderboard(after, resamples=500), tmp_path / "out")
    found = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {*written, tmp_path / "out" / "notes.txt"}
    assert not any("logconf" in str(path) for path in (tmp_path / "out").rglob("*"))
