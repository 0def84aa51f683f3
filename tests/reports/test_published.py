"""Published figures stand beside the rows that they are of, and change nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.reports.test_tables import QUICK
from tests.reports.worlds import simple
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.published import with_published
from wtsbench.reports.renderers import render
from wtsbench.reports.rows import Leaderboard
from wtsbench.spec import manifests
from wtsbench.strategies import registry

MANIFESTS = Path(__file__).parents[2] / "manifests"


@pytest.fixture(scope="module")
def plain() -> Leaderboard:
    """Two strategies on a task that has published figures, without them."""
    world = simple({"naive": 0.7, "logconf": 0.75}, task="sciq")
    board = leaderboard(world.memory(), resamples=QUICK)
    assert not any(row.published for row in board.rows)  # the pair is another
    return replace(board, rows=tuple(replace(row, weak="gpt2", strong="gpt2-medium") for row in board.rows))


@pytest.fixture(scope="module")
def beside(plain: Leaderboard) -> Leaderboard:
    """The same, with them."""
    return replace(plain, rows=with_published(plain.rows))


def test_only_what_matches_is_shown(plain: Leaderboard, beside: Leaderboard) -> None:
    """Task, pair, strategy, metric and split all have to be those of the figure; nothing else of a row changes."""
    found = {row.strategy: row.published for row in beside.rows}
    (figure,) = found["naive"]
    assert (figure.score, figure.weak_score, figure.ceiling_score) == (0.65, 0.648, 0.684)
    assert figure.pgr == pytest.approx(2 / 36)
    assert not found["logconf"]
    assert [replace(row, published=()) for row in beside.rows] == list(plain.rows)
    changes: tuple[dict[str, Any], ...] = (
        {"split": "ood"},
        {"metric": "f1"},
        {"task": "boolq2"},
        {"strong": "gpt2-tiny"},
    )
    for change in changes:
        assert not any(row.published for row in with_published(replace(row, **change) for row in plain.rows))


@pytest.mark.parametrize("form", ["plain", "terminal", "markdown"])
def test_the_column_names_its_source_and_the_differences(plain: Leaderboard, beside: Leaderboard, form: str) -> None:
    """Student, weak supervisor and ceiling as published; a table without such figures has no such column."""
    told = render(beside, form, width=200)
    lines = [line for line in told.splitlines() if "0.650 · PGR 0.06" in line]
    assert len(lines) == 1
    assert "naive" in lines[0]
    for value, name in (("0.648", "weak"), ("0.684", "ceiling")):
        assert any(value in line and name in line for line in told.splitlines())
    assert "not the same measurement: one ground-truth score a model" in " ".join(told.split())
    digest = hashlib.sha256((MANIFESTS / "published" / "gpt2-replication.yaml").read_bytes()).hexdigest()
    assert f"in the manifest gpt2-replication.yaml (SHA-256 {digest[:12]})" in " ".join(told.split())
    assert "published" not in render(plain, form, width=200)


def test_programs_get_them_too(beside: Leaderboard) -> None:
    """JSON and CSV hold source, differences and numbers."""
    (naive,) = [row for row in json.loads(render(beside, "json")) if row["strategy"] == "naive"]
    assert naive["published"][0]["score"] == 0.65
    assert "arXiv 2312.09390" in naive["published"][0]["source"]
    assert "arXiv 2312.09390" in render(beside, "csv")


def test_another_file_of_the_reader_is_another_footnote(
    plain: Leaderboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readers of one store with other figures see from the footnote that their files differ."""
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path))
    name = "gpt2-replication.yaml"
    (tmp_path / "published").mkdir()
    shipped = (MANIFESTS / "published" / name).read_text()
    (tmp_path / "published" / name).write_text(shipped.replace("0.65", "0.66"))
    (figure,) = {each for row in with_published(plain.rows) for each in row.published}
    assert (figure.score, figure.file) == (0.66, name)
    assert figure.sha256 != hashlib.sha256(shipped.encode()).hexdigest()


def test_every_shipped_figure_is_of_something_known() -> None:
    """Tasks, models, strategies and metrics are those of wtsbench, and every figure has a number."""
    from wtsbench.metrics.classification import METRICS

    count = 0
    for name in sorted(path.stem for path in (MANIFESTS / "published").glob("*.yaml")):
        source = manifests.load_published(name)
        assert source.differences
        for figure in source.figures:
            assert figure.task in manifests.names("tasks")
            assert {figure.weak, figure.strong} <= {None, *manifests.names("models")}
            assert figure.strategy in registry.names()
            assert figure.metric in METRICS
            assert any(value is not None for value in (figure.score, figure.pgr))
            count += 1
    assert count >= 31
