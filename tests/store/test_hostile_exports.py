"""An export that was damaged or made up is refused in words, or is one: the store that it is merged into stays whole.

`make faults` tries more of it than CI does.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.execution.test_untrusted import in_time
from tests.leavings import EXAMPLES
from tests.store.test_whole import fill
from wtsbench.errors import StoreError
from wtsbench.store.client import open_store
from wtsbench.store.upkeep import verbs as upkeep
from wtsbench.store.upkeep.manifest import MANIFEST

FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export in which nothing is wrong."""
    folder = tmp_path_factory.mktemp("whole")
    upkeep.export(fill(folder / "store").uri, folder / "export", "parquet")
    return folder / "export"


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(whole, tmp_path / "export")
    return tmp_path / "export"


def rewrite(part: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows or columns of a part, in a way that its manifest does not see."""
    table = pq.read_table(part, partitioning=None)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), part)


def set_column(name: str, value: Any, kind: pa.DataType | None = None) -> Callable[[pa.Table], pa.Table]:
    """All of a column is one value."""

    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        column = pa.array([value] * table.num_rows, kind or table.schema.field(name).type)
        return table.set_column(place, name, column)

    return change


def refused(out: Path, target: Path) -> str:
    """How the merge of an export is refused, in time; nothing came of it."""

    def merge() -> str:
        with pytest.raises(StoreError) as caught:
            upkeep.merge(out, target)
        return str(caught.value)

    said = str(in_time(merge))
    assert open_store(str(target)).trials().num_rows == 0
    assert open_store(str(target)).attempts().num_rows == 0
    return said


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("[]", "no manifest of an export"),
        ("{}", "no manifest of an export"),
        ("[" * 100_000, "no manifest of an export"),
        ('{"schema_version": 99, "form": "other"}', "schema version 99"),
        ('{"schema_version": 1, "form": "xml", "files": {}}', "no manifest of an export"),
        ('{"schema_version": 1, "form": "parquet", "files": {"../x": 1}}', "no manifest of an export"),
        ('{"schema_version": 1, "form": "parquet", "files": {"grids/part.parquet": {"rows": -1}}}', "no manifest"),
        ("\ud800", "no manifest of an export"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(out: Path, tmp_path: Path, manifest: str, words: str) -> None:
    """The file is named, and what to do about it."""
    (out / MANIFEST).write_text(manifest, errors="surrogatepass")
    assert words in refused(out, tmp_path / "target")


CHANGES: dict[str, tuple[str, Callable[[pa.Table], pa.Table]]] = {
    "missing column": ("ledger", lambda table: table.drop_columns(["digest"])),
    "column of another type": ("ledger", set_column("sequence", "one", pa.string())),
    "negative rows": ("ledger", set_column("row_count", -5)),
    "too many rows": ("ledger", set_column("row_count", 10**12)),
    "unknown table": ("ledger", set_column("table_name", "passwords")),
    "no trial": ("attempts", set_column("trial_id", "")),
    "null": ("attempts", set_column("trial_id", None)),
    "negative attempt": ("attempts", set_column("attempt", -1)),
    "seal of another kind": ("trials", set_column("status", "perhaps")),
    "cells": ("grids", set_column("cells", "{]")),
}


@pytest.mark.parametrize("what", list(CHANGES))
def test_a_part_of_another_shape_is_refused(out: Path, tmp_path: Path, what: str) -> None:
    """Missing and mistyped columns, counts below zero and names that are none are told before anything is merged."""
    table, change = CHANGES[what]
    for part in sorted(out.glob(f"{table}/**/part.parquet")):
        rewrite(part, change)
    refused(out, tmp_path / "target")


@pytest.mark.parametrize("what", ["pipe", "folder", "nothing"])
def test_what_stands_in_the_place_of_a_part_is_told(out: Path, tmp_path: Path, what: str) -> None:
    """A pipe is not waited for."""
    part = next(out.glob("ledger/**/part.parquet"))
    part.unlink()
    if what == "pipe":
        os.mkfifo(part)
    elif what == "folder":
        part.mkdir()
    assert "is not the file that was exported" in refused(out, tmp_path / "target")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@FUZZ
@given(data=st.data())
def test_any_damage_is_refused_in_words_or_harmless(data: st.DataObject, whole: Path, tmp_path: Path) -> None:
    """Bytes and manifests changed anywhere: a merge ends with a StoreError, or with a store that can be read."""
    target, out = tmp_path / f"target-{len(list(tmp_path.iterdir()))}", tmp_path / "export"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(whole, out)
    manifest = json.loads((out / MANIFEST).read_text())
    kind = data.draw(st.sampled_from(["bytes", "manifest", "manifest part", "values"]))
    parts = sorted(out.glob("**/part.parquet"))
    part = data.draw(st.sampled_from(parts))
    if kind == "bytes":
        content = bytearray(part.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] = data.draw(st.integers(0, 255))
        part.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    elif kind == "manifest":
        manifest[data.draw(st.sampled_from([*manifest, "other"]))] = data.draw(JSON)
    elif kind == "manifest part":
        entry = manifest["files"][part.relative_to(out).as_posix()]
        entry[data.draw(st.sampled_from([*entry]))] = data.draw(JSON)
    else:
        table = pq.read_table(part, partitioning=None)
        column = data.draw(st.sampled_from(table.schema.names))
        value = data.draw(st.sampled_from([None, -1, 2**31 - 1, "", "[]", "x\0y", "0" * 64]))
        try:
            rewrite(part, set_column(column, value))
        except (pa.ArrowException, TypeError):  # the column cannot hold this value
            return
    (out / MANIFEST).write_text(json.dumps(manifest))

    def merge() -> str:
        with suppress(StoreError):
            upkeep.merge(out, target)
        store = open_store(str(target))
        assert store.trials().num_rows <= 5
        upkeep.verify(str(target))
        return "it ends"

    in_time(merge)
    shutil.rmtree(target, ignore_errors=True)
