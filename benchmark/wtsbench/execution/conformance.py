"""Runs the conformance kit for strategies in a process of its own: `trial` is started, never imported."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from wtsbench.errors import UserError
from wtsbench.sandbox.environment import process_environment


class KitFailed(UserError):
    """The kit's process ended without results."""


def verdicts(names: Sequence[str]) -> list[dict[str, Any]]:
    """The kit's results for these strategies, one per check: strategy, check, verdict, detail.

    Raises:
        KitFailed: it gave no results, for instance because a strategy ended its process.
    """
    with tempfile.TemporaryDirectory(prefix="wtsbench-check-") as folder:
        process = subprocess.run(
            [sys.executable, "-m", "wtsbench.trial.conformance", *names],
            env=process_environment(threads=1),
            cwd=folder,
            capture_output=True,
            text=True,
        )
    try:
        results = json.loads(process.stdout)
    except ValueError:
        last = (process.stderr.strip().splitlines() or ["no output"])[-1]
        raise KitFailed(
            f"the conformance kit gave no verdict on {', '.join(names)} (exit code {process.returncode}): {last}",
            remedy="a strategy must neither end the process nor write to its standard output.",
        ) from None
    assert isinstance(results, list), "the kit writes a list"
    return results
