"""Help is there for every verb, and cheap."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.conftest import Wtsbench

VERBS = (
    "submit",
    "plan",
    "validate",
    "status",
    "logs",
    "leaderboard",
    "import",
    "compare",
    "report",
    "reproduce",
    "web",
    "gate",
    "baseline set",
    "baseline list",
    "baseline show",
    "baseline diff",
    "tasks",
    "models",
    "strategies",
    "doctor",
    "gc",
    "image build",
    "image pin",
    "image list",
    "image verify",
    "image bundle",
    "image load",
    "scorer list",
    "scorer show",
    "scorer train",
    "scorer score",
    "store serve",
    "store token create",
    "store token list",
    "store token revoke",
    "store certificate",
    "store status",
    "store verify",
    "store compact",
    "store backup",
    "store restore",
    "store merge",
    "export",
)
READERS = (
    "store token list",
    "store status",
    "store verify",
    "export",
    "plan",
    "validate",
    "status",
    "logs",
    "leaderboard",
    "compare",
    "reproduce",
    "tasks",
    "models",
    "strategies",
    "doctor",
    "gc",
    "scorer show",
    "image list",
    "image verify",
)
HEAVY = (
    "torch",
    "ray",
    "docker",
    "duckdb",
    "pyarrow",
    "transformers",
    "datasets",
    "scipy",
    "sklearn",
    "requests",
    "numpy",
    "pandas",
    "yaml",
    "rich",
    "cryptography",
    "prometheus_client",
)
"""Not pydantic: typer itself checks arguments with it."""


def test_help_imports_nothing_heavy(environment: dict[str, str]) -> None:
    """`--help` of every verb prints its usage and imports none of the packages that cost time."""
    program = (
        "import contextlib, io, json, sys\n"
        "from wtsbench_cli.main import main\n"
        "for verb in json.loads(sys.argv[1]):\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):\n"
        "        main([*verb.split(), '--help'])\n"
        f"    print(json.dumps([verb, said.getvalue(), sorted(set(sys.modules) & {set(HEAVY)!r})]))\n"
    )
    verbs = ["", *VERBS]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(verbs)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verb for verb, _, _ in told] == verbs
    for verb, said, heavy in told:
        assert said.startswith(f"Usage: wtsbench {verb}".rstrip()), verb
        assert heavy == [], verb


def test_help_lists_the_verbs(wtsbench: Wtsbench) -> None:
    """`wtsbench --help` names every verb with a summary that is not cut at 80 columns."""
    text = wtsbench("--help", COLUMNS="80").stdout
    for verb in VERBS:
        assert f"\n  {verb.split()[0]} " in text
    assert "..." not in text.split("Commands:")[1]


@pytest.mark.parametrize("verb", READERS)
def test_readers_have_json(verb: str, wtsbench: Wtsbench) -> None:
    """Every verb that reads offers `--json`."""
    assert "--json" in wtsbench(*verb.split(), "--help").stdout


def test_version(wtsbench: Wtsbench) -> None:
    """`--version` prints the version of the library."""
    from wtsbench import __version__

    assert wtsbench("--version").stdout == f"wtsbench {__version__}\n"


def test_unknown_verb_names_the_nearest(wtsbench: Wtsbench) -> None:
    """A typo in a verb is exit code 2 with the verb that was meant."""
    done = wtsbench("submt")
    assert done.returncode == 2
    assert "submit" in done.stderr


def test_unknown_value_names_the_values(wtsbench: Wtsbench) -> None:
    """A value that an option does not take is exit code 2 with those it takes."""
    done = wtsbench("submit", "smoke", "--sandbox", "podman")
    assert done.returncode == 2
    assert "process" in done.stderr
    assert "docker" in done.stderr
