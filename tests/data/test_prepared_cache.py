"""The cache of prepared items: fast, verified, and never stale."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.conftest import MakeManifest, balanced_rows, write_csv
from wtsbench.contract.schemas import ITEMS
from wtsbench.data import digest_items, prepare
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings


def kept() -> list[Path]:
    """The cache's files of prepared items."""
    return sorted((Path(os.environ["WTSBENCH_CACHE"]) / "data" / "prepared").iterdir())


def test_a_hit_equals_what_was_made(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """From the cache come the same items, report and digest, which the items alone confirm."""
    write_csv(tmp_path / "data.csv", balanced_rows(80))
    first, second = (prepare(make_manifest(), DataSettings(), folder=tmp_path) for _ in range(2))
    assert len(kept()) == 1
    assert second.items.schema.equals(ITEMS, check_metadata=True)
    assert second.items.equals(first.items)
    assert second.report == first.report
    assert second.labels == first.labels
    assert set(second.items["data_digest"].to_pylist()) == {first.data_digest}
    assert digest_items(task="little", labels=("no", "yes"), metric="accuracy", items=second.items) == first.data_digest


def test_a_hit_imports_neither_datasets_nor_scipy(tmp_path: Path) -> None:
    """Preparing what is in the cache imports no heavy library."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in balanced_rows(80)))
    code = """
import sys
from pathlib import Path
from wtsbench.data import prepare
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest
manifest = TaskManifest(
    name="t", summary="s", labels=("no", "yes"), template="{text}", label={"column": "label"},
    source={"kind": "path", "path": "data.jsonl"},
)
prepare(manifest, DataSettings(), folder=Path(sys.argv[1]))
print(sorted({"datasets", "scipy", "huggingface_hub", "torch", "pandas"} & sys.modules.keys()))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, str(tmp_path)]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    assert "datasets" in runs[0].stdout
    assert runs[1].stdout.strip() == "[]"


def test_a_changed_file_is_read_again(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A file of other content under the same name and time stamp is not taken for the old one."""
    rows = balanced_rows(80)
    path = write_csv(tmp_path / "data.csv", rows)
    stamp = path.stat().st_mtime_ns
    first = prepare(make_manifest(), DataSettings(), folder=tmp_path)
    rows[0]["text"], rows[2]["text"] = rows[2]["text"].upper(), rows[0]["text"]
    write_csv(path, rows)
    os.utime(path, ns=(stamp, stamp))
    assert prepare(make_manifest(), DataSettings(), folder=tmp_path).data_digest != first.data_digest


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign"])
def test_a_damaged_file_is_made_again(tmp_path: Path, make_manifest: MakeManifest, damage: str) -> None:
    """A torn, changed, empty or foreign cache file is noticed and replaced."""
    write_csv(tmp_path / "data.csv", balanced_rows(80))
    first = prepare(make_manifest(), DataSettings(), folder=tmp_path)
    (path,) = kept()
    good = path.read_bytes()
    word = str(first.items["text"][0]).encode()[:6]
    bad = {
        "cut": good[: len(good) // 2],
        "flipped": good.replace(word, word[::-1]),
        "emptied": b"",
        "foreign": b"x" * 99,
    }
    assert bad[damage] != good
    path.write_bytes(bad[damage])
    second = prepare(make_manifest(), DataSettings(), folder=tmp_path)
    assert second.items.equals(first.items)
    assert second.report == first.report
    assert path.read_bytes() == good


@pytest.mark.parametrize("limit", [512, 4096])
def test_a_full_disk_is_told(tmp_path: Path, limit: int) -> None:
    """Where no more can be written, whoever writes, the message says so, and no half file is left."""
    write_csv(tmp_path / "data.csv", balanced_rows(200))
    code = """
import resource, sys
from pathlib import Path
import datasets
from wtsbench.data import prepare
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest
manifest = TaskManifest(
    name="t", summary="s", labels=("no", "yes"), template="{text}", label={"column": "label"},
    source={"kind": "path", "path": "data.csv"},
)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    prepare(manifest, DataSettings(), folder=Path(sys.argv[1]))
except DataError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code, str(tmp_path), str(limit)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "cannot write to" in run.stdout, run.stderr
    assert "free some space" in run.stdout
    assert [path for path in Path(environment["WTSBENCH_CACHE"]).rglob("*") if path.is_file()] == []


def test_a_cache_that_cannot_be_written_is_told(
    tmp_path: Path, make_manifest: MakeManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cache folder is a file, the message names it and the setting."""
    write_csv(tmp_path / "data.csv", balanced_rows(80))
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"cannot write to .*cache") as caught:
        prepare(make_manifest(), DataSettings(), folder=tmp_path)
    assert "WTSBENCH_CACHE" in str(caught.value)
