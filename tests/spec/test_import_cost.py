"""Reading specs and planning stay cheap: they import none of the heavy libraries."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "ray",
    "docker",
    "duckdb",
    "pyarrow",
    "scipy",
    "sklearn",
    "pandas",
    "huggingface_hub",
)

SCRIPT = """\
import importlib, json, pkgutil, sys
names = []
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for info in pkgutil.iter_modules(getattr(module, "__path__", []), name + "."):
        importlib.import_module(info.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize(
    "packages",
    [
        ["wtsbench.api"],
        ["wtsbench.errors"],
        ["wtsbench.spec"],
        ["wtsbench.strategies"],
        ["wtsbench.planning"],
        ["wtsbench_cli.main"],
    ],
    ids=lambda packages: packages[0],
)
def test_imports_nothing_heavy(packages: list[str]) -> None:
    """Importing every module of the room pulls in no heavy library."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *packages], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)).isdisjoint(HEAVY)


def test_the_package_itself_takes_next_to_no_time() -> None:
    """`import wtsbench` takes less than a tenth of a second of CPU, and does not even import its Python face."""
    script = (
        "import sys, time; begun = time.process_time(); import wtsbench; took = time.process_time() - begun;"
        "print(took, sorted(name for name in sys.modules if name.startswith('wtsbench')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    took, modules = done.stdout.split(" ", 1)
    assert float(took) < 0.1
    assert modules.strip() == "['wtsbench']"
