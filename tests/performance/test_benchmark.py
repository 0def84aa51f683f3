"""The benchmark of speed: its parts are found, its JSON holds a comparison, and that notices what became worse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.performance import __main__ as benchmark

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
RATE: dict[str, Any] = {"name": "server, 16 writers: rate", "value": 2.0, "better": "higher"}
P99: dict[str, Any] = {"name": "server, 16 writers: p99", "value": 2.0, "better": "lower"}


def run_of(*figures: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """What the command writes of a part `store` with these figures, on this machine or one that differs from it."""
    hardware = benchmark.hardware() | changed
    parts: dict[str, Any] = {name: {"figures": []} for name in benchmark.parts()}
    parts["store"] = {"figures": list(figures)}
    return {"format": benchmark.FORMAT, "size": "quick", "hardware": hardware, "parts": parts}


def test_the_page_lists_every_part() -> None:
    """docs/performance.md explains each part under the name that `--only` takes."""
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in benchmark.parts() if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize(
    ("figure", "value", "bad"), [(RATE, 1.7, False), (RATE, 1.5, True), (P99, 2.4, False), (P99, 2.6, True)]
)
def test_worse_is_what_is_worse_by_more_than_the_tolerance(figure: dict[str, Any], value: float, bad: bool) -> None:
    """A rate that fell and a wait that rose are noticed, each beyond the tolerance; the other way is no fault."""
    now, before = run_of({**figure, "value": value}), run_of(figure)
    assert bool(benchmark.worse(now, before, 0.25)) is bad
    assert benchmark.worse(run_of({**figure, "value": 4.0 if figure is RATE else 1.0}), before, 0.25) == []


def test_a_figure_that_is_gone_is_noticed() -> None:
    """What is not measured any more cannot pass for as good as before."""
    (line,) = benchmark.worse(run_of(RATE), run_of(RATE, P99), 0.25)
    assert P99["name"] in line


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (run_of(RATE, cpu="another"), "other hardware: cpu is another there"),
        (run_of(RATE, cores=4096), "other hardware: cores"),
        ({**run_of(RATE), "size": "usual"}, "its size is usual"),
        ({**run_of(RATE), "parts": {}}, "it has no part compute, grid"),
        ({"format": "something else"}, "no JSON of this command"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    before: dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another machine, size or file is refused before anything is measured."""
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(before))
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(["--quick", "--against", str(earlier)])
    assert why in capsys.readouterr().err


@pytest.mark.slow
def test_a_part_is_measured_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A quick run of one part writes its figures and hardware, and ends with 1 where an earlier one was better."""
    earlier, later = tmp_path / "earlier.json", tmp_path / "later.json"
    earlier.write_text(json.dumps(run_of({**RATE, "value": 1e9})))
    code = benchmark.main(["--quick", "--only", "store", "--json", str(later), "--against", str(earlier)])
    assert code == 1
    assert "store, server, 16 writers: rate: 1e+09 before" in capsys.readouterr().out
    found = json.loads(later.read_text())
    assert found["hardware"].keys() == benchmark.hardware().keys()
    assert {figure["name"] for figure in found["parts"]["store"]["figures"]} == {RATE["name"], P99["name"]}
    assert all(figure["value"] > 0 and figure["details"] for figure in found["parts"]["store"]["figures"])
    assert benchmark.refused(found, found) is None
    assert benchmark.worse(found, found, 0.0) == []
