"""The conformance kit, on packages that are really installed: one that keeps its promises, one that breaks them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wtsbench.store.client import open_store
from wtsbench.strategies import registry
from wtsbench.trial.conformance import checks

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "strategy-plugin"
GRID = """\
apiVersion: wtsbench/v1
name: theirs
tasks: [safety-mini]
pairs:
  - {weak: nano-1, strong: nano-2}
strategies: [naive, {name: smoothed, share: 0}, smoothed, generalised]
seeds: [0]
data: {weak_train: 60, transfer: 80, validation: 20, test: 60}
training: {epochs: 1}
"""


class Installed:
    """An environment in which a package's strategies are known."""

    def __init__(self, source: Path, folder: Path) -> None:
        copy, target = folder / "source", folder / "site"
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        options = ("--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-index")
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(copy)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        roots = [str(Path(part).resolve()) for part in sys.path if part]
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "RAY_ADDRESS")}
        self.environment = {**kept, "PYTHONPATH": os.pathsep.join([str(target), *roots]), "NO_COLOR": "1"}
        self.folder = folder

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`wtsbench ARGUMENTS` where the package is installed."""
        return subprocess.run(
            [sys.executable, "-m", "wtsbench_cli", *arguments],
            env={**self.environment, "WTSBENCH_STORE": str(self.folder / "store")},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The example package, installed by pip."""
    return Installed(EXAMPLE, tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The package of broken strategies, installed by pip."""
    return Installed(HERE / "broken_plugin", tmp_path_factory.mktemp("broken"))


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_the_strategies_of_wtsbench_conform(name: str, tmp_path: Path) -> None:
    """Every strategy keeps the promises that need no trial; trials are in `tests/trial`."""
    subject = checks.Subject(name, tmp_path)
    for title, check, applies in checks.CHECKS:
        if title not in ("imports", "trial", "seeds", "resume") and applies in ("all", *subject.kind.forms):
            assert check(subject)


def test_an_installed_strategy_is_listed(example: Installed) -> None:
    """Once its package is installed, a strategy is known like those of wtsbench."""
    listed = json.loads(example.run("strategies", "--json").stdout)
    assert [each["name"] for each in listed[-2:]] == ["generalised", "smoothed"]
    assert example.run("strategies", "smoothed").stdout.startswith("smoothed: weak labels with some")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "said"),
    [("smoothed", "1 strategy: conforming"), ("wtsbench-example-strategy", "2 strategies: conforming")],
)
def test_a_conforming_package(example: Installed, target: str, said: str) -> None:
    """All checks pass, by the strategy's name or the package's, with exit code 0."""
    done = example.run("strategies", "check", target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == said
    assert {line.split()[2] for line in done.stdout.splitlines()[1:-1]} == {"passed"}


@pytest.mark.slow
def test_an_installed_strategy_is_submitted(example: Installed) -> None:
    """A grid with the package's strategy runs, and its own setting for `naive` scores as `naive` does."""
    (example.folder / "grid.yaml").write_text(GRID)
    done = example.run("submit", "grid.yaml", "--executor", "in-process", "--sandbox", "process")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(example.run("leaderboard", "--json").stdout)
    scores = {row["strategy"]: row["student_score"] for row in rows if row["split"] == "test"}
    assert set(scores) == {"naive", "smoothed", "smoothed(share=0)", "generalised"}
    assert scores["smoothed(share=0)"] == scores["naive"]
    specs = [json.loads(text) for text in open_store(str(example.folder / "store")).trials()["spec"].to_pylist()]
    packages = {spec["strategy"]["name"]: spec["strategy_package"] for spec in specs if spec["strategy"]}
    assert packages == {"naive": None, **dict.fromkeys(("smoothed", "generalised"), "wtsbench-example-strategy==1.0")}


@pytest.mark.slow
def test_broken_promises_are_named(broken: Installed) -> None:
    """Each broken strategy fails at the promise that it breaks, with what is wrong; the exit code is 1."""
    done = broken.run("strategies", "check", "wtsbench_broken_strategies", "--json")
    assert done.returncode == 1, done.stderr
    failed: dict[str, list[tuple[str, str]]] = {}
    for line in json.loads(done.stdout):
        failed.setdefault(line["strategy"], [])
        if line["verdict"] == "failed":
            failed[line["strategy"]].append((line["check"], line["detail"]))
    said = {name: dict(found) for name, found in failed.items()}
    assert set(said) == {"absent", "chained", "forgetful", "heavy", "leaning", "misshapen", "sloppy", "unsteady"}
    assert "cannot be loaded" in said["absent"]["form"]
    assert "a student supervises in generative tasks" in said["chained"]["planning"]
    assert "in another process" in said["forgetful"]["trial"]
    assert "imports torch" in said["heavy"]["imports"]
    assert "order within the batch" in said["leaning"]["loss"]
    assert "weights have shape" in said["misshapen"]["labels"]
    assert "without complaint" in said["sloppy"]["parameters"]
    assert "draw from `supervision.random`" in said["unsteady"]["labels"]


def test_what_there_is_to_check(example: Installed) -> None:
    """Nothing to check, two names and an unknown name are exit code 2 with what to do."""
    assert "no strategy to check was named" in example.run("strategies", "check").stderr
    assert example.run("strategies", "logconf", "naive").returncode == 2
    unknown = example.run("strategies", "check", "smothed")
    assert unknown.returncode == 2
    assert "did you mean 'smoothed'" in unknown.stderr
