"""Results in the formats of others: Every Eval Ever, Bencher, the hub's evaluation results, Croissant, CITATION.cff.

What a format cannot say is left out and never bent: it has no place for "not defined", so a PGR that is NA is missing
there. Files depend on the store alone; times in them are those of the trials.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wtsbench import __version__
from wtsbench.reports.compose import anchor_of, source_of
from wtsbench.reports.rows import RESAMPLES, Leaderboard, Row
from wtsbench.reports.runs import Runs

EEE_VERSION = "0.3.0"
"""Of the schema of Every Eval Ever that records follow."""
_UNBOUNDED = ("perplexity", "length")
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
        files |= {name: _json(record) for name, record in self.every_eval_ever()}
        files |= {name: text.encode() for name, text in self.eval_results()}
        return files

    def bencher(self) -> dict[str, dict[str, dict[str, float]]]:
        """Bencher Metric Format: `{benchmark: {measure: {value, lower_value, upper_value}}}`."""
        measures: dict[str, dict[str, dict[str, float]]] = {}
        for row in self._done():
            found = measures.setdefault(_benchmark(row)[:1024], {})
            for name, value, low, high in _numbers(row):
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
        """Croissant 1.1: what the Parquet files beside it hold."""
        return {
            "@context": _CROISSANT_CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.1",
            "name": "wtsbench-results",
            "description": "Rows of a weak-to-strong leaderboard: scores, intervals, PGR, seeds and trials.",
            "license": "https://creativecommons.org/publicdomain/zero/1.0/",
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

    def every_eval_ever(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """A record a row, in the folders that the format asks for."""
        for row in self._done():
            digest = hashlib.sha256(json.dumps([source_of(row), row.data_digest, _trials(row)]).encode())
            model = anchor_of(row.strong, row.strategy, row.weak)
            yield f"every_eval_ever/data/wtsbench/wtsbench/{model}/{_uuid4(digest.digest())}.json", self._record(row)

    def _record(self, row: Row) -> dict[str, Any]:
        name = f"wtsbench.{row.task}{'.ood' if row.split == 'ood' else ''}"
        key = f"{name}/{row.strong}+{row.strategy}@{row.weak}/{row.data_digest[:16]}"
        last = self._times(row)
        details = {
            "deployment_type": "self_deployed",
            "model_availability": "unknown",
            "weak_model": row.weak,
            "strong_model": row.strong,
            "strategy": row.strategy,
            "kind": row.kind,
            "seeds": ",".join(map(str, row.seeds)),
        }
        versions = {
            self.runs.trials[seed.student]["measurements"].get("transformers", "unknown") for seed in row.trials
        }
        return {
            "schema_version": EEE_VERSION,
            "evaluation_id": key,
            "evaluation_timestamp": last,
            "retrieved_timestamp": last,
            "source_metadata": {
                "source_name": f"wtsbench grid {row.grid}",
                "source_type": "evaluation_run",
                "source_organization_name": "unknown",
                "evaluator_relationship": "other",
            },
            "eval_library": {"name": "wtsbench", "version": __version__},
            "model_info": {
                "name": f"{row.strong} student of {row.weak} ({row.strategy})",
                "id": f"wtsbench/{anchor_of(row.strong, row.strategy, row.weak)}",
                "developer": "wtsbench",
                "inference_engine": {"name": "transformers", "version": ", ".join(sorted(versions))},
                "additional_details": details,
            },
            "evaluation_results": [
                self._result(row, name, key, metric, value, low, high) for metric, value, low, high in _numbers(row)
            ],
        }

    def _result(
        self, row: Row, name: str, key: str, metric: str, value: float, low: float, high: float
    ) -> dict[str, Any]:
        free = metric == "pgr" or metric in _UNBOUNDED
        return {
            "evaluation_result_id": f"{key}#{metric}",
            "evaluation_name": name,
            "source_data": {
                "dataset_name": f"wtsbench {row.task}",
                "source_type": "other",
                "additional_details": {"data_digest": row.data_digest, "split": row.split},
            },
            "metric_config": {
                "metric_id": metric if metric in ("accuracy", "f1") else f"wtsbench.{metric}",
                "metric_name": "Performance gap recovered" if metric == "pgr" else metric.replace("_", " "),
                "metric_kind": metric,
                "metric_unit": "ratio" if free else "proportion",
                "lower_is_better": not row.higher_is_better and metric != "pgr",
                "score_type": "continuous",
                "min_score": "-Infinity" if metric == "pgr" else 0.0,
                "max_score": "Infinity" if free else 1.0,
            },
            "score_details": {
                "score": value,
                "details": {"seeds": f"{row.seeds_done}/{row.seeds_total}"},
                "uncertainty": {
                    "confidence_interval": {
                        "lower": low,
                        "upper": high,
                        "confidence_level": 0.95,
                        "method": _method(row),
                    },
                    "num_samples": row.test_items or 0,
                    "num_bootstrap_samples": RESAMPLES,
                },
            },
        }

    def eval_results(self) -> Iterator[tuple[str, str]]:
        """A YAML file a strategy in the hub's form of evaluation results: a value a task, its interval in the notes.

        The hub shows them once the data set is registered there as a benchmark.
        """
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
        from yaml import safe_dump

        by_variant: dict[str, list[Row]] = {}
        for row in self._done():
            by_variant.setdefault(anchor_of(row.strong, row.strategy, row.weak), []).append(row)
        for variant, rows in by_variant.items():
            entries = [
                EvalResultEntry(
                    dataset_id=f"wtsbench/{anchor_of(row.task)}",
                    task_id=anchor_of(row.metric, row.split),
                    value=value,
                    date=self._finished[:10] if self._finished else None,
                    notes=f"95% interval {low:.3f} to {high:.3f}, {_measured(row)}; weak {row.weak}",
                )
                for row in rows
                for metric, value, low, high in _numbers(row)
                if metric == row.metric
            ]
            yield f"eval_results/{variant}.yaml", safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)

    def _done(self) -> Sequence[Row]:
        return [row for row in self.board.rows if row.student_score is not None]

    def _times(self, row: Row) -> str:
        """Seconds since 1970 at which the last of a row's students began."""
        from datetime import datetime

        begun = max(self.runs.trials[seed.student]["started_at"] for seed in row.trials)
        return str(int(datetime.fromisoformat(begun).timestamp()))

    @property
    def _finished(self) -> str:
        """When the last trial began."""
        return max((one["started_at"] for one in self.runs.trials.values()), default="")


