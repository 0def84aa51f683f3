"""Files of every format, mirrors and downloads: what comes out, and what the user is told where nothing can."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.conftest import MakeManifest, balanced_rows, write_csv
from wtsbench.data import prepare
from wtsbench.errors import DataError
from wtsbench.settings import cache_folder
from wtsbench.spec.grid import DataSettings


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server on loopback over `tmp_path`."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(tmp_path)))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


def sha256(path: Path) -> str:
    """Digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_format_gives_the_same_items(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """CSV, TSV, JSON Lines and Parquet of the same rows have one digest; text that looks like no text stays."""
    rows = balanced_rows(80)
    rows[0]["text"] += ' A "quoted", comma and\ttab\nand line'
    rows[1]["text"] = "NA"
    rows[2]["text"] = "1.50"
    write_csv(tmp_path / "data.csv", rows)
    lines = ["text\tlabel"] + ['"' + row["text"].replace('"', '""') + '"\t' + row["label"] for row in rows]
    (tmp_path / "data.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    digests = {}
    for form in ("csv", "tsv", "jsonl", "parquet"):
        manifest = make_manifest(source={"kind": "path", "path": f"data.{form}"})
        dataset = prepare(manifest, DataSettings(), folder=tmp_path)
        assert dataset.report["distinct_items"] == 80
        digests[form] = dataset.data_digest
    assert len(set(digests.values())) == 1, digests


def test_labels_of_other_types_are_compared_as_text(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """JSON booleans meet the manifest's `True` and `False`, however YAML read those keys."""
    rows = [{"text": row["text"], "label": row["label"] == "yes"} for row in balanced_rows(60)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = make_manifest(
        label={"column": "label", "values": {True: "yes", False: "no"}},
        source={"kind": "path", "path": "data.jsonl"},
    )
    assert prepare(manifest, DataSettings(), folder=tmp_path).report["distinct_items"] == 60


def test_mirror_and_canonical_place_give_the_same_items(
    tmp_path: Path, server: str, make_manifest: MakeManifest
) -> None:
    """A mirror with other column names, label values and format has the canonical digest; the report tells which."""
    rows = balanced_rows(80)
    canonical = write_csv(tmp_path / "canonical.csv", rows)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    copy = [{"body": row["text"], "answer": str(row["label"] == "yes")} for row in rows]
    (mirror / "copy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in copy))
    url = f"{server}/canonical.csv"
    manifest = make_manifest(
        source={"kind": "file", "url": url, "sha256": sha256(canonical), "format": "csv"},
        mirror={
            "path": "copy.jsonl",
            "format": "jsonl",
            "sha256": sha256(mirror / "copy.jsonl"),
            "rename": {"body": "text", "answer": "label"},
            "values": {"True": "yes", "False": "no"},
        },
    )
    fetched = prepare(manifest, DataSettings())
    mirrored = prepare(manifest, DataSettings(), mirror=mirror)
    assert fetched.data_digest == mirrored.data_digest
    assert fetched.items.equals(mirrored.items)
    assert fetched.report["source"] == {"kind": "file", "url": url, "sha256": sha256(canonical)}
    assert mirrored.report["source"]["kind"] == "mirror"
    assert mirrored.report["source"]["canonical"] == url


def test_a_download_is_kept_and_checked(tmp_path: Path, server: str, make_manifest: MakeManifest) -> None:
    """What was fetched once is used again without the server; other content is refused, with both digests."""
    path = write_csv(tmp_path / "data.csv", balanced_rows(60))
    source = {"kind": "file", "url": f"{server}/data.csv", "sha256": sha256(path), "format": "csv"}
    first = prepare(make_manifest(source=source), DataSettings())
    path.unlink()
    again = prepare(make_manifest(source=source, metric="f1"), DataSettings())
    assert again.items.drop_columns(["data_digest"]).equals(first.items.drop_columns(["data_digest"]))
    write_csv(path, balanced_rows(60, seed=7))
    wrong = {**source, "sha256": "0" * 64}
    with pytest.raises(DataError, match=f"sha256 {sha256(path)}, its manifest says {'0' * 64}"):
        prepare(make_manifest(source=wrong), DataSettings())


def test_unreachable_and_missing_addresses(server: str, make_manifest: MakeManifest) -> None:
    """A server's refusal and a dead address are told with the address and the mirror as the way out."""
    source = {"kind": "file", "url": f"{server}/none.csv", "sha256": "0" * 64, "format": "csv"}
    with pytest.raises(DataError, match=r"none\.csv: the server answers 404"):
        prepare(make_manifest(source=source), DataSettings())
    source["url"] = "http://127.0.0.1:9/data.csv"
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/data\.csv cannot be reached") as caught:
        prepare(make_manifest(source=source), DataSettings())
    assert "WTSBENCH_DATA_MIRROR" in str(caught.value.remedy)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ntext",  # ends within a chunk of 8 bytes
        b"220 another protocol\r\n",
    ],
)
def test_a_server_that_breaks_off_or_does_not_speak_http(make_manifest: MakeManifest, answer: bytes) -> None:
    """What is no answer of HTTP, or half of one, is told like a server that does not answer; nothing of it is kept."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/data.csv"
        source = {"kind": "file", "url": url, "sha256": "0" * 64, "format": "csv"}
        with pytest.raises(DataError, match=r"data\.csv cannot be reached"):
            prepare(make_manifest(source=source), DataSettings())
        thread.join()
    assert not list((cache_folder() / "data" / "files").iterdir())


@pytest.mark.parametrize("url", ["http://[::1/data.csv", f"http://{'a' * 70}.org/data.csv"])
def test_an_address_that_none_can_be(make_manifest: MakeManifest, url: str) -> None:
    """A malformed address is told like a server that does not answer."""
    source = {"kind": "file", "url": url, "sha256": "0" * 64, "format": "csv"}
    with pytest.raises(DataError, match=r"data\.csv cannot be reached"):
        prepare(make_manifest(source=source), DataSettings())


MIRROR: dict[str, Any] = {
    "source": {"kind": "file", "url": "https://example.org/data.csv", "sha256": "0" * 64, "format": "csv"},
    "mirror": {"path": "sub/data.csv", "format": "csv", "sha256": "1" * 64},
}


def test_a_missing_mirror_file_names_both_places(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Where the mirror lacks the file, the message names where it was looked for and the canonical place."""
    with pytest.raises(DataError) as caught:
        prepare(make_manifest(**MIRROR), DataSettings(), mirror=tmp_path)
    assert str(tmp_path / "sub" / "data.csv") in str(caught.value)
    assert "https://example.org/data.csv" in str(caught.value)
    assert "WTSBENCH_DATA_MIRROR" in str(caught.value)


def test_a_mirror_file_of_other_content_is_refused(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A mirror's file must have the digest that the manifest gives."""
    (tmp_path / "sub").mkdir()
    path = write_csv(tmp_path / "sub" / "data.csv", balanced_rows(60))
    with pytest.raises(DataError, match=f"sha256 {sha256(path)}, its manifest says {'1' * 64}"):
        prepare(make_manifest(**MIRROR), DataSettings(), mirror=tmp_path)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path, make_manifest: MakeManifest, form: str) -> None:
    """The message gives the file, the columns expected and found, and the nearest name."""
    rows = [{"Txt": row["text"], "label": row["label"]} for row in balanced_rows(10)]
    path = tmp_path / f"data.{form}"
    match form:
        case "csv":
            write_csv(path, rows)
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case _:
            pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(DataError) as caught:
        prepare(make_manifest(source={"kind": "path", "path": path.name}), DataSettings(), folder=tmp_path)
    told = str(caught.value)
    assert f"{path}: no column 'text' (nearest: 'Txt'); expected 'text', 'label', found 'Txt', 'label'" in told


def test_bad_labels_are_named_by_row(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Rows with a label that is none, their number, and the labels allowed; the first three and how many more."""
    rows = balanced_rows(60)
    for place in (4, 17, 30, 31, 32):
        rows[place]["label"] = "maybe" if place != 17 else ""
    write_csv(tmp_path / "data.csv", rows)
    with pytest.raises(DataError) as caught:
        prepare(make_manifest(), DataSettings(), folder=tmp_path)
    told = str(caught.value)
    assert "row 5: label is 'maybe'; row 18: label is empty; row 31: label is 'maybe'; and 2 more" in told
    assert "Column 'label' may hold 'no', 'yes'" in told


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data.csv", b"", "the file is empty"),
        ("data.csv", b"text,label\n", "no row with text"),
        ("data.csv", b"text,label\na,yes\nb,no,more,still\n", "line 3 has 4 fields, the header names 2"),
        ("data.csv", b"text,label\n" + b"a,yes\n" * 9999 + b"\xff\xfe\xfa,yes\n", "line 10001 is not UTF-8 text"),
        ("data.csv", b"text,label\n\xff\xfe\xfa,yes\n", "line 2 is not UTF-8 text"),
        ("data.jsonl", b'{"text": "a", "label": "yes"}\nnot json\n', "cannot be read as jsonl"),
        ("data.jsonl", b'{"text": {"of": "a"}, "label": "yes"}\n', "row 1: column 'text' holds a dict, not a text"),
        ("data.parquet", b"PAR1 or not", "cannot be read as parquet"),
    ],
)
def test_damaged_files(tmp_path: Path, make_manifest: MakeManifest, name: str, content: bytes, said: str) -> None:
    """A damaged, empty or strange file is one clear fault that names it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        prepare(make_manifest(source={"kind": "path", "path": name}), DataSettings(), folder=tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A path source's file that is not there is named in full."""
    with pytest.raises(DataError, match="no file") as caught:
        prepare(make_manifest(), DataSettings(), folder=tmp_path)
    assert str(tmp_path / "data.csv") in str(caught.value)


def test_reading_says_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """No progress bar, log line or leftover file comes from reading a file, good or bad."""
    write_csv(tmp_path / "data.csv", balanced_rows(60))
    (tmp_path / "bad.csv").write_text("text,label\na,yes\nb,no,more,still\n")
    code = """
import sys
from pathlib import Path
from wtsbench.data import prepare
from wtsbench.errors import DataError
from wtsbench.settings import cache_folder
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.task import TaskManifest
for name in ("data.csv", "bad.csv"):
    manifest = TaskManifest(
        name="t", summary="s", labels=("no", "yes"), template="{text}", label={"column": "label"},
        source={"kind": "path", "path": name},
    )
    try:
        prepare(manifest, DataSettings(), folder=Path(sys.argv[1]))
    except DataError:
        pass
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout == run.stderr == ""
    kept = [path for path in (Path(environment["WTSBENCH_CACHE"]) / "data").rglob("*") if path.is_file()]
    assert [path.parent.name for path in kept] == ["prepared"]
