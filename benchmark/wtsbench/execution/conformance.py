"""The conformance kit from outside: a trial's room is started, never imported."""

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
    """The kit ended without verdicts."""


def verdicts(names: Sequence[str]) -> list[dict[str, Any]]:
    """What the kit says of these strategies, check by check: strategy, check, verdict, detail.

    Raises:
        KitFailed: it gave none, which a strategy can bring about that ends its process.
    """
    with tempfile.TemporaryDirectory(prefix="wtsbench-check-") as folder:
        ended = subprocess.run(
            [sys.executable, "-m", "wtsbench.trial.conformance", *names],
            env=process_environment(threads=1),
            cwd=folder,
            capture_output=True,
            text=True,
        )
    try:
        found = json.loads(ended.stdout)
    except ValueError:
        last = (ended.stderr.strip().splitlines() or ["no word"])[-1]
        raise KitFailed(
            f"the conformance kit gave no verdict on {', '.join(names)} (exit code {ended.returncode}): {last}",
            remedy="a strategy must neither end the process nor write to its standard output.",
        ) from None
    assert isinstance(found, list), "the kit writes a list"
    return found