def _numbers(row: Row) -> Iterator[tuple[str, float, float, float]]:
    """Metric, value and interval: the metric that ranks, and PGR where it is defined."""
    if row.student_score is not None and row.student_low is not None and row.student_high is not None:
        yield row.metric, row.student_score, row.student_low, row.student_high
    if row.pgr is not None and row.pgr_low is not None and row.pgr_high is not None:
        yield "pgr", row.pgr, row.pgr_low, row.pgr_high


def _benchmark(row: Row) -> str:
    return f"{row.grid}/{row.task}/{row.split}/{row.weak}/{row.strong}/{row.strategy}"


def _method(row: Row) -> str:
    """What intervals are over."""
    repeated = "draws of the training items" if row.data_seeds else "seeds"
    return f"two-way over {repeated} and groups of items"


def _measured(row: Row) -> str:
    """`5 seeds`, or `15 seeds of 3 draws of the training items`."""
    drawn = f" of {len(row.data_seeds)} draws of the training items" if row.data_seeds else ""
    return f"{row.seeds_done} seeds{drawn}"


def _trials(row: Row) -> list[str]:
    return [seed.student for seed in row.trials]


def _plain(value: Any) -> Any:
    """What Parquet keeps in a column: a number or text; what has parts as JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, tuple | list | dict) else value


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _uuid4(digest: bytes) -> str:
    """A UUID of the form of version 4, which the format's file names need, out of a digest: the same each time."""
    text = bytearray(digest[:16])
    text[6] = text[6] & 0x0F | 0x40
    text[8] = text[8] & 0x3F | 0x80
    number = text.hex()
    return f"{number[:8]}-{number[8:12]}-{number[12:16]}-{number[16:20]}-{number[20:]}"


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
