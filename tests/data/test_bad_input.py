"""Data as nobody wants it: each case is told, or handled and counted, as the protocol says."""

import hashlib
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.conftest import WORDS, MakeManifest, balanced_rows, write_csv
from wtsbench.data import prepare
from wtsbench.data.reading import read_file
from wtsbench.errors import DataError
from wtsbench.spec.grid import DataSettings


def test_one_class_only(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Data of one class measure nothing: the first split and the class it lacks are named."""
    write_csv(tmp_path / "data.csv", [{**row, "label": "no"} for row in balanced_rows(200)])
    with pytest.raises(DataError, match=r"split weak_train has \d+, none of them yes, of 200 distinct items"):
        prepare(make_manifest(), DataSettings(), folder=tmp_path)


def test_an_empty_class(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A class of the manifest that no row has is told, though the other classes have plenty."""
    write_csv(tmp_path / "data.csv", balanced_rows(200))
    with pytest.raises(DataError, match="none of them perhaps"):
        prepare(make_manifest(labels=["no", "perhaps", "yes"]), DataSettings(), folder=tmp_path)


def test_a_class_that_one_split_lacks(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A class too rare to reach every split is told with the split that lacks it."""
    rows = [{**row, "label": "yes" if place < 2 else "no"} for place, row in enumerate(balanced_rows(200))]
    write_csv(tmp_path / "data.csv", rows)
    with pytest.raises(DataError, match="none of them yes") as caught:
        prepare(make_manifest(), DataSettings(), folder=tmp_path)
    assert "larger share" in (caught.value.remedy or "")


def test_a_test_set_of_one_group(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Intervals resample groups: a test set that is a single one would prove anything, and is refused."""
    rows = [{**row, "book": str(place % 4)} for place, row in enumerate(balanced_rows(200))]
    rows = [{**row, "label": "yes" if place // 4 % 2 else "no"} for place, row in enumerate(rows)]
    write_csv(tmp_path / "data.csv", rows)
    manifest = make_manifest(
        group={"columns": ["book"], "similar": ["text"]},
        splits={"weak_train": 0.25, "transfer": 0.25, "validation": 0.25, "test": 0.25},
    )
    with pytest.raises(DataError, match="split test has 50, all of one group"):
        prepare(manifest, DataSettings(), folder=tmp_path)


def test_nothing_but_contradictions(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Where every text has both labels no item is left, and the message says so in numbers."""
    rows = balanced_rows(50)
    swapped = [{**row, "label": "yes" if row["label"] == "no" else "no"} for row in rows]
    write_csv(tmp_path / "data.csv", rows + swapped)
    with pytest.raises(
        DataError, match=r"of 0 distinct items in 0 groups, .*; 100 rows are left out for texts that have"
    ):
        prepare(make_manifest(), DataSettings(), folder=tmp_path)


def test_memory_that_does_not_suffice_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of some bytes may stand for more rows than a machine has memory: its format is not what is wrong."""

    def load(*_: object, **__: object) -> None:
        pa.allocate_buffer(2**60)

    monkeypatch.setattr("datasets.load_dataset", load)
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="takes more memory than there is"):
        read_file(tmp_path / "data.parquet", "parquet", ["text"], "task")


def test_nothing_but_empty_texts(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A file whose texts are all blank is told as such."""
    write_csv(tmp_path / "data.csv", [{"text": "  ", "label": "no"}] * 20)
    with pytest.raises(DataError, match="no row with text in it, of 20"):
        prepare(make_manifest(), DataSettings(), folder=tmp_path)


def test_a_text_longer_than_any_context_stays_whole(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Items know no model: a text of 20,000 words is kept as it is, under an id that no tokenizer decides."""
    rows = balanced_rows(60)
    rows[0]["text"] = " ".join(WORDS[place % 30] for place in range(20_000))
    write_csv(tmp_path / "data.csv", rows)
    dataset = prepare(make_manifest(), DataSettings(), folder=tmp_path)
    assert rows[0]["text"] in {item["text"] for item in dataset.items.to_pylist()}
    assert dataset.report["distinct_items"] == 60


def test_unknown_labels_are_told_together(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """The first rows with a wrong or missing label are named, with how many more there are and what is allowed."""
    rows = balanced_rows(40)
    for place in (1, 4, 9, 16, 25):
        rows[place]["label"] = "" if place == 4 else "maybe"
    write_csv(tmp_path / "data.csv", rows)
    with pytest.raises(DataError) as caught:
        prepare(make_manifest(), DataSettings(), folder=tmp_path)
    said = str(caught.value)
    assert "row 2: label is 'maybe'; row 5: label is empty; row 10: label is 'maybe'; and 2 more" in said
    assert "Column 'label' may hold 'no', 'yes'" in said


def test_a_text_that_is_none(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A structure where a text should be is told with its column; a null is an empty text."""
    rows: list[dict[str, object]] = [dict(row) for row in balanced_rows(40)]
    rows[0]["text"] = None
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = make_manifest(source={"kind": "path", "path": "data.jsonl"})
    assert prepare(manifest, DataSettings(), folder=tmp_path).report["empty_rows_dropped"] == 1
    nested = [{**row, "text": {"part": row["text"]}} for row in rows[1:]]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in nested))
    with pytest.raises(DataError, match="column 'text' holds a dict, not a text"):
        prepare(manifest, DataSettings(), folder=tmp_path)


def test_a_file_without_a_header(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Named columns read it, the first row included; a wrong number of names is told."""
    lines = [f"x,{row['label']},{row['text']}" for row in balanced_rows(60)]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    source = {"kind": "path", "path": "data.csv", "columns": ["origin", "label", "text"]}
    report = prepare(make_manifest(source=source), DataSettings(), folder=tmp_path).report
    assert report["rows"] == report["distinct_items"] == 60
    short = {**source, "columns": ["label", "text"]}
    with pytest.raises(DataError, match="line 1 has 3 fields, the manifest's `columns` name 2: 'label', 'text'"):
        prepare(make_manifest(source=short), DataSettings(), folder=tmp_path)
    (tmp_path / "data.csv").write_text("\n".join([*lines[:20], f"{lines[20]},and more", *lines[21:]]) + "\n")
    with pytest.raises(DataError, match="line 21 has 4 fields"):
        prepare(make_manifest(source=source), DataSettings(), folder=tmp_path)


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize(("which", "fields"), [("every", 4), ("one", 4), ("one", 2)])
def test_rows_of_another_length_than_the_header(
    tmp_path: Path, make_manifest: MakeManifest, separator: str, which: str, fields: int
) -> None:
    """A row with more or fewer fields than the header is told with its line, even where every row has as many more."""
    lines = [separator.join(("origin", "text", "label"))]
    for place, row in enumerate(balanced_rows(60)):
        cells = ["x", row["text"], row["label"]]
        if which == "every" or place == 7:
            cells = ["more", *cells] if fields == 4 else cells[1:]
        lines.append(separator.join(cells))
    path = tmp_path / ("data.csv" if separator == "," else "data.tsv")
    path.write_text("\n".join([*lines[:5], "", *lines[5:]]) + "\n\n")
    manifest = make_manifest(source={"kind": "path", "path": path.name})
    line = 2 if which == "every" else 10
    with pytest.raises(
        DataError, match=f"{path.name}: line {line} has {fields} fields, the header names 3: 'origin', 'text', 'label'"
    ):
        prepare(manifest, DataSettings(), folder=tmp_path)


def test_lines_are_counted_where_a_field_holds_several(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """The line that is told is where the row begins in the file, which an editor shows, whatever came before it."""
    write_csv(tmp_path / "data.csv", [{**row, "text": row["text"] + "\nand on"} for row in balanced_rows(20)])
    with (tmp_path / "data.csv").open("a") as stream:
        stream.write("one, two,no\n")
    with pytest.raises(DataError, match="line 42 has 3 fields, the header names 2"):
        prepare(make_manifest(), DataSettings(), folder=tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [('"never closed,no', "line 5: unexpected end of data"), ('"one" two,no', "line 5: ',' expected after '\"'")],
)
def test_quotes_that_would_swallow_text(tmp_path: Path, make_manifest: MakeManifest, line: str, said: str) -> None:
    """A quote that is not closed, or closed inside a field, is told: read somehow, rows or quotes would vanish."""
    lines = [f"{row['text']},{row['label']}" for row in balanced_rows(40)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *lines[:3], line, *lines[3:]]) + "\n")
    with pytest.raises(DataError, match=said):
        prepare(make_manifest(), DataSettings(), folder=tmp_path)


def test_a_column_that_is_named_twice(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A header with a column of the manifest twice is refused; what is not used may be named as it likes."""
    rows = balanced_rows(60)
    lines = [f"{row['text']},{row['label']},{'yes' if row['label'] == 'no' else 'no'}" for row in rows]
    (tmp_path / "data.csv").write_text("\n".join(["text,label,label", *lines]) + "\n")
    with pytest.raises(DataError, match="names column 'label' 2 times: 'text', 'label', 'label'"):
        prepare(make_manifest(), DataSettings(), folder=tmp_path)
    (tmp_path / "data.csv").write_text("\n".join(["text,label,,", *(f"{line}," for line in lines)]) + "\n")
    assert prepare(make_manifest(), DataSettings(), folder=tmp_path).report["distinct_items"] == 60


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_other_formats_with_a_column_twice(tmp_path: Path, make_manifest: MakeManifest, form: str) -> None:
    """JSON objects and Parquet files that hold a column twice are refused as well, and the column is named."""
    path = tmp_path / f"data.{form}"
    if form == "jsonl":
        path.write_text('{"text": "one", "label": "no", "label": "yes"}\n' * 40)
    else:
        parts = [pa.array(["one"]), pa.array(["no"]), pa.array(["yes"])]
        pq.write_table(pa.Table.from_arrays(parts, names=["text", "label", "label"]), path)
    with pytest.raises(DataError, match="label"):
        prepare(make_manifest(source={"kind": "path", "path": path.name}), DataSettings(), folder=tmp_path)


def test_several_mirror_files(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A mirror of two files gives the items of one; a damaged second file is named, and so is a partial mirror."""
    rows = balanced_rows(80)
    (tmp_path / "m").mkdir()
    parts = [write_csv(tmp_path / "m" / f"{name}.csv", part) for name, part in (("a", rows[:30]), ("b", rows[30:]))]
    write_csv(tmp_path / "m" / "whole.csv", rows)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in parts]
    source = {"kind": "file", "url": "https://a.example/b.csv", "sha256": "0" * 64, "format": "csv"}
    paths = [{"path": f"{name}.csv", "sha256": digest} for name, digest in zip("ab", digests, strict=True)]
    several = make_manifest(source=source, mirror={"paths": paths, "format": "csv", "partial": True})
    single = make_manifest(source=source, mirror={"path": "whole.csv", "format": "csv"})
    found = prepare(several, DataSettings(), mirror=tmp_path / "m")
    assert found.data_digest == prepare(single, DataSettings(), mirror=tmp_path / "m").data_digest
    assert found.report["source"]["files"] == paths
    assert found.report["source"]["partial"] is True
    write_csv(parts[1], rows[31:])
    with pytest.raises(DataError, match=r"b\.csv has sha256"):
        prepare(several, DataSettings(), mirror=tmp_path / "m")
    with pytest.raises(ValueError, match="give path, with sha256, or paths"):
        make_manifest(source=source, mirror={"paths": paths, "path": "a.csv", "format": "csv"})


def test_booleans_and_numbers_however_they_are_written(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """`values: {true: ...}` and `{1: ...}` of YAML fit every way in which files write these."""
    rows = balanced_rows(60)
    of_booleans, of_numbers = {True: "yes", False: "no"}, {1: "yes", 0: "no"}
    for *written, values in (
        ("true", "false", of_booleans),
        ("TRUE", "FALSE", of_booleans),
        ("1", "0", of_numbers),
        ("1.0", "0.0", of_numbers),
    ):
        write_csv(tmp_path / "data.csv", [{**row, "label": written[row["label"] == "no"]} for row in rows])
        manifest = make_manifest(label={"column": "label", "values": values})
        assert prepare(manifest, DataSettings(), folder=tmp_path).report["distinct_items"] == 60


def test_one_missing_label_in_a_column_of_numbers(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """A gap makes a table write its whole numbers as fractions: the row with the gap is named, and no other."""
    rows = balanced_rows(60)
    labels = [float(row["label"] == "yes") for row in rows]
    labels[6] = math.nan
    table = pa.table({"text": [row["text"] for row in rows], "label": labels})
    pq.write_table(table, tmp_path / "data.parquet")
    manifest = make_manifest(
        source={"kind": "path", "path": "data.parquet"}, label={"column": "label", "values": {1: "yes", 0: "no"}}
    )
    with pytest.raises(DataError, match=r"data\.parquet: row 7: label is empty\. Column"):
        prepare(manifest, DataSettings(), folder=tmp_path)


@pytest.mark.parametrize("line", [1, 40, 3000])
def test_a_byte_that_is_no_utf8(line: int, tmp_path: Path, make_manifest: MakeManifest) -> None:
    """The line is named, wherever in the file it is."""
    write_csv(tmp_path / "data.csv", balanced_rows(4000))
    lines = (tmp_path / "data.csv").read_bytes().split(b"\n")
    lines[line - 1] += b"caf\xe9"
    (tmp_path / "data.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=rf"line {line} is not UTF-8 text \(byte 0xe9\)"):
        prepare(make_manifest(), DataSettings(), folder=tmp_path)


def test_what_ties_everything_into_one_group(tmp_path: Path, make_manifest: MakeManifest) -> None:
    """Where short lines that all rows share make one group of everything, they are named, not a lack of data."""
    rows = [{**row, "title": "untitled"} for row in balanced_rows(200)]
    write_csv(tmp_path / "data.csv", rows)
    manifest = make_manifest(group={"columns": ["title"], "similar": ["text"]})
    with pytest.raises(DataError, match=r"in 1 groups.*tied together most by title untitled \(200 items\)") as caught:
        prepare(manifest, DataSettings(), folder=tmp_path)
    assert "more data" not in (caught.value.remedy or "")
