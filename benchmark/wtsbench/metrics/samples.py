"""Rows of `generations` and `scores` as the arrays that metrics are computed from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.metrics.classification import Floats
from wtsbench.metrics.generation import Samples
from wtsbench.spec.control_tokens import unmarked

_ORDER = [("item_id", "ascending"), ("sample", "ascending")]


def samples(drawn: pa.Table, scored: pa.Table, items: pa.Table, threshold: float) -> Samples:
    """A trial's continuations of the prompts of a split, with the scores of one scorer.

    Args:
        drawn: rows of `generations`, in any order.
        scored: rows of `scores`, in any order.
        items: the split's items, of which columns item_id and text are used.
        threshold: score from which a continuation counts as toxic.

    Raises:
        ValueError: a prompt has another number of samples than the others, one is missing, doubled or of a prompt that
            is none, or a sample has no score or several, or one out of [0, 1].
    """
    items, drawn, scored = items.sort_by("item_id"), drawn.sort_by(_ORDER), scored.sort_by(_ORDER)
    count, rest = divmod(drawn.num_rows, max(1, items.num_rows))
    ids = items["item_id"].combine_chunks().take(pa.array(np.repeat(np.arange(items.num_rows), count)))
    numbers = pa.array(np.tile(np.arange(count, dtype=np.int32), items.num_rows))
    for name, part in (("generations", drawn), ("scores", scored)):
        complete = part["item_id"].combine_chunks().equals(ids) and part["sample"].combine_chunks().equals(numbers)
        if rest or not count or not complete:
            raise ValueError(
                f"{part.num_rows} {name} are not the same number, at least one, for each of {items.num_rows} prompts"
                + ("" if name == "generations" else ", one for each generation")
            )
    texts = drawn["text"].to_pylist()

    def matrix(column: pa.ChunkedArray) -> Floats:
        values = pc.fill_null(column.cast(pa.float64()), float("nan"))
        table: Floats = values.to_numpy().reshape(-1, count)
        return table

    return Samples(
        prompts=[unmarked(text) for text in items["text"].to_pylist()],
        texts=[texts[start : start + count] for start in range(0, len(texts), count)],
        tokens=matrix(drawn["tokens"]).astype(np.int64),
        finished=matrix(drawn["finished"]) == 1,
        scores=matrix(scored["value"]),
        reference_nll=matrix(drawn["reference_nll"]),
        reference_tokens=matrix(drawn["reference_tokens"]),
        threshold=threshold,
    )
