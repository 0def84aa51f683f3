"""Results as records of Every Eval Ever: one for each student with all of its tasks, and if asked its outputs.

The format knows no pair of models, no strategy and no seed: they are in the model's name and details. It has no place
for "not defined", so a PGR that is NA is missing. Files depend on the store alone; times in them are those of trials.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow.compute as pc

from wtsbench import __version__
from wtsbench.reports.anchors import anchor_of, source_of
from wtsbench.reports.rows import RESAMPLES, Leaderboard, Row
from wtsbench.reports.runs import Runs, numbers

VERSION = "0.3.0"
"""Of the schemas that records and samples follow."""
_UNBOUNDED = ("perplexity", "length")


class _Said(NamedTuple):
    """What a student said of an item: its likeliest class, or one of its texts."""

    item_id: str
    sample: str
    """What tells it from others of the item."""
    output: str
    truth: str
    """Empty where there is none."""
    method: str
    """How the output was made what is scored, in the format's words."""
    score: float
    correct: bool
    more: Mapping[str, str]


@dataclass(frozen=True)
class EveryEvalEver:
    """The records of a leaderboard.

    Args:
        board: the leaderboard.
        runs: what stands behind it.
        samples: whether every item, of every seed, is written as well. Raw texts are in it, toxic ones too.
    """

    board: Leaderboard
    runs: Runs
    samples: bool = False

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Contents by name, in the format's folders; one student at a time, for samples may be large."""
        students: dict[tuple[str, ...], list[Row]] = {}
        for row in self.board.rows:
            if row.student_score is not None:
                students.setdefault((row.grid, row.weak, row.strong, row.strategy), []).append(row)
        for rows in students.values():
            said = json.dumps([[source_of(row), row.data_digest, _students(row)] for row in rows])
            row, digest = rows[0], hashlib.sha256(said.encode()).digest()
            key = f"wtsbench/{row.strong}+{row.strategy}@{row.weak}/{digest.hex()[:16]}"
            place = f"data/wtsbench/wtsbench/{_model(row)}/{_uuid4(digest)}"
            record = self._record(rows, key)
            if self.samples:
                lines = [json.dumps(line, ensure_ascii=False) for row in rows for line in self._lines(row, key)]
                content = "".join(f"{line}\n" for line in lines).encode()
                record["detailed_evaluation_results"] = {
                    "format": "jsonl",
                    "file_path": f"{place}_samples.jsonl",
                    "hash_algorithm": "sha256",
                    "checksum": hashlib.sha256(content).hexdigest(),
                    "total_rows": len(lines),
                }
                yield f"every_eval_ever/{place}_samples.jsonl", content
            text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
            yield f"every_eval_ever/{place}.json", text.encode()

    def _record(self, rows: Sequence[Row], key: str) -> dict[str, Any]:
        row = rows[0]
        known = [self.runs.trials[trial] for one in rows for trial in _students(one)]
        last = str(int(max(datetime.fromisoformat(one["started_at"]).timestamp() for one in known)))
        versions = {one["measurements"].get("transformers") or "unknown" for one in known}
        return {
            "schema_version": VERSION,
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
                "id": f"wtsbench/{_model(row)}",
                "developer": "wtsbench",
                "inference_engine": {"name": "transformers", "version": ", ".join(sorted(versions))},
                "additional_details": {
                    "deployment_type": "self_deployed",
                    "model_availability": "unknown",
                    "weak_model": row.weak,
                    "strong_model": row.strong,
                    "strategy": row.strategy,
                    "kind": row.kind,
                },
            },
            "evaluation_results": [_result(one, key, *measured) for one in rows for measured in numbers(one)],
        }

    def _lines(self, row: Row, key: str) -> Iterator[dict[str, Any]]:
        """What the students of a row said of each test item, seed by seed."""
        table = self.runs.store.items(row.data_digest)
        items = {item["item_id"]: item for item in table.filter(pc.field("split") == row.split).to_pylist()}
        dataset = self.runs.labels[row.data_digest]
        for seed in row.trials:
            run = f"seed-{seed.seed}" if seed.data_seed is None else f"draw-{seed.data_seed}/seed-{seed.seed}"
            made = self._classes if row.samples is None else self._texts
            for said in made(row, seed.student, items):
                item = items[said.item_id]
                reference = [said.truth] if said.truth else []
                asked = json.dumps([item["text"], reference], ensure_ascii=False)
                yield {
                    "schema_version": VERSION,
                    "evaluation_id": key,
                    "model_id": f"wtsbench/{_model(row)}",
                    "evaluation_name": _name(row),
                    "evaluation_result_id": _result_id(row, key, row.metric),
                    "sample_id": f"{said.item_id}/{run}{said.sample}",
                    "sample_hash": hashlib.sha256(asked.encode()).hexdigest(),
                    "interaction_type": "single_turn",
                    "input": {"raw": item["text"], "reference": reference, "choices": list(dataset) or None},
                    "output": {"raw": [said.output]},
                    "messages": None,
                    "answer_attribution": [
                        {
                            "turn_idx": 0,
                            "source": "output.raw",
                            "extracted_value": said.output,
                            "extraction_method": said.method,
                            "is_terminal": True,
                        }
                    ],
                    "evaluation": {"score": said.score, "is_correct": said.correct},
                    "metadata": {"seed": str(seed.seed), "split": row.split, **said.more},
                }

    def _classes(self, row: Row, trial: str, items: dict[str, Any]) -> Iterator[_Said]:
        labels = self.runs.labels[row.data_digest]
        for line in self.runs.store.predictions([trial], splits=[row.split]).to_pylist():
            chances, item = line["probabilities"], line["item_id"]
            best = max(range(len(chances)), key=chances.__getitem__)
            truth, more = labels[items[item]["label"]], {"probability": f"{chances[best]:.6g}"}
            correct = labels[best] == truth
            yield _Said(item, "", labels[best], truth, "argmax_probability", float(correct), correct, more)

    def _texts(self, row: Row, trial: str, items: dict[str, Any]) -> Iterator[_Said]:
        scored = self.runs.store.scores([trial], splits=[row.split]).filter(pc.field("scorer") == row.scorer)
        scores = {(line["item_id"], line["sample"]): line["value"] for line in scored.to_pylist()}
        for line in self.runs.store.generations([trial], splits=[row.split]).to_pylist():
            item, sample, more = line["item_id"], line["sample"], {"tokens": str(line["tokens"])}
            score = scores[item, sample]
            correct = score < self.runs.thresholds[row.data_digest]  # the format wants each to be correct or not
            yield _Said(item, f"/{sample}", line["text"], "", "custom", score, correct, more)


