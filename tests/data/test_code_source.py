"""Rows out of another package's function, from a really installed distribution."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CODE = """
def rows(*, count, wrong=None):
    if wrong == "raise":
        raise RuntimeError("no rows today")
    if wrong == "list":
        return [["text", "label"]]
    if wrong == "set":
        return [{"text": {1}, "label": "no"}]
    return ({"text": f"word{n} and word{n * 7} or word{n * 3}", "label": ("no", "yes")[n % 2]} for n in range(count))
"""
PROGRAM = """
import json, sys
from wtsbench.data import prepare
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest
told = []
for source in json.loads(sys.argv[1]):
    manifest = TaskManifest(
        name="t", summary="s", labels=("no", "yes"), template="{text}", label={"column": "label"},
        source={"kind": "code", **source},
    )
    try:
        dataset = prepare(manifest, DataSettings())
        told.append({"digest": dataset.data_digest, "report": dataset.report})
    except DataError as error:
        told.append({"error": str(error)})
print(json.dumps(told))
"""


def install(folder: Path, version: str, code: str = CODE) -> Path:
    """A distribution of one module with an entry point, as an installer lays it out."""
    info = folder / f"mytasks-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / "mytasks.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mytasks\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[wtsbench.tasks]\nmine = mytasks:rows\nbroken = mytasks:nothing\n")
    (info / "RECORD").write_text("mytasks.py,,\n")
    return folder


def prepared(site: Path, cache: Path, *sources: dict[str, Any]) -> list[dict[str, Any]]:
    """Prepare each source in one process of its own, which finds the distribution in `site`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}
    environment["WTSBENCH_CACHE"] = str(cache)
    command = [sys.executable, "-c", PROGRAM, json.dumps(sources)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    told: list[dict[str, Any]] = json.loads(run.stdout)
    return told


def test_rows_of_a_package(tmp_path: Path) -> None:
    """A function of an installed package gives the rows; the report names package, version and what it yielded."""
    mine = {"entry_point": "mine", "parameters": {"count": 80}}
    first, fewer = prepared(
        install(tmp_path / "one", "1.0"), tmp_path / "cache", mine, {**mine, "parameters": {"count": 70}}
    )
    source = first["report"]["source"]
    assert first["report"]["distinct_items"] == 80
    assert (source["package"], source["version"], source["parameters"]) == ("mytasks", "1.0", {"count": 80})
    assert fewer["report"]["source"]["rows_digest"] != source["rows_digest"]
    assert fewer["digest"] != first["digest"]
    changed = CODE.replace("word{n}", "item{n}")
    (again,) = prepared(install(tmp_path / "two", "1.0", changed), tmp_path / "cache", mine)
    assert again["digest"] != first["digest"]  # the same version with other rows is not taken from the cache
    (newer,) = prepared(install(tmp_path / "three", "1.1"), tmp_path / "cache", mine)
    assert newer["report"]["source"]["version"] == "1.1"
    assert newer["digest"] == first["digest"]  # equal items are equal data


def test_what_a_package_does_wrong_is_told(tmp_path: Path) -> None:
    """A missing entry point, one that cannot be loaded, one that fails and one that yields no rows: each is told."""
    calls: list[dict[str, Any]] = [
        {"entry_point": "mien"},
        {"entry_point": "broken"},
        {"entry_point": "mine", "parameters": {"number": 3}},
        *({"entry_point": "mine", "parameters": {"count": 3, "wrong": wrong}} for wrong in ("raise", "list", "set")),
        {"entry_point": "mine", "parameters": {"count": 0}},
    ]
    said = [entry["error"] for entry in prepared(install(tmp_path / "site", "1.0"), tmp_path / "cache", *calls)]
    assert "no installed package has it" in said[0]
    assert "did you mean 'mine'?" in said[0]
    assert "mytasks:nothing failed: AttributeError" in said[1]
    assert "mytasks:rows failed: TypeError" in said[2]
    assert "mytasks:rows failed: RuntimeError: no rows today" in said[3]
    assert "repair mytasks 1.0" in said[3]
    assert "row 1 is a list, not a dict of column to value" in said[4]
    assert "its rows hold what JSON has not" in said[5]
    assert "no" in said[6]
