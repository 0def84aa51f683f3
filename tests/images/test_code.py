"""The code that goes into an image is all that a trial imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from wtsbench.images.code import copy_code

IMPORTS = """
import importlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
sys.path = [str(root), *(part for part in sys.path if not pathlib.Path(part, "wtsbench").is_dir())]
for file in sorted((root / "wtsbench").rglob("*.py")):
    names = file.relative_to(root).with_suffix("").parts
    if names[-1] == "__main__" or names[-2:] in (("worker", "init"), ("trial", "nano")):
        continue  # the first two begin their work when they are imported; the third makes models, and no trial
    module = importlib.import_module(".".join(names[:-1] if names[-1] == "__init__" else names))
    assert module.__file__.startswith(str(root)), module.__file__
print("imported")
"""


def test_a_trial_imports_nothing_else_of_the_package(tmp_path: Path) -> None:
    """Every module of the copied code can be imported where no other part of wtsbench is."""
    copy_code(tmp_path / "wtsbench")
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTS, str(tmp_path)], capture_output=True, text=True, env={"PATH": "/usr/bin"}
    )
    assert done.stdout == "imported\n", done.stderr