def _result(row: Row, key: str, metric: str, value: float, low: float, high: float) -> dict[str, Any]:
    free = metric == "pgr" or metric in _UNBOUNDED
    repeated = "draws of the training items" if row.data_seeds else "seeds"
    return {
        "evaluation_result_id": _result_id(row, key, metric),
        "evaluation_name": _name(row),
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
            "details": {
                "seeds": f"{row.seeds_done}/{row.seeds_total}",
                "which": ",".join(map(str, row.seeds)),
                **({"draws": ",".join(map(str, row.data_seeds))} if row.data_seeds else {}),
            },
            "uncertainty": {
                "confidence_interval": {
                    "lower": low,
                    "upper": high,
                    "confidence_level": 0.95,
                    "method": f"two-way over {repeated} and groups of items",
                },
                "num_samples": row.test_items or 0,
                "num_bootstrap_samples": RESAMPLES,
            },
        },
    }


def _name(row: Row) -> str:
    return f"wtsbench.{row.task}{'.ood' if row.split == 'ood' else ''}"


def _result_id(row: Row, key: str, metric: str) -> str:
    scorer = f"@{row.scorer[:12]}" if row.scorer else ""
    return f"{key}#{_name(row)}/{metric}{scorer}"


def _model(row: Row) -> str:
    return anchor_of(row.strong, row.strategy, row.weak)


def _students(row: Row) -> list[str]:
    return [seed.student for seed in row.trials]


def _uuid4(digest: bytes) -> str:
    """A UUID of the form of version 4, which the format's file names need, out of a digest: the same each time."""
    text = bytearray(digest[:16])
    text[6] = text[6] & 0x0F | 0x40
    text[8] = text[8] & 0x3F | 0x80
    number = text.hex()
    return f"{number[:8]}-{number[8:12]}-{number[12:16]}-{number[16:20]}-{number[20:]}"
