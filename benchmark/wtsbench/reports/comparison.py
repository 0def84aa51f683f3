"""Strategies held against each other: a matrix of verdicts, and every pair with its numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from textwrap import wrap

from wtsbench.errors import SpecError
from wtsbench.reports.contents import submissions
from wtsbench.reports.leaderboard import tables
from wtsbench.reports.rows import RESAMPLES, TURNED, Comparison, Comparisons
from wtsbench.reports.spread import CLAIM_SEEDS
from wtsbench.reports.table import Table
from wtsbench.reports.text import aligned
from wtsbench.reports.wording import SPLITS, TEXTS, TEXTS_LEGEND, interval, other_submissions, probability, shares
from wtsbench.spec.faults import nearest
from wtsbench.store.client import Store
from wtsbench.visible import visible_texts

NOTHING = "The store holds no two strategies of one task and pair."
LEGEND = (
    "+ the row is better than the column, - worse, = not told apart, NA not tested;",
    "by the corrected p-value at 5% and the interval.",
    "Numbers: first less second [95% interval], two-sided p-value, and the same",
    "corrected (Holm) for all pairs of strategies of the table, or for all its pairs",
    "of a strategy and a control.",
)
_WIDTH = 80
"""Columns that explanations take at most."""
_SIGNS = {"better": "+", "worse": "-", "tie": "=", None: "NA"}


def compare(
    store: Store,
    grid: str | None = None,
    *,
    submission: int | None = None,
    task: str | None = None,
    pair: str | None = None,
    metric: str | None = None,
    split: str | None = None,
    resamples: int = RESAMPLES,
) -> Comparisons:
    """Every two strategies, and every strategy and control, of each table.

    Args:
        store: where the trials are.
        grid: only this grid.
        submission: only this submission of a grid; by default the newest of each grid.
        task: only this task.
        pair: only this pair, written `weak:strong`.
        metric: any metric of the tasks; by default the one that ranks.
        split: only `test` or `ood`.
        resamples: of the bootstrap.

    Raises:
        SpecError: there is no grid, submission, task, pair, split or metric of that name.
        StoreError: the store cannot be read, or holds records that do not fit their items.
    """
    seen: dict[str, list[str]] = {"task": [], "pair": [], "split": []}
    kept: list[Table] = []
    shown = submissions(store, grid, submission)
    for table in tables(store, shown, resamples=resamples):
        here = {"task": table.task, "pair": f"{table.weak}:{table.strong}", "split": table.tests.split.value}
        for kind, name in here.items():
            seen[kind].append(name)
        wanted = {"task": task, "pair": pair, "split": split}
        if all(wanted[kind] in (None, name) for kind, name in here.items()):
            kept.append(table)
    for kind, named in (("task", task), ("pair", pair), ("split", split)):
        _require(kind, named, seen[kind])
    known = [table for table in kept if metric is None or metric in table.metrics]
    if metric is not None and not known:
        _require("metric", metric, [name for table in kept for name in table.metrics])
    for table in known:
        if metric is not None and table.metrics[metric].descriptive:
            raise SpecError(
                f"{metric} only describes outputs: neither more nor less of it is better",
                remedy="compare by another metric.",
            )
    del kept
    found: list[Comparison] = []
    while known:  # what a table has resampled is let go of with it
        found += known.pop(0).comparisons(metric)
    return Comparisons(pairs=tuple(found), submissions=tuple(one.shown for one in shown))


def _require(kind: str, name: str | None, known: Sequence[str]) -> None:
    if name is not None and name not in known:
        near = nearest(name, known)
        names = ", ".join(dict.fromkeys(known)) or "none"
        raise SpecError(
            f"the store has no results of {kind} {name!r}",
            remedy=f"did you mean {near!r}?" if near else f"it has {names}.",
        )


def json_text(found: Comparisons) -> str:
    """A list of objects, one a pair."""
    return json.dumps([asdict(each) for each in found], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def text(found: Comparisons) -> str:
    """For each table a matrix of verdicts (row against column), the numbers of each pair, and why others have none."""
    return "".join(f"{line.rstrip()}\n" for line in _text(replace(found, pairs=tuple(visible_texts(found.pairs)))))


def _text(found: Comparisons) -> Iterator[str]:
    if not found.pairs:
        yield NOTHING
        return
    told: set[str] = set()
    for (grid, title, metric), some in groupby(found, key=_table):
        pairs = list(some)
        yield f"{grid}: {title}"
        if grid not in told:
            yield from other_submissions(found.submissions, grid)
            told.add(grid)
        yield metric
        if few := sum(pair.few_seeds for pair in pairs):
            drawn = any(pair.data_seeds for pair in pairs)
            which = "" if few == len(pairs) else f" in {few} of {len(pairs)} pairs"
            yield f"fewer than {CLAIM_SEEDS} {'draws' if drawn else 'seeds'}{which}: no claim"
        yield ""
        yield from _matrix(pairs)
        yield ""
        yield from _lines(pairs)
        yield ""
    yield from LEGEND
    if any(pair.first_empty is not None for pair in found):
        yield from wrap(TEXTS_LEGEND, _WIDTH)
        yield "strict: the p-value with each of them counted as the worst; the larger one counts."


def _table(found: Comparison) -> tuple[str, str, str]:
    title = f"{found.task}{SPLITS.get(found.split, '')}, {found.weak} -> {found.strong}"
    direction = "" if found.higher_is_better else ", lower is better"
    scorer = "" if found.scorer is None else f", scorer {found.scorer[:12]}"
    return found.grid, title, f"{found.metric.replace('_', ' ')}{direction}{scorer}"


def _matrix(pairs: Sequence[Comparison]) -> Iterator[str]:
    strategies = [label for pair in pairs if pair.family == "strategies" for label in (pair.first, pair.second)]
    beside = [label for pair in pairs if pair.family == "controls" for label in (pair.first, pair.second)]
    labels = list(dict.fromkeys([*strategies, *beside]))
    verdicts: dict[tuple[str, str], str] = {}
    for pair in pairs:
        verdicts[pair.first, pair.second] = _SIGNS[pair.verdict]
        verdicts[pair.second, pair.first] = _SIGNS[TURNED[pair.verdict]]
    numbers = {label: str(number) for number, label in enumerate(labels, 1)}
    lines = [["", "", *numbers.values()]]
    lines += [[numbers[one], one, *(verdicts.get((one, two), ".") for two in labels)] for one in labels]
    yield from aligned(lines)


def _lines(pairs: Sequence[Comparison]) -> Iterator[str]:
    """Two lines of at most about 80 columns a pair, however long the names are; one a reason for those not tested."""
    untested: Counter[str] = Counter()
    for pair in pairs:
        if pair.p is None or pair.p_holm is None:
            untested[pair.reason or ""] += 1
            continue
        words = "not told apart from" if pair.verdict == "tie" else f"{pair.verdict} than"
        yield f"{pair.first}  {words}  {pair.second}" + (f"  ({pair.reason})" if pair.reason else "")
        numbers = interval(pair.difference, pair.low, pair.high)
        p = probability(pair.p) + ("" if pair.p_strict is None else f" ({probability(pair.p_strict)} strict)")
        yield f"    {numbers}  p {p}  Holm {probability(pair.p_holm)}  {_repeated(pair)}"
        if pair.first_empty is not None:
            first = shares(pair.first_empty, pair.first_copied, pair.first_cut_off)
            second = shares(pair.second_empty, pair.second_copied, pair.second_cut_off)
            yield f"    {TEXTS}: {first} and {second}"
    for reason, count in untested.items():
        yield f"{count} of {len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'} NA: {reason}"


def _repeated(pair: Comparison) -> str:
    """What both were measured on: `5 seeds`, or `3 draws`, each with its seeds."""
    return f"{len(pair.data_seeds)} draws" if pair.data_seeds else f"{len(pair.seeds)} seeds"
