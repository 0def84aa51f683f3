"""A file of predictions that other code made, read and held against the items of a task.

A row is what one model says of one item: its class, or a probability for each class; or one text that it generated.
Columns of the file (those in brackets may be options of the command in place of a column):

    item | text                         id of the item, or its text; case, punctuation and white space need not agree
    [role] [model] [seed] [strategy]    whose prediction it is; a strategy for students and controls alone
    [weak]                              the supervisor of a student or control, where there are several
    class | probabilities | CLASS...    of classification: a class, a mapping of classes, or a column for each class
    generation, sample, tokens, finished    of generation: a text, its number from 0, its tokens, whether it was cut off

Of every model and seed the file holds the items of the test sets, each once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wtsbench.data import Dataset
from wtsbench.data.normalise import comparable
from wtsbench.data.reading import column_names, read_file
from wtsbench.errors import DataError, ModelError
from wtsbench.models.label_file import distributions
from wtsbench.spec.generation import GenerationSettings
from wtsbench.spec.model import LabelFile
from wtsbench.spec.source import FileFormat, format_of
from wtsbench.spec.trial import TEST_SPLITS, Role, Split

Columns = Mapping[str, Sequence[Any]]
SEEDS = 1000
"""A grid's seeds are below it."""
_OWN = ("role", "model", "strategy", "weak", "seed")
_GENERATED = ("generation", "sample", "tokens", "finished")
_SHOWN = 3
_FORMS = "docs/import.md shows the columns of such a file."
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Made(NamedTuple):
    """Whose predictions they are."""

    role: Role
    model: str
    strategy: str | None
    weak: str | None
    seed: int

    def __str__(self) -> str:
        return " ".join(filter(None, (self.role.value, self.model, self.strategy, f"seed {self.seed}")))


Predictions = dict[tuple[Split, str, int], dict[str, Any]]
"""What one model made of every item of the test sets: split, item id and sample (of classification 0) to columns of
`predictions` or `generations`."""


def read_columns(path: Path, named: Mapping[str, str]) -> Columns:
    """Every column of a CSV, TSV, JSONL or Parquet file, as Python values.

    Args:
        path: the file; its name says the format.
        named: what a column of the file stands for, where its own name does not say so.

    Raises:
        DataError: the file cannot be read, is not of its format, or lacks a named column.
    """
    form = format_of(path.name)
    if form is None:
        raise DataError(f"{path.name} does not tell its format", remedy="name it .csv, .tsv, .jsonl or .parquet.")
    return _read(path, form, named)


def _read(path: Path, form: FileFormat, named: Mapping[str, str]) -> Columns:
    found = column_names(path, form, path.name)
    wanted = {name: name for name in found if name not in named.values()} | dict(named)
    columns = read_file(path, form, list(dict.fromkeys(wanted.values())), path.name)
    return {meaning: columns[name] for meaning, name in wanted.items()}


def predictions(
    columns: Columns, given: Mapping[str, str], data: Dataset, what: str
) -> tuple[dict[Made, Predictions], int]:
    """The predictions of every model and seed, and the number of rows of items that are not in a test set.

    Args:
        columns: of the file.
        given: values of columns that it lacks.
        data: the task's items.
        what: how messages call the file.

    Raises:
        DataError: a row says not whose it is, is of no item of the task, is the second of its item, or is no
            prediction; or items are missing.
    """
    whose = _whose(columns, given, what)
    by_text = "item" not in columns
    if by_text and "text" not in columns:
        raise DataError(f"{what} has no column item or text", remedy=_FORMS)
    keys = [comparable(str(text)) for text in columns["text"]] if by_text else [str(item) for item in columns["item"]]
    owed: dict[str, list[tuple[Split, str]]] = {}
    others: set[str] = set()
    for split, item, text in zip(*(data.items[name].to_pylist() for name in ("split", "item_id", "text")), strict=True):
        key = comparable(text) if by_text else item
        if split in TEST_SPLITS:
            owed.setdefault(key, []).append((Split(split), item))
        else:
            others.add(key)
    found: dict[Made, Predictions] = {made: {} for made in whose}
    left_out = 0
    values = _values(columns, data, what)
    for row, (made, key, (sample, value)) in enumerate(zip(whose, keys, values, strict=True), start=1):
        if key not in owed and key not in others:
            raise DataError(
                f"{what}: row {row} is of no item of task {data.task}: {key[:80]!r}",
                remedy="`wtsbench import --task NAME --items-to FILE` writes the task's items.",
            )
        left_out += key not in owed
        for split, item in owed.get(key, ()):
            if (split, item, sample) in found[made]:
                raise DataError(
                    f"{what}: row {row} predicts item {item} again for {made}",
                    remedy="keep one row an item, model and seed; a column seed tells seeds apart.",
                )
            found[made][split, item, sample] = value
    places = sorted(place for some in owed.values() for place in some)
    for made, of_one in found.items():
        _require_whole(made, of_one, places, data, what)
    return found, left_out


