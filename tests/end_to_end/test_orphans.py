"""No orphans: parts of a submission are killed at random, and nothing is left, nothing is lost, nothing is twice.

`make orphans ROUNDS=20` runs many rounds. Every round prints what it did; `SEED=…` brings the same ones back, and
`ONLY=dockerd` takes of those the ones with the word in their line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.end_to_end import chaos
from tests.end_to_end.conftest import Bench
from tests.end_to_end.engines import built, trial_image  # noqa: F401  # fixtures
from wtsbench.errors import ExitCode

pytestmark = [pytest.mark.slow, pytest.mark.docker]
ROUNDS = int(os.environ.get("WTSBENCH_ORPHAN_ROUNDS") or 2)
SEED = int(os.environ.get("WTSBENCH_ORPHAN_SEED") or 1359)
"""This one begins with the engine and a worker, both with containers."""
ONLY = os.environ.get("WTSBENCH_ORPHAN_ONLY") or ""
SLACK_SECONDS = 15.0
"""For a busy machine, beside the lease's time."""
_undisturbed: dict[str, str] = {}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial_image: str) -> Bench:  # noqa: F811
    """A working folder with the grid, under a short lease, with a pinned image."""
    monkeypatch.setenv("WTSBENCH_LEASE_SECONDS", f"{chaos.LEASE_SECONDS:g}")
    (tmp_path / "chaos.yaml").write_text(chaos.GRID)
    return Bench(tmp_path)


@pytest.fixture
def client() -> Iterator[Any]:
    """The engine's client."""
    found = docker.from_env(timeout=20)
    yield found
    found.close()


def _submit(bench: Bench, sandbox: str) -> tuple[str, ...]:
    return ("submit", str(bench.folder / "chaos.yaml"), "--sandbox", sandbox, "--quiet")


def _leaderboard_undisturbed(sandbox: str, factory: pytest.TempPathFactory) -> str:
    if sandbox not in _undisturbed:
        bench = Bench(factory.mktemp(f"undisturbed-{sandbox}"))
        (bench.folder / "chaos.yaml").write_text(chaos.GRID)
        done = bench.run(*_submit(bench, sandbox))
        assert done.returncode == 0, done.stdout + done.stderr
        _undisturbed[sandbox] = bench.leaderboard()
    return _undisturbed[sandbox]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_whatever_is_killed(
    number: int, bench: Bench, client: Any, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within the lease's time no container and no process is left; submitted again, every trial is there once."""
    drawn = [case for case in chaos.cases(SEED) if ONLY in str(case)]
    if not chaos.engine_may_be_killed():
        drawn = [case for case in drawn if case.victim not in chaos.ENGINES]
    case = drawn[number % len(drawn)]
    expected = _leaderboard_undisturbed(case.sandbox, tmp_path_factory)

    process = bench.start(*_submit(bench, case.sandbox))
    run = chaos.Disturbed(bench=bench, sandbox=case.sandbox, client=client, process=process)
    folder = run.until(case)
    killed = [] if folder is None else run.kill(case.victim, folder)
    output, _ = process.communicate(timeout=240)
    seconds, left = run.until_nothing_is_left(chaos.LEASE_SECONDS + SLACK_SECONDS)
    with capsys.disabled():
        print(
            f"\nround {number} of seed {SEED}: {case}: killed {', '.join(killed) or 'nothing: too late'};"
            f" exit code {process.returncode}, nothing left after {seconds:.1f} s",
            flush=True,
        )
    assert left == [], output
    assert "Traceback" not in output, output
    codes = {ExitCode.DONE, ExitCode.TRIALS_FAILED, ExitCode.UNREACHABLE}
    assert process.returncode in ({-9} if killed and case.victim == "driver" else codes), output

    again = bench.run(*_submit(bench, case.sandbox))
    assert again.returncode == 0, output + again.stdout + again.stderr
    attempts = bench.attempts()
    assert len(attempts) == chaos.TRIALS
    assert all(statuses.count("done") == 1 for statuses in attempts.values()), attempts
    assert run.until_nothing_is_left(chaos.LEASE_SECONDS + SLACK_SECONDS)[1] == []
    assert chaos.folders(bench) == []
    assert bench.leaderboard() == expected
