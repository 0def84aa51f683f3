"""The documentation names commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.test_help import VERBS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "docs/store.md", "docs/leftovers.md", "docs/images.md", "docs/import.md"]
)
def test_commands_exist(name: str) -> None:
    """Every `wtsbench VERB` in the documentation is a verb of the command line."""
    text = (ROOT / name).read_text(encoding="utf-8")
    known = {verb.split()[0] for verb in VERBS}
    named = set(re.findall(r"(?:^\s*(?:\$ )?|`)wtsbench ([a-z]+)", text, re.MULTILINE))
    assert named <= known
