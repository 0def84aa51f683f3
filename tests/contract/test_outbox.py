"""The outbox: durable, whole, and never in doubt about what it holds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pytest

from tests.store.conftest import Disk
from tests.store.making import batch, fill_outbox, predictions, record_rows, seal, trial_id_of, whole_attempt
from wtsbench.contract.digests import content_digest, holds
from wtsbench.contract.outbox import Outbox, normal, pending, read_batch
from wtsbench.contract.schemas import LOGS, RECORD_TABLES
from wtsbench.errors import StoreError
from wtsbench.store.client import Store
from wtsbench.store.courier import deliver

TRIAL = trial_id_of("a")


def test_what_is_written_is_read_with_its_key(tmp_path: Path) -> None:
    """A record comes back with table, trial, attempt, sequence, digest and rows."""
    written = whole_attempt(TRIAL, 3)
    outbox = fill_outbox(tmp_path / "outbox", written)
    assert [read_batch(file.path) for file in outbox.pending()] == written


def test_sequences_count_from_one_and_go_on_after_delivery(tmp_path: Path, store: Store) -> None:
    """A number is not given twice, even if the courier took the record away in between."""
    outbox = Outbox(tmp_path / "outbox", trial_id=TRIAL, attempt=1)
    rows = record_rows("logs", TRIAL, 1, [{"line": 1}])
    assert [outbox.append("logs", rows), outbox.append("logs", rows)] == [1, 2]
    deliver(outbox.folder, store)
    assert outbox.append("logs", rows) == 3


def test_the_same_record_again_is_left_alone_and_another_is_refused(tmp_path: Path) -> None:
    """Writing a sequence twice is harmless when equal, an error when not, and the first stays."""
    outbox = fill_outbox(tmp_path, [predictions(TRIAL, 1, 1, "a")])
    before = outbox.pending()[0].path.stat().st_mtime_ns
    assert outbox.append("predictions", predictions(TRIAL, 1, 1, "a").data, sequence=1) == 1
    with pytest.raises(StoreError, match="holds another record"):
        outbox.append("predictions", predictions(TRIAL, 1, 1, "b").data, sequence=1)
    with pytest.raises(StoreError, match="holds another record"):
        outbox.append("logs", record_rows("logs", TRIAL, 1, []), sequence=1)
    assert outbox.pending()[0].path.stat().st_mtime_ns == before
    assert read_batch(outbox.pending()[0].path) == predictions(TRIAL, 1, 1, "a")


def test_the_digest_depends_on_rows_and_not_on_how_memory_holds_them(tmp_path: Path) -> None:
    """Slices, chunks and validity maps that say nothing make no difference; a value does."""
    text = [f"line {number}" for number in range(100)]
    whole = record_rows("logs", TRIAL, 1, [{"line": number, "text": line} for number, line in enumerate(text)])
    more = pa.concat_tables([whole, whole, whole])
    digests = set()
    for number, rows in enumerate([whole, more.slice(100, 100), pa.concat_tables([whole.slice(0, 3), whole.slice(3)])]):
        outbox = Outbox(tmp_path / str(number), trial_id=TRIAL, attempt=1)
        outbox.append("logs", rows)
        digests.add(read_batch(outbox.pending()[0].path).digest)
    assert len(digests) == 1
    assert content_digest("logs", more.slice(1, 100).combine_chunks().to_batches()[0]) not in digests


@pytest.mark.parametrize("table", RECORD_TABLES)
def test_a_record_may_be_empty_but_not_lack_columns(tmp_path: Path, table: str) -> None:
    """No rows are a record too, except for the seal; missing columns and nulls are errors of the writer."""
    outbox = Outbox(tmp_path, trial_id=TRIAL, attempt=1)
    with pytest.raises(KeyError):
        outbox.append(table, pa.table({"trial_id": [TRIAL]}))
    outbox.append(table, RECORD_TABLES[table].empty_table())
    if table == "trials":
        with pytest.raises(StoreError, match="one row"):
            read_batch(outbox.pending()[0].path)
    else:
        assert read_batch(outbox.pending()[0].path).data.num_rows == 0


def test_every_torn_record_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    """Cut anywhere, or with any region overwritten, a record is refused and never half read."""
    outbox = fill_outbox(tmp_path, [predictions(TRIAL, 1, 1, "a", "b", "c")])
    path = outbox.pending()[0].path
    content = path.read_bytes()
    damaged = [content[:size] for size in range(0, len(content), 97)]
    for start in range(0, len(content) - 64, 64):
        damaged.append(content[:start] + bytes(64) + content[start + 64 :])
    for number, torn in enumerate(damaged):
        if torn == content:
            continue
        path.write_bytes(torn)
        fault = None
        try:
            batch = read_batch(path)
        except StoreError as error:
            fault = error
        if fault is None:  # damage where no content lies, as in padding
            assert batch == predictions(TRIAL, 1, 1, "a", "b", "c"), number
        else:
            assert path.name in fault.message
            assert fault.remedy


def test_foreign_files_are_refused_and_leftovers_of_a_crash_ignored(tmp_path: Path) -> None:
    """Another visible Arrow file is an error; hidden ones and other kinds are none of the courier's business."""
    fill_outbox(tmp_path, [predictions(TRIAL, 1, 1, "a")])
    (tmp_path / ".000002-logs.arrow.77").write_bytes(b"half")
    (tmp_path / "result.json").write_text("{}")
    assert len(pending(tmp_path)) == 1
    (tmp_path / "mine.arrow").write_bytes(b"")
    with pytest.raises(StoreError, match=r"mine\.arrow"):
        pending(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/hostname"), Path.mkdir])
def test_what_is_no_plain_file_is_never_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe, a link or a folder that a trial left as a record is refused, and nobody waits for it."""
    make(tmp_path / "000001-logs.arrow")
    with pytest.raises(StoreError, match=r"a pipe, not a regular|symbolic links|a folder"):
        read_batch(tmp_path / "000001-logs.arrow")


def test_a_record_cannot_speak_for_another_attempt(tmp_path: Path) -> None:
    """Rows of another trial or attempt than the record's key are refused."""
    for number, rows in enumerate([predictions(trial_id_of("b"), 1, 1, "a"), predictions(TRIAL, 2, 1, "a")]):
        outbox = Outbox(tmp_path / str(number), trial_id=TRIAL, attempt=1)
        outbox.append("predictions", rows.data)
        with pytest.raises(StoreError, match="some rows have another"):
            read_batch(outbox.pending()[0].path)


def test_a_renamed_record_is_refused(tmp_path: Path) -> None:
    """Name and key must agree."""
    path = fill_outbox(tmp_path, [seal(TRIAL, 1, 1)]).pending()[0].path
    with pytest.raises(StoreError, match="says that it is record 1"):
        read_batch(path.rename(tmp_path / "000002-trials.arrow"))


def test_an_arrow_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    """Without the key in its metadata a file is no record, whatever its rows."""
    path = tmp_path / "000001-logs.arrow"
    with pa.ipc.new_file(str(path), LOGS) as writer:
        writer.write_table(LOGS.empty_table())
    with pytest.raises(StoreError, match="no record"):
        read_batch(path)


def test_a_full_disk_leaves_no_half_record(disk: Disk) -> None:
    """The writer is told, the records before are whole, and the number is free again."""
    outbox = fill_outbox(disk.folder / "outbox", [predictions(TRIAL, 1, 1, "a")])
    ballast = disk.fill()
    with pytest.raises(OSError, match="No space left"):
        outbox.append("predictions", predictions(TRIAL, 1, 2, *map(str, range(5000))).data)
    assert [path.name for path in outbox.folder.iterdir()] == ["000001-predictions.arrow"]
    ballast.unlink()
    assert outbox.append("predictions", predictions(TRIAL, 1, 2, "b").data) == 2


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_writer_killed_before_the_rename_leaves_nothing_visible(
    tmp_path: Path, child: Callable[..., subprocess.Popen[str]], call: str
) -> None:
    """Killed while a record is being made durable: the outbox is as before, and the next writer goes on."""
    process = child("die_in_outbox", tmp_path, call)
    process.wait()
    assert process.returncode == -9
    assert pending(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1
    assert fill_outbox(tmp_path, [predictions(TRIAL, 1, 1, "a")]).last_sequence == 1


def test_digests_stay_what_they_are() -> None:
    """Those in every ledger hold for ever, whatever Arrow does: here is one of each kind of column, null and not."""
    row = {"failure_class": "timeout", "git_dirty": False, "threads": 2, "parents": ["a", "\u00e9"], "strategy": ""}
    made: dict[str, list[dict[str, Any]]] = {
        "trials": [{"status": "failed", **row}],
        "metrics": [{"name": "loss", "step": 3, "value": float("nan")}, {"name": "loss", "step": None, "value": -0.0}],
        "generations": [{"logprobs": [0.5, -1.0]}, {"logprobs": None}, {"logprobs": [], "finished": False}],
        "predictions": [],
    }
    assert {table: batch(table, TRIAL, 1, 1, given).digest for table, given in made.items()} == {
        "trials": "c1:56b69bf55530114f93d9f046b3278aca722f6eab214c12e147c79c7b4fb0e89c",
        "metrics": "c1:c5f52692cc0b792b039eae662a3d3e80c492a272106776718f8dd6a4c2966073",
        "generations": "c1:cc01cc94d76cda26326b20e6cc920c3443398569f81f79cd602ada5da79a29bb",
        "predictions": "c1:4dcc9bc4bcbb5ade8d9159e03ae4d1da6f4ac54f3a7a2635933d9812be845682",
    }


def test_a_digest_does_not_change_with_how_arrow_writes_or_with_columns_that_are_null(tmp_path: Path) -> None:
    """A resend after an upgrade is the same record: other buffers, other messages, columns added since."""
    record = predictions(TRIAL, 1, 1, "a", "b")
    for options in (
        pa.ipc.IpcWriteOptions(compression="zstd"),
        pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4),
    ):
        with pa.ipc.new_file(str(tmp_path / "x"), record.data.schema, options=options) as writer:
            writer.write_batch(record.data)
        with pa.ipc.open_file(str(tmp_path / "x")) as reader:
            assert content_digest("predictions", reader.get_batch(0)) == record.digest
    wider = record.data.append_column("added", pa.nulls(2, pa.string()))
    assert content_digest("predictions", wider) == record.digest
    assert holds(record.digest, "predictions", record.data)
    assert not holds(record.digest, "predictions", record.data.slice(1))
    assert not holds(record.digest, "logs", record.data)


def test_rows_that_differ_have_other_digests() -> None:
    """Where a boundary lies, what is null and what is empty, the sign of zero: each is another content."""
    given: list[list[dict[str, Any]]] = [
        [{"text": "ab"}, {"text": "c"}],
        [{"text": "a"}, {"text": "bc"}],
        [{"text": "abc"}],
        [{"text": "abc", "reference_nll": 0.0}],
        [{"text": "abc", "reference_nll": -0.0}],
        [{"text": "abc", "reference_tokens": 0}],
        [{"text": "abc", "logprobs": []}],
        [{"text": "abc", "logprobs": [1.0, 2.0]}, {"text": "", "logprobs": []}],
        [{"text": "abc", "logprobs": [1.0]}, {"text": "", "logprobs": [2.0]}],
        [{"text": "abc", "logprobs": [1.0, 2.0]}, {"text": ""}],
        [{"text": "abc", "finished": False}],
        [],
    ]
    digests = [batch("generations", TRIAL, 1, 1, rows).digest for rows in given]
    assert len({*digests}) == len(digests)


def test_a_digest_is_of_the_rows_and_not_of_the_memory_they_lie_in() -> None:
    """Spare room behind the values, what lies below a null, slices: none of it changes a record's digest."""
    plain = record_rows("metrics", TRIAL, 1, [{"name": "loss", "split": "transfer", "step": None} for _ in range(76)])
    split = plain["split"].combine_chunks()
    roomy = pa.Array.from_buffers(
        split.type, 76, [None, split.buffers()[1], pa.py_buffer(split.buffers()[2].to_pybytes() + b"spare" * 20)]
    )
    step = pa.Array.from_buffers(pa.int64(), 76, [pa.py_buffer(bytes(10)), pa.py_buffer(b"\7" * 76 * 8)])
    place, other = plain.schema.get_field_index("split"), plain.schema.get_field_index("step")
    same = plain.set_column(place, plain.schema.field(place), roomy).set_column(other, plain.schema.field(other), step)
    sliced = pa.concat_tables([plain, plain]).combine_chunks().slice(76)
    digests = {content_digest("metrics", normal(one)) for one in (plain, same, sliced)}
    assert same.equals(plain)
    assert len(digests) == 1
