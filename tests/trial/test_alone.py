"""What the trial room needs, and what it does without: a machine lent for its GPU has little beside torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.trial.processes import environment

WITHOUT = (
    "accelerate", "cryptography", "datasets", "docker", "duckdb", "google", "grpc", "hypothesis", "jinja2", "pandas",
    "peft", "polars", "psutil", "ray", "requests", "rich", "scipy", "sklearn", "starlette", "threadpoolctl", "typer",
    "uvicorn",
)  # fmt: skip
"""Of the packages that wtsbench and its tests use elsewhere; `peft` and `accelerate` are for trials with adapters."""
HIDE = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {WITHOUT!r} else super().find_spec(name, path, target)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


def alone(code: str) -> str:
    """What a process prints that runs this code without those packages."""
    ended = subprocess.run(
        [sys.executable, "-c", HIDE + code], env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_trials_of_both_forms_need_few_packages(tmp_path: Path) -> None:
    """The smoke check of a new GPU, here on the CPU, trains, predicts and generates in bfloat16 without pytest too."""
    out = tmp_path / "smoke.json"
    alone(f"from tests.trial import gpu_smoke\nassert gpu_smoke.main(['--device', 'cpu', '--out', {str(out)!r}]) == 0")
    trials = json.loads(out.read_text())["trials"]
    assert [trial["form"] for trial in trials] == ["classification", "generation"]
    for trial in trials:
        assert trial["ok"]
        assert trial["rows"] > 0
        assert trial["measured"]["dtype"] == "bfloat16"
        assert trial["measured"]["steps"] > 0
        assert trial["measured"]["peak_memory_bytes"] > 0


def test_the_tests_marked_for_gpus_need_few_packages() -> None:
    """With `-m gpu`, pytest imports only modules that have such tests, and finds them with those packages gone."""
    options = ["-m", "gpu", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    said = alone(f"import pytest\npytest.main({options!r})")
    found = {line.partition("::")[0] for line in said.splitlines() if "::" in line}
    assert found >= {f"tests/trial/test_{name}.py" for name in ("backward", "finetune", "generation_sampling", "gpu")}
    assert "error" not in said
