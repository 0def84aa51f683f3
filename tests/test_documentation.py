"""The documentation points to what exists: links, the map of the code, the files of the main path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import reference

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LIBRARY = ROOT / "benchmark" / "wtsbench"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file, and where it names a heading, one of that file."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target}: no such file"
        assert not heading or heading in anchors(linked), f"{target}: no such heading"


def test_every_page_is_in_the_index() -> None:
    """docs/index.md leads to every page, those of docs/design by their own list."""
    for folder, contents in (ROOT / "docs", "index.md"), (ROOT / "docs" / "design", "README.md"):
        listed = (folder / contents).read_text(encoding="utf-8")
        assert [page.name for page in folder.glob("*.md") if f"({page.name})" not in listed] == [contents]


def test_the_map_is_of_this_tree() -> None:
    """CONTRIBUTING.md's map has every room, and each module that it names is in the folder under which it stands."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawing = text.split("## The rooms", 1)[1].split("\n\n", 2)[1]
    folder, rooms = LIBRARY, set()
    for line in drawing.splitlines():
        if room := re.match(r"^      (\w+)/", line):
            folder = LIBRARY / room[1]
            rooms.add(room[1])
        elif top := re.match(r"^    (\w+)/", line):
            folder = ROOT / top[1]
        for name in re.findall(r"\b\w+\.py\b", line):
            assert [*folder.rglob(name)] or (LIBRARY / name).exists(), f"{folder.relative_to(ROOT)} has no {name}"
    assert rooms == {path.parent.name for path in LIBRARY.glob("*/__init__.py")}


def test_the_main_path_names_files_that_exist() -> None:
    """Every file of docs/design/main-path.md exists."""
    text = (ROOT / "docs" / "design" / "main-path.md").read_text(encoding="utf-8")
    names = re.findall(r"`([\w/]+\.py)`", text)
    assert names
    assert [name for name in names if not (LIBRARY / name).exists() and not (ROOT / name).exists()] == []


def test_the_reference_is_current() -> None:
    """docs/reference.md is what the code and the manifests say now."""
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run python -m tests.reference"


@pytest.mark.parametrize("name", ["generalised", "smoothed"])
def test_the_examples_of_the_page_are_those_that_run(name: str) -> None:
    """docs/strategies.md shows whole modules of the example package, which `test_conformance` checks and submits."""
    module = ROOT / "examples" / "strategy-plugin" / "wtsbench_example_strategy" / f"{name}.py"
    page = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    assert f"```python\n{module.read_text(encoding='utf-8')}```\n" in page
