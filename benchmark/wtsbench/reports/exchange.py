"""Results in the formats of others: Bencher, the hub's two, Croissant, CITATION.cff; `eee` has Every Eval Ever.

What a format cannot say is left out and never bent: it has no place for "not defined", so a PGR that is NA is missing
there. Files depend on the store alone; times in them are those of the trials.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wtsbench import __version__
from wtsbench.reports import hub_results
from wtsbench.reports.rows import Leaderboard, Row
from wtsbench.reports.runs import Runs, numbers

_TITLE = "wtsbench results"


@dataclass(frozen=True)
class Exchange:
    """The files of a report for other tools.

    Args:
        board: the leaderboard.
        runs: what stands behind it.
    """

    board: Leaderboard
    runs: Runs

    def files(self) -> dict[str, bytes]:
        """Contents by name, which may hold folders."""
        files = {
            "bencher.json": _json(self.bencher()),
            "results.parquet": self.results(),
            "CITATION.cff": self.citation().encode(),
        }
        files["croissant.json"] = _json(self.croissant({"results.parquet": files["results.parquet"]}))
        files["model-index.yaml"] = hub_results.model_index(self.board).encode()
        files |= {
            name: text.encode() for name, text in hub_results.eval_results(self.board, self._finished[:10] or None)
        }
        return files

    def bencher(self) -> dict[str, dict[str, dict[str, float]]]:
        """Bencher Metric Format: `{benchmark: {measure: {value, lower_value, upper_value}}}`."""
        measures: dict[str, dict[str, dict[str, float]]] = {}
        rows = self._done()
        named = Counter(map(_benchmark, rows))
        for row in rows:
            name = _benchmark(row)
            apart = f"/{(row.scorer or row.data_digest)[:12]}" if named[name] > 1 else ""
            found = measures.setdefault(f"{name}{apart}"[:1024], {})
            for name, value, low, high in numbers(row):
                found[name[:64]] = {"value": value, "lower_value": low, "upper_value": high}
        return measures

    def results(self) -> bytes:
        """The rows of the leaderboard as Parquet; what has parts is JSON."""
        names = list(Row.__dataclass_fields__)
        records = [{name: _plain(record[name]) for name in names} for record in self.board.records()]
        table = pa.Table.from_pylist(records) if records else pa.table({name: [] for name in names})
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd", write_page_checksum=True)
        return out.getvalue()

    def citation(self) -> str:
        """CITATION.cff of the results: made by wtsbench, after the paper whose tasks it runs."""
        grids = ", ".join(dict.fromkeys(row.grid for row in self.board.rows))
        lines = [
            "cff-version: 1.2.0",
            "message: These results were made with wtsbench; please cite it, and whoever published them.",
            "type: dataset",
            f"title: {json.dumps(f'{_TITLE}: {grids}', ensure_ascii=False)}",
            "authors:",
            "  - name: The wtsbench contributors",
            f"version: {json.dumps(__version__)}",
        ]
        if self._finished:
            lines.append(f"date-released: {self._finished[:10]}")
        return "\n".join(lines) + "\n"

    def croissant(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        """Croissant 1.1: what the Parquet files beside it hold, with no licence: whoever publishes them chooses it."""
        return {
            "@context": _CROISSANT_CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.1",
            "name": "wtsbench-results",
            "description": "Rows of a weak-to-strong leaderboard: scores, intervals, PGR, seeds and trials.",
            "url": "https://arxiv.org/abs/2410.12621",
            "version": __version__,
            "citeAs": "See CITATION.cff beside this file.",
            **({"datePublished": self._finished} if self._finished else {}),
            "distribution": [
                {
                    "@type": "cr:FileObject",
                    "@id": name,
                    "name": name,
                    "contentUrl": name,
                    "encodingFormat": "application/x-parquet",
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
                for name, content in files.items()
            ],
            "recordSet": [
                {
                    "@type": "cr:RecordSet",
                    "@id": name.removesuffix(".parquet"),
                    "name": name.removesuffix(".parquet"),
                    "field": [
                        {
                            "@type": "cr:Field",
                            "@id": f"{name.removesuffix('.parquet')}/{field.name}",
                            "name": field.name,
                            "dataType": _data_type(field.type),
                            "source": {"fileObject": {"@id": name}, "extract": {"column": field.name}},
                        }
                        for field in pq.read_schema(io.BytesIO(content))
                    ],
                }
                for name, content in files.items()
            ],
        }

    def _done(self) -> Sequence[Row]:
        return [row for row in self.board.rows if row.student_score is not None]

    @property
    def _finished(self) -> str:
        """When the last trial began."""
        return max((one["started_at"] for one in self.runs.trials.values()), default="")


def _benchmark(row: Row) -> str:
    return f"{row.grid}/{row.task}/{row.split}/{row.weak}/{row.strong}/{row.strategy}"


def _plain(value: Any) -> Any:
    """What Parquet keeps in a column: a number or text; what has parts as JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, tuple | list | dict) else value


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"


_OF_CROISSANT = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
_CROISSANT_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in _OF_CROISSANT},
}
"""What names of the format stand for, as its specification lists them."""
