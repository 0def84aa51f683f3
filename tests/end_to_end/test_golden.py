"""The scores of a small grid on the nano ladder, kept as a file and compared with a fresh run.

Equal seeds give equal scores on one machine. Between machines the order of floating-point sums differs, in pretraining
too, and some of the 300 test items change sides: TOLERANCE allows that, and no change of the science.

Renew the file with `python -m tests.end_to_end.test_golden`, and say in the commit why the scores moved.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Bench

GOLDEN = Path(__file__).parent / "golden" / "nano.json"
TOLERANCE = 0.08
SCORES = ("weak_score", "student_score", "ceiling_score")


def scores(leaderboard: str) -> dict[str, dict[str, Any]]:
    """What is kept of a leaderboard: scores by split and strategy, and how many seeds and items they stand on."""
    return {
        f"{row['split']} {row['strategy']}": {key: row[key] for key in (*SCORES, "seeds_done", "test_items")}
        for row in json.loads(leaderboard)
    }


@pytest.mark.slow
def test_golden(undisturbed: tuple[Bench, str]) -> None:
    """A fresh run agrees with the kept one."""
    kept, fresh = json.loads(GOLDEN.read_text()), scores(undisturbed[1])
    assert fresh.keys() == kept.keys()
    for strategy, row in kept.items():
        for key, value in row.items():
            expected = pytest.approx(value, abs=TOLERANCE) if key in SCORES else value
            assert fresh[strategy][key] == expected, (strategy, key)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        result = bench.run("submit", bench.grid())
        if result.returncode != 0:
            sys.exit(result.stderr)
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(scores(bench.leaderboard()), indent=2, sort_keys=True) + "\n")
