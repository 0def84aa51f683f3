"""Results in the two forms of the Hugging Face hub, written and checked by its own library.

`eval_results/*.yaml` is the newer one: a file a strategy, a value a task, its interval in the notes. The hub shows them
once the data set is registered there as a benchmark. `model-index.yaml` is the older one, for the head of a model card.
"""

from __future__ import annotations

from collections.abc import Iterator

from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml
from yaml import safe_dump

from wtsbench.reports.anchors import anchor_of
from wtsbench.reports.rows import Leaderboard, Row
from wtsbench.reports.runs import numbers


def eval_results(board: Leaderboard, date: str | None) -> Iterator[tuple[str, str]]:
    """Files by name.

    Args:
        board: the leaderboard.
        date: of the results, `YYYY-MM-DD`.
    """
    for variant, rows in _variants(board).items():
        entries = [
            EvalResultEntry(
                dataset_id=f"wtsbench/{anchor_of(row.task)}",
                task_id=anchor_of(row.metric, row.split),
                dataset_revision=row.data_digest,
                value=value,
                date=date,
                notes=f"95% interval {low:.3f} to {high:.3f}, {_measured(row)}; weak {row.weak}; grid {row.grid}"
                + (f"; scorer {row.scorer}" if row.scorer else ""),
            )
            for row in rows
            for metric, value, low, high in numbers(row)
            if metric == row.metric
        ]
        yield f"eval_results/{variant}.yaml", safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)


def _measured(row: Row) -> str:
    """`5 seeds`, or `15 seeds of 3 draws of the training items`."""
    drawn = f" of {len(row.data_seeds)} draws of the training items" if row.data_seeds else ""
    return f"{row.seeds_done} seeds{drawn}"


def model_index(board: Leaderboard) -> str:
    """The front matter of a model card for each student: what goes between the two `---`, one YAML document each."""
    return "---\n".join(_card(variant, rows) for variant, rows in _variants(board).items())


def _card(variant: str, rows: list[Row]) -> str:
    results = [
        EvalResult(
            task_type="text-generation" if row.samples is not None else "text-classification",
            dataset_type=f"wtsbench/{anchor_of(row.task)}",
            dataset_name=f"wtsbench {row.task}",
            dataset_split=row.split,
            dataset_revision=row.data_digest,
            dataset_args={"scorer": row.scorer} if row.scorer else None,
            metric_type=metric,
            metric_value=value,
            metric_name="Performance gap recovered" if metric == "pgr" else metric.replace("_", " "),
            metric_args={"low": low, "high": high, "seeds": row.seeds_done, "weak": row.weak, "grid": row.grid},
        )
        for row in rows
        for metric, value, low, high in numbers(row)
    ]
    return ModelCardData(model_name=variant, library_name="wtsbench", eval_results=results).to_yaml() + "\n"


def _variants(board: Leaderboard) -> dict[str, list[Row]]:
    """Rows with a score by the name of the student: strong model, strategy, weak model."""
    found: dict[str, list[Row]] = {}
    for row in board.rows:
        if row.student_score is not None:
            found.setdefault(anchor_of(row.strong, row.strategy, row.weak), []).append(row)
    return found
