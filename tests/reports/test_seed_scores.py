"""PGR of scores without predictions: each seed with its own baselines, intervals over seeds alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from typer.testing import CliRunner

from wtsbench.errors import DataError
from wtsbench.reports.seed_scores import NOTE, seed_scores
from wtsbench_cli.main import app

WEAK, CEILING, STUDENT = [0.52, 0.55, 0.53, 0.51], [0.71, 0.74, 0.75, 0.7], [0.58, 0.6, 0.57, 0.58]
HEADER = "task,method,seed,weak_acc,ceiling_acc,student_acc"
LINES = [f"chat,mine,{seed},{w},{c},{s}" for seed, (w, c, s) in enumerate(zip(WEAK, CEILING, STUDENT, strict=True), 42)]
NAMES = ["strategy=method", "weak=weak_acc", "ceiling=ceiling_acc", "student=student_acc"]
OPTIONS = [part for name in NAMES for part in ("--column", name)]


def fieller() -> tuple[float, float]:
    """The ends of the interval of a ratio of paired means, as the roots of Fieller's quadratic."""
    gain, gap = np.subtract(STUDENT, WEAK), np.subtract(CEILING, WEAK)
    t2 = scipy.stats.t.ppf(0.975, len(gain) - 1) ** 2
    covariance = np.cov(gain, gap) / len(gain)
    a = gap.mean() ** 2 - t2 * covariance[1, 1]
    b = -2 * (gain.mean() * gap.mean() - t2 * covariance[0, 1])
    c = gain.mean() ** 2 - t2 * covariance[0, 0]
    low, high = sorted(np.roots([a, b, c]).real)
    return float(low), float(high)


def test_pgr_and_its_interval_are_those_of_paired_seeds(tmp_path: Path) -> None:
    """The verb prints the ratio of means with Fieller's interval, says that it is over seeds alone, stores nothing."""
    path = tmp_path / "scores.csv"
    path.write_text("\n".join([HEADER, *LINES, "chat,mine,50,,0.7,0.6", "code,none,1,0.5,,"]) + "\n")
    store = tmp_path / "store"
    shown = CliRunner().invoke(app, ["import", "--scores", str(path), *OPTIONS, "--store", str(store), "--json"])
    assert shown.exit_code == 0, shown.output
    row, nothing = json.loads(shown.stdout)
    assert row["pgr"] == pytest.approx(np.subtract(STUDENT, WEAK).sum() / np.subtract(CEILING, WEAK).sum())
    assert (row["pgr_low"], row["pgr_high"]) == pytest.approx(fieller(), abs=1e-6)
    assert (row["seeds"], row["left_out"], row["interval"]) == ([42, 43, 44, 45], 1, NOTE)
    assert (nothing["seeds"], nothing["pgr"], bool(nothing["reason"])) == ([], None, True)
    table = CliRunner().invoke(app, ["import", "--scores", str(path), *OPTIONS])
    assert table.exit_code == 0
    assert "seeds only" in table.stdout
    assert "no items known" in table.output
    assert not store.exists()


def test_a_ceiling_below_the_weak_supervisor_has_no_pgr() -> None:
    """A gap that is proven to be none gives no ratio with an interval, here as in the tables of a store."""
    columns: dict[str, list[object]] = {"task": ["t"] * 4, "strategy": ["s"] * 4, "seed": [0, 1, 2, 3]}
    columns |= {"weak": [*CEILING], "ceiling": [*WEAK], "student": [*STUDENT]}
    (row,) = seed_scores(columns, "it")
    assert (row.pgr, row.pgr_low, row.pgr_high) == (None, None, None)
    assert row.reason == "ceiling worse than weak: there is no gap to recover"
    assert row.gain is not None


def test_two_seeds_give_a_ratio_and_no_interval() -> None:
    """With fewer seeds than a claim takes there is no interval, and it is said why."""
    columns: dict[str, list[object]] = {
        "task": ["t"] * 2,
        "strategy": ["s"] * 2,
        "seed": [0, 1],
        "weak": [*WEAK[:2]],
        "ceiling": [*CEILING[:2]],
        "student": [*STUDENT[:2]],
    }
    (row,) = seed_scores(columns, "file")
    assert row.pgr is not None
    assert row.pgr_low is None
    assert row.reason is not None


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("weak", math.nan, "no score"),
        ("weak", "1.2", "no score"),
        ("seed", 0, "has seed 0 of task t before"),
        ("seed", "x", "or it is no seed"),
    ],
)
def test_a_score_or_seed_that_is_none_is_refused(column: str, value: object, told: str) -> None:
    """A number that is no share, or a seed given twice, is the user's to mend."""
    columns: dict[str, list[object]] = {
        "task": ["t"] * 2,
        "strategy": ["s"] * 2,
        "seed": [0, 1],
        "weak": [0.5, 0.5],
        "ceiling": [0.7, 0.7],
        "student": [0.6, 0.6],
    }
    columns[column][1] = value
    with pytest.raises(DataError, match=told):
        seed_scores(columns, "file")


def test_a_column_that_is_missing_is_named() -> None:
    """The remedy says how to tell which column it is."""
    with pytest.raises(DataError, match="no column student") as raised:
        seed_scores({name: [] for name in ("task", "strategy", "seed", "weak", "ceiling")}, "file")
    assert "--column student=NAME" in str(raised.value.remedy)
