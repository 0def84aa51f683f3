"""The metrics beside the one that ranks, as compact tables of plain values; their intervals are in the JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from wtsbench.reports.rows import Measured, Row
from wtsbench.reports.wording import Group, number

SHORT = {
    "accuracy": "acc",
    "balanced_accuracy": "bal acc",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "avg prec",
    "brier": "Brier",
    "error_inheritance": "inherit",
    "error_correction": "correct",
    "capa": "CAPA",
    "blind_spot": "blind",
    "toxicity": "tox",
    "expected_max_toxicity": "max tox",
    "toxicity_probability": "tox prob",
    "perplexity": "ppl",
    "distinct_1": "dist-1",
    "distinct_2": "dist-2",
    "distinct_3": "dist-3",
    "repetition": "repeat",
    "length": "tokens",
}
"""Headings of columns; other metrics are called by their names."""
_EXPLAINED = {
    "error_inheritance": "inherit: share of the weak supervisor's errors that a model repeats",
    "error_correction": "correct: share of them that it has right",
    "misfit": "misfit: share of items on which the two differ",
    "capa": "CAPA: their agreement beyond chance, by probabilities (0 chance, 1 the same model)",
    "blind_spot": "blind: share of the items of which the weak supervisor is unsure that the model is surely wrong on",
    "perplexity": "ppl: perplexity of the texts under the reference model",
    "distinct_1": "dist-n: share of distinct n-grams of words among a prompt's texts",
    "repetition": "repeat: share of 4-grams of words that stand in the prompt",
}
"""What columns are whose headings do not say it."""
_NAMES = 24
"""Columns that the names of rows take at most, before they are folded."""
_LARGE = 100
"""From here on one decimal is enough."""

Lines = list[Sequence[str]]


def blocks(group: Group, width: int | None = None) -> list[Lines]:
    """Tables with a heading, each no wider than `width` where one is given.

    Rows are the weak supervisor, the strategies, the ceiling and the controls; of weak and ceiling those of the first
    row with the most seeds.
    """
    names = [name for name in _names(group.rows) if name != group.rows[0].metric]
    shown = _shown(group)
    return [_lines(some, shown) for some in _portions(names, width)] if shown else []


def legend(group: Group) -> str | None:
    """What the columns of `blocks` are, on one line; None where their headings say it."""
    names = {*_names(group.rows)}
    return "; ".join(text for name, text in _EXPLAINED.items() if name in names) or None


def missing(group: Group) -> Iterator[str]:
    """Why metrics are NA, each reason once."""
    reasons: Counter[str] = Counter()
    for _, metrics in _shown(group):
        for name, measured in metrics.items():
            if measured.reason is not None:
                reasons[f"{_said(name)} is NA: {measured.reason}"] += 1
    for reason, count in reasons.items():
        yield reason + (f" ({count} rows)" if count > 1 else "")


def _said(name: str) -> str:
    metric, bracket, label = name.partition("[")
    return f"{metric.replace('_', ' ')}{bracket}{label}"


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def _shown(group: Group) -> list[tuple[str, Mapping[str, Measured]]]:
    done = [row for row in group.rows if row.metrics]
    if not done:
        return []
    whole = max(done, key=lambda row: row.seeds_done)
    return [
        (f"weak {whole.weak}", whole.weak_metrics),
        *((row.strategy, row.metrics) for row in group.strategies if row.metrics),
        (f"ceiling {whole.strong}", whole.ceiling_metrics),
        *((f"{row.strategy} (control)", row.metrics) for row in group.controls if row.metrics),
    ]


def _lines(names: Sequence[str], shown: Sequence[tuple[str, Mapping[str, Measured]]]) -> Lines:
    heading = ["", *(heading_of(name) for name in names)]
    return [heading, *([label, *(_value(metrics.get(name)) for name in names)] for label, metrics in shown)]


def heading_of(name: str) -> str:
    """`bal acc`; `recall not_safe` of `recall[not_safe]`: a class keeps its name."""
    metric, _, label = name.partition("[")
    return SHORT.get(name) or f"{metric.replace('_', ' ')} {label.removesuffix(']')}".rstrip()


def _value(measured: Measured | None) -> str:
    """A dash where a metric is not meant for the row, NA where it is not defined."""
    if measured is None:
        return "-"
    if measured.value is None:
        return "NA"
    return number(measured.value, 1 if abs(measured.value) >= _LARGE else 3)


def _portions(names: Sequence[str], width: int | None) -> Iterator[list[str]]:
    some: list[str] = []
    used = _NAMES
    for name in names:
        needed = max(len(heading_of(name)), 6) + 2
        if width is not None and some and used + needed > width:
            yield some
            some, used = [], _NAMES
        some.append(name)
        used += needed
    if some:
        yield some
