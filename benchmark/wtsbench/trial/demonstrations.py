"""What a generative trial learns from: ground truth, or what its parents wrote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from wtsbench.spec.trial import Split
from wtsbench.strategies.generative import Continuation, GenerativeStrategy, GenerativeSupervision, Sequences
from wtsbench.trial.attempt import Trial
from wtsbench.trial.folder import Items, TrialInputError


def ground_truth(items: Items, split: Split) -> Sequences:
    """Every prompt of a split with the continuation that the task has for it.

    Raises:
        TrialInputError: the split has none.
    """
    if items.targets is None:
        raise TrialInputError(f"the continuations to learn from of split {split.value} are missing")
    size = len(items.item_ids)
    return Sequences(
        item_ids=items.item_ids,
        prompts=items.texts,
        continuations=items.targets,
        weights=np.ones(size),
        ended=np.ones(size, dtype=bool),
    )


def supervision_of(trial: Trial, strategy: GenerativeStrategy) -> GenerativeSupervision:
    """What the parents wrote for `transfer`, with what they wrote for `validation`.

    Raises:
        TrialInputError: a parent wrote nothing for a prompt, or lacks scores or probabilities that the strategy needs.
    """
    table = trial.folder.written()
    transfer = _of_split(trial, table, Split.TRANSFER, strategy)
    return replace(transfer, validation=_of_split(trial, table, Split.VALIDATION, None))


def _of_split(
    trial: Trial, table: pa.Table, split: Split, strategy: GenerativeStrategy | None
) -> GenerativeSupervision:
    most = trial.spec.drawn.max_new_tokens
    rows = table.filter(pa.compute.equal(table["split"], split.value)).sort_by(
        [("item_id", "ascending"), ("sample", "ascending")]
    )
    found: dict[tuple[str, str], list[Continuation]] = defaultdict(list)
    seen: set[tuple[str, str, int]] = set()
    for row in rows.to_pylist():
        if strategy is not None:
            _require(row, strategy)
        key = (row["parent"], row["item_id"], row["sample"])
        if key in seen:
            raise TrialInputError(f"parent {row['parent'][:12]} has a sample of a prompt of {split.value} twice")
        seen.add(key)
        found[key[:2]].append(_continuation(row, most))
    items = trial.items[split]
    for parent in trial.spec.parents:
        missing = [item for item in items.item_ids if (parent, item) not in found]
        if missing:
            raise TrialInputError(
                f"parent {parent[:12]} wrote nothing for {len(missing)} of {len(items.item_ids)} prompts of "
                f"{split.value}"
            )
    return GenerativeSupervision(
        item_ids=items.item_ids,
        prompts=items.texts,
        written=tuple(tuple(tuple(found[parent, item]) for item in items.item_ids) for parent in trial.spec.parents),
        seed=trial.spec.seed,
    )


def _continuation(row: dict[str, Any], most: int) -> Continuation:
    return Continuation(
        text=row["text"],
        score=row["score"],
        finished=row["tokens"] < most,  # the end token takes the place of a further one
        logprobs=_tuple(row["logprobs"]),
        base_logprobs=_tuple(row["base_logprobs"]),
    )


def _require(row: dict[str, Any], strategy: GenerativeStrategy) -> None:
    if strategy.needs_scores and row["score"] is None:
        raise TrialInputError(f"strategy {strategy.name} needs scores, and what the parents wrote has none")
    if strategy.needs_logprobs and (row["logprobs"] is None or row["base_logprobs"] is None):
        raise TrialInputError(
            f"strategy {strategy.name} needs the parents' probabilities, and they were not asked for them"
        )


def _tuple(values: Iterable[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)
