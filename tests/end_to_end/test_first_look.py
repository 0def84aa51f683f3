"""The grid `first-look` on its real data and weights, with one seed and fewer items; needs a mirror that has them."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.end_to_end import recompute
from tests.end_to_end.conftest import Bench
from tests.trial.folders import mirror
from wtsbench.spec import manifests

pytestmark = pytest.mark.slow
CAPS = {"weak_train": 300, "transfer": 500, "test": 200}


def test_first_look(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """From the mirror there is a gap to recover, beside trivial baselines, and every number is recomputed."""
    mirror()
    grid = yaml.safe_load(manifests.find("grids", "first-look").read_text()) | {"seeds": [0], "controls": []}
    grid["data"] |= CAPS
    path = bench.folder / "one-seed.yaml"
    path.write_text(yaml.safe_dump(grid))
    result = bench.run("submit", path, "--executor", "in-process", timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    text = bench.leaderboard()
    (row,) = json.loads(text)
    assert (row["seeds_done"], row["test_items"]) == (1, CAPS["test"])
    assert row["ceiling_score"] > row["weak_score"] + 0.1
    assert set(row["trivial"]) == {"majority", "tfidf on transfer", "tfidf on weak_train"}
    assert recompute.main([str(bench.store), "first-look"]) == 0, capsys.readouterr().out
