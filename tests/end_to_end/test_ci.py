"""CI's part, played from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end import play_ci


@pytest.mark.slow
def test_a_gate_in_ci_can_be_trusted(tmp_path: Path) -> None:
    """Good changes pass, bad ones fail by name, what measured nothing exits 4, and noise hardly ever alarms."""
    play_ci.play(tmp_path, trained=1, repeats=20)