def _whose(columns: Columns, given: Mapping[str, str], what: str) -> list[Made]:
    """Whose prediction each row is."""
    twice = sorted(set(given) & set(columns))
    if twice:
        raise DataError(f"{what} has a column {twice[0]}, and the command gives it too", remedy="take one of the two.")
    rows = len(next(iter(columns.values()), ()))
    if not rows:
        raise DataError(f"{what} has no row", remedy=_FORMS)
    parts = [columns.get(name) or [given.get(name)] * rows for name in _OWN]
    return [_made(row, what, *values) for row, values in enumerate(zip(*parts, strict=True), start=1)]


def _made(row: int, what: str, role: Any, model: Any, strategy: Any, weak: Any, seed: Any) -> Made:
    name = str(role or "")
    if name not in [each.value for each in Role]:
        raise DataError(f"{what}: row {row}: {name!r} is no role", remedy=f"take one of {', '.join(Role)}.")
    if not model:
        raise DataError(f"{what}: row {row} names no model", remedy="add a column model, or pass --model.")
    if not str(seed).isdecimal() or int(str(seed)) >= SEEDS:
        raise DataError(
            f"{what}: row {row}: {seed!r} is no seed",
            remedy=f"add a column seed, or pass --seed, with whole numbers below {SEEDS}.",
        )
    learns = name in (Role.STUDENT, Role.CONTROL)
    if bool(strategy) != learns:
        raise DataError(
            f"{what}: row {row}: a {name} has {'to name its' if learns else 'no'} strategy",
            remedy="give students and controls a strategy (column, or --strategy), and no others.",
        )
    supervisor = str(weak) if weak and learns else None
    return Made(Role(name), str(model), str(strategy) if learns else None, supervisor, int(str(seed)))


def _values(columns: Columns, data: Dataset, what: str) -> list[tuple[int, dict[str, Any]]]:
    """Of each row the sample, and what was predicted."""
    if data.form == "generation":
        return _generated(columns, what)
    key = "item" if "item" in columns else "text"
    if set(data.labels) <= set(columns):
        source = LabelFile(path="x.csv", item_id=key, probabilities={label: label for label in data.labels})
    elif "probabilities" in columns or "class" in columns:
        form = "probabilities" if "probabilities" in columns else "label"
        source = LabelFile.model_validate(
            {"path": "x.csv", "item_id": key, form: "class" if form == "label" else "probabilities"}
        )
    else:
        raise DataError(
            f"{what} has no prediction: neither a column for each of {', '.join(data.labels)}, nor probabilities, "
            "nor class",
            remedy=_FORMS,
        )
    try:
        return [(0, {"probabilities": value.tolist()}) for value in distributions(source, columns, data.labels, what)]
    except ModelError as error:
        raise DataError(error.message, remedy=_FORMS) from None


def _generated(columns: Columns, what: str) -> list[tuple[int, dict[str, Any]]]:
    lacking = [name for name in _GENERATED if name not in columns]
    if lacking:
        raise DataError(f"{what} has no column {', '.join(lacking)}", remedy=_FORMS)
    found = []
    for row, (text, sample, tokens, finished) in enumerate(
        zip(*(columns[name] for name in _GENERATED), strict=True), start=1
    ):
        ended = _TRUTH.get(str(finished).lower())
        if text is None or not str(sample).isdecimal() or not str(tokens).isdecimal() or ended is None:
            raise DataError(
                f"{what}: row {row} is no generation with its sample and tokens, whole numbers, and finished, true or "
                "false",
                remedy=_FORMS,
            )
        number = int(str(sample))
        found.append((number, {"sample": number, "text": str(text), "tokens": int(str(tokens)), "finished": ended}))
    return found


def _require_whole(
    made: Made, found: Predictions, places: Sequence[tuple[Split, str]], data: Dataset, what: str
) -> None:
    """Raise DataError where items or samples of the test sets are missing, or samples too many."""
    settings = None if data.settings is None else GenerationSettings.model_validate(data.settings)
    expected = {
        (split, item, sample)
        for split, item in places
        for sample in range(1 if settings is None else settings.samples_of(split))
    }
    missing, more = sorted(expected - set(found)), sorted(set(found) - expected)
    if missing or more:
        told = "; ".join(f"{split.value} item {item} sample {sample}" for split, item, sample in (missing or more)[:3])
        raise DataError(
            f"{what}: {made} {f'lacks {len(missing)} of the' if missing else f'has {len(more)} more than the'} "
            f"{len(expected)} predictions of the test sets, such as {told}",
            remedy="predict every item that `wtsbench import --task NAME --items-to FILE` writes for test and ood.",
        )
