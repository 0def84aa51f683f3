"""What somebody else wrote takes no more memory to read than is of the order of its size."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from tests.store.making import fill_outbox, predictions, trial_id_of
from wtsbench.contract import outbox as outboxes
from wtsbench.contract.outbox import read_batch
from wtsbench.contract.plain import read_rows
from wtsbench.contract.schemas import RECORD_TABLES
from wtsbench.errors import StoreError

LOGS = RECORD_TABLES["logs"]
ROWS = 123_456


def logs(rows: int = ROWS) -> pa.Table:
    """So many lines of a log that says nothing again and again."""
    values = {"trial_id": "", "attempt": 1, "line": 1, "stream": "", "text": ""}
    return pa.table([pa.repeat(pa.scalar(values[f.name], f.type), rows) for f in LOGS], schema=LOGS)


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    """A table as an IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=50_000)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def test_rows_are_read_as_they_were_written() -> None:
    """In one batch or in several, and with columns missing that may be null."""
    assert read_rows(stream(logs()), LOGS).equals(logs())
    known = LOGS.append(pa.field("later", pa.string()))
    assert read_rows(stream(logs()), known).equals(logs())
    assert read_rows(stream(LOGS.empty_table()), LOGS).num_rows == 0


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_what_is_compressed_is_not_unpacked(compression: str) -> None:
    """Kilobytes that would be gigabytes are refused, also where the first batch is an honest one."""
    packed = stream(logs(), compression)
    assert len(packed) < logs().nbytes / 50
    with pytest.raises(pa.ArrowInvalid, match="compressed"):
        read_rows(packed, LOGS)
    plain = stream(logs(10))
    first = plain[: -len(b"\xff\xff\xff\xff\0\0\0\0")]
    behind = packed[len(stream(LOGS.empty_table())) - 8 :]
    with pytest.raises(pa.ArrowInvalid, match="compressed"):
        read_rows(first + behind, LOGS)


@pytest.mark.parametrize(
    "column",
    [
        pa.nulls(ROWS),
        pa.DictionaryArray.from_arrays(pa.array(bytes(ROWS), pa.uint8()), ["x" * 10_000]),
        pa.RunEndEncodedArray.from_arrays([ROWS], ["x" * 10_000]),
    ],
    ids=["null", "dictionary", "run"],
)
def test_columns_that_say_much_in_few_bytes_are_refused(column: pa.Array) -> None:
    """Whatever would grow when it is made plain is of another type than the column of its table."""
    place = LOGS.get_field_index("text")
    with pytest.raises(pa.ArrowInvalid, match="'text' of type"):
        read_rows(stream(logs().set_column(place, "text", column)), LOGS)
    with pytest.raises(pa.ArrowInvalid, match="no column 'text'"):
        read_rows(stream(logs().drop_columns("text")), LOGS)


READ = """
import resource, sys
from pathlib import Path
from wtsbench.errors import StoreError
from wtsbench.contract.outbox import read_batch
resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
try:
    read_batch(Path(sys.argv[1]))
except StoreError as error:
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's, from before the exec
    print(error.message, status.partition("VmHWM:")[2].split()[0], sep="\\n")
"""


def test_a_trial_cannot_take_its_supervisors_memory(tmp_path: Path) -> None:
    """Files that a trial may leave in its outbox, a few hundred bytes of which Arrow makes gigabytes."""
    path = fill_outbox(tmp_path, [predictions(trial_id_of("a"), 1, 1, "a")]).pending()[0].path
    with pa.ipc.open_file(path) as reader:
        metadata = reader.schema.metadata
    nothing = {pa.string(): "", pa.list_(pa.string()): [], pa.list_(pa.float64()): []}
    schema, rows = RECORD_TABLES["predictions"], 2**20
    columns = [pa.repeat(pa.scalar(nothing.get(field.type, 0), field.type), rows) for field in schema]
    bombs = {
        # rows are a number in the header of a batch, which a column of nulls fits whatever it is
        "nulls": (pa.table({"item_id": pa.nulls(ROWS)}), 1, None),
        "packed": (pa.table(columns, names=schema.names), 40, "zstd"),
    }
    for bomb, (table, times, compression) in bombs.items():
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_file(path, table.schema.with_metadata(metadata), options=options) as writer:
            for _ in range(times):
                writer.write_table(table)
        content = path.read_bytes()
        path.write_bytes(content.replace(struct.pack("<q", ROWS), struct.pack("<q", 2**33)))
        assert path.stat().st_size < 2**22
        environment = {"PYTHONPATH": ":".join(sys.path)}
        read = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, env=environment)
        said, most = read.stdout.splitlines()
        assert path.name in said
        assert int(most) * 1024 < 2**29, (bomb, said)


def test_a_record_too_large_for_memory_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file, its size and the bound."""
    path = fill_outbox(tmp_path, [predictions(trial_id_of("a"), 1, 1, "a")]).pending()[0].path
    monkeypatch.setattr(outboxes, "RECORD_BYTES", 1000)
    with pytest.raises(StoreError, match=rf"{path.name} has [\d,]+ bytes; a record has 1,000 at most"):
        read_batch(path)
