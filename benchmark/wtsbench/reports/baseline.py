"""A baseline: what a grid scored, small enough to be committed and exact enough to be compared item by item.

A baseline is a JSON file. For every entry of every table (weak supervisor, ceiling, strategies, controls) and seed it
has the features that the table's metric sums over items, so that a later run is compared on the same items and
seeds, without the store that the baseline came from.
"""

from __future__ import annotations

import base64
import json
import math
import statistics
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator, TypeAdapter, ValidationError

from wtsbench.contract.measurements import Measurements
from wtsbench.errors import ExitCode, SpecError, UserError
from wtsbench.metrics.classification import Features, Metric
from wtsbench.reports.contents import submissions
from wtsbench.reports.evidence import FORMS
from wtsbench.reports.files import write as write_file
from wtsbench.reports.leaderboard import tables
from wtsbench.reports.table import Table
from wtsbench.spec.trial import SCIENCE_VERSION, Form
from wtsbench.store.client import Store
from wtsbench.visible import visible

FORMAT = "wtsbench/baseline/v1"
FOLDER = Path("baselines")
"""Where baselines are by default, to be committed."""
SUFFIX = ".baseline.json"
_DECIMALS = 6
_MOST_BYTES = 256 * 2**20
"""Of a baseline's file; one of 1,000 entries on 1,000 items with 5 seeds has some 3 MB."""
_MOST_NUMBERS = 100_000_000
"""Of one seed's features, which a small file could blow up to."""


def _unpacked(record: Any) -> Features:
    if not isinstance(record, Mapping) or record.keys() != {"type", "shape", "zlib"}:
        raise ValueError("features are no record of type, shape and zlib")
    shape = tuple(int(size) for size in record["shape"])
    count = math.prod(shape)
    kind = np.dtype(np.uint8 if record["type"] == "bits" else record["type"])
    if kind.kind not in "biuf" or len(shape) != 2 or min(shape) < 1:
        raise ValueError("features are no table of numbers")
    if count > _MOST_NUMBERS:
        raise ValueError(f"features of {count} numbers are more than {_MOST_NUMBERS}")
    size = (count + 7) // 8 if record["type"] == "bits" else count * kind.itemsize
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(record["zlib"], validate=True), size + 1)
    except zlib.error as error:
        raise ValueError(f"features are damaged: {error}") from None
    if len(content) != size:
        raise ValueError("features are not as long as they say")
    flat = np.frombuffer(content, dtype=kind)
    if not np.isfinite(flat).all():
        raise ValueError("features are not all finite")
    if record["type"] == "bits":
        return np.unpackbits(flat, count=count).astype(np.bool_).reshape(shape)
    return flat.reshape(shape)


def _unpacked_groups(record: Any) -> NDArray[np.int64]:
    groups = _unpacked(record)[:, 0].astype(np.int64)
    if set(groups.tolist()) != set(range(int(groups.max()) + 1)):
        raise ValueError("groups of items are not counted from 0")
    return groups


@dataclass(frozen=True, kw_only=True)
class Run:
    """One seed of an entry."""

    trial: str
    score: float
    features: Annotated[Features, PlainValidator(_unpacked)]
    """[N, F] of the items in the order of their ids."""
    seconds: float
    """Of the trial, from start to end."""
    memory: int | None
    """Peak in bytes."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A weak supervisor, ceiling, strategy or control of a table, with its finished seeds."""

    task: str
    weak: str
    strong: str
    split: str
    scorer: str | None
    metric: str
    name: str
    """`weak`, `ceiling`, or the label of the strategy or control."""
    kind: str
    """`weak`, `ceiling`, `strategy` or `control`."""
    data_digest: str
    items_digest: str
    """Of the ids and groups of the items, in order."""
    hardware: str
    """Devices on which its trials ran."""
    asked: int
    """Seeds that the grid asks for."""
    runs: Mapping[int, Run]
    """By seed."""

    @property
    def key(self) -> tuple[str, ...]:
        """Which entry of which table it is, whatever it was measured on; what judged it comes last."""
        return (self.task, self.weak, self.strong, self.split, self.name, self.scorer or "")

    @property
    def title(self) -> str:
        """`safety, gpt2 -> gpt2-medium: naive`, on one line and visible: in CI, a line may be a command."""
        place = f"{self.task}{' out of distribution' if self.split == 'ood' else ''}, {self.weak} -> {self.strong}"
        return visible(f"{place}: {self.name}")

    @property
    def comparable(self) -> dict[str, str | None]:
        """What must agree before scores of two entries are compared."""
        return {
            "data digest": self.data_digest,
            "items": self.items_digest,
            "metric": self.metric,
            "scorer": self.scorer,
        }


@dataclass(frozen=True, kw_only=True)
class Items:
    """What entries were measured on."""

    form: Form
    labels: tuple[str, ...]
    groups: Annotated[NDArray[np.int64], PlainValidator(_unpacked_groups)]
    """[N] group of each item, counted from 0."""
    class_groups: tuple[int, ...]
    """Groups with items of each class."""

    def effective(self, metric: Metric[Any]) -> float | None:
        """How many groups a metric rests on, where these are fewer than all."""
        return None if metric.effective is None else metric.effective(np.asarray(self.class_groups))

    def metric(self, name: str) -> Metric[Any]:
        """The metric of this name, for items of this form.

        Raises:
            SpecError: this version of wtsbench has none.
        """
        known = FORMS[self.form].metrics(self.labels)
        if name not in known:
            raise SpecError(f"this version of wtsbench has no metric {name!r}", remedy=f"it has {', '.join(known)}.")
        return known[name]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a grid scored."""

    grid: str
    entries: tuple[Entry, ...]
    items: Mapping[str, Items]
    """By `Entry.items_digest`."""
    unfinished: tuple[str, ...] = ()
    """Titles of entries that lack seeds that the grid asks for; of a store, not of a file."""
    code: tuple[str, ...]
    """Versions of wtsbench that ran its trials: the commit where it is known, marked `+` with changes on top."""
    science_version: int

    def by_key(self) -> dict[tuple[str, ...], Entry]:
        """Entries by what they are."""
        return {entry.key: entry for entry in self.entries}


def measured(store: Store, grid: str, submission: int | None = None) -> Baseline:
    """What a store says of a grid now, or of another submission than its newest.

    Raises:
        SpecError: there is no grid of that name, or no such submission of it.
        StoreError: the store cannot be read, or holds records that do not fit their items.
    """
    entries: list[Entry] = []
    items: dict[str, Items] = {}
    code: set[str] = set()
    unfinished: list[str] = []
    for table in tables(store, submissions(store, grid, submission), resamples=1):
        found, versions = _entries(store, table)
        entries += found
        code |= versions
        unfinished += [
            f"{table.task}, {table.weak} -> {table.strong}: {name}"
            for name, (_, seeds, asked) in table.trials_by_entry().items()
            if len(seeds) < asked
        ]
        if found:
            tests = table.tests
            items[tests.items_digest] = Items(
                form=tests.form.name,
                labels=tests.labels,
                groups=tests.groups,
                class_groups=tuple(int(count) for count in tests.class_groups),
            )
    return Baseline(
        grid=grid,
        entries=tuple(entries),
        items=items,
        unfinished=tuple(dict.fromkeys(unfinished)),
        code=tuple(sorted(code)),
        science_version=SCIENCE_VERSION,
    )


class Unfinished(UserError):
    """A grid has not measured all that it asks for."""

    exit_code = ExitCode.INCOMPLETE


def require_whole(baseline: Baseline, *, partly: bool = False) -> None:
    """A baseline is of a grid that is finished: what it lacks would never be missed.

    Args:
        baseline: as `measured`.
        partly: what there is will do, if there is anything.

    Raises:
        Unfinished: some entries lack seeds, or there are none.
    """
    if baseline.entries and (partly or not baseline.unfinished):
        return
    lacking = [f"{len(baseline.unfinished)} entries lack seeds, such as {title}" for title in baseline.unfinished[:1]]
    raise Unfinished(
        f"grid {baseline.grid} is no baseline yet: {lacking[0] if lacking else 'it has no entry'}",
        remedy="`wtsbench status` says what is not done, `wtsbench submit` runs it; what the grid need not have, "
        "`exclude` leaves out.",
    )


def code_of(facts: Mapping[str, Any]) -> str:
    """The version that `spec.provenance` or a trial's record tells."""
    commit = facts["git_commit"]
    return facts["wtsbench_version"] if commit is None else f"{commit}{'+' if facts['git_dirty'] else ''}"


def _entries(store: Store, table: Table) -> tuple[list[Entry], set[str]]:
    trials = table.trials_by_entry()
    ids = sorted({trial_id for _, seeds, _ in trials.values() for trial_id in seeds.values()})
    columns = ["trial_id", "status", "duration_s", "measurements", "device_name"]
    columns += ["wtsbench_version", "git_commit", "git_dirty"]
    rows = {row["trial_id"]: row for row in store.trials(ids, columns=columns).to_pylist() if row["status"] == "done"}
    metric = table.tests.metric
    entries = []
    for name, (kind, seeds, asked) in trials.items():
        if not seeds:
            continue
        features = table.features(list(seeds.values()))
        runs = {
            seed: Run(
                trial=trial_id,
                score=round(float(metric.value(part.sum(axis=0, dtype=np.float64))), _DECIMALS),
                features=part,
                seconds=round(rows[trial_id]["duration_s"], 3),
                memory=(Measurements.of_stored(rows[trial_id]["measurements"]) or Measurements()).peak_memory_bytes,
            )
            for (seed, trial_id), part in zip(seeds.items(), features, strict=True)
        }
        entries.append(
            Entry(
                task=table.task,
                weak=table.weak,
                strong=table.strong,
                split=table.tests.split.value,
                scorer=None if table.scorer is None else table.scorer.digest,
                metric=metric.name,
                name=name,
                kind=kind,
                data_digest=table.tests.data_digest,
                items_digest=table.tests.items_digest,
                hardware=", ".join(sorted({rows[run.trial]["device_name"] or "unknown" for run in runs.values()})),
                asked=asked,
                runs=runs,
            )
        )
    return entries, {code_of(row) for row in rows.values()}


def write(baseline: Baseline, path: Path) -> None:
    """Write a baseline as JSON, one line an entry's seed, so that a review shows which scores moved.

    Raises:
        SpecError: it cannot be written.
    """
    text = json.dumps(_record(baseline), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_file(path, text.encode())


def read(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        SpecError: it cannot be read, or is none.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SpecError(f"{path} is no baseline: it has more than {_MOST_BYTES >> 20} MiB", remedy="name another.")
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError("that is not what it says of itself")
        baseline = _BASELINE.validate_python(record)
        _require_fit(baseline)
        return baseline
    except OSError as error:
        raise SpecError(
            f"{path} cannot be read: {error.strerror}", remedy="`wtsbench baseline list` shows those here."
        ) from None
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise SpecError(
            f"{path} is no baseline that this version reads: {place}: {fault['msg']}",
            remedy="take it from version control again, or write it anew with `wtsbench baseline set`.",
        ) from None
    except (ValueError, RecursionError) as error:
        raise SpecError(
            f"{path} is no baseline that this version reads: {error}", remedy=f"its format should be {FORMAT}."
        ) from None


_BASELINE: TypeAdapter[Baseline] = TypeAdapter(Baseline)


def _require_fit(baseline: Baseline) -> None:
    """Every entry has items, and of each of its seeds the features of all of them.

    Raises:
        ValueError: some have not.
    """
    for entry in baseline.entries:
        items = baseline.items.get(entry.items_digest)
        if items is None or not entry.runs:
            raise ValueError(f"{entry.title} has no {'seeds' if items else 'items'}")
        shapes = {run.features.shape for run in entry.runs.values()}
        if len(shapes) != 1 or {shape[0] for shape in shapes} != {len(items.groups)}:
            raise ValueError(f"features of {entry.title} do not fit its items")


def _record(baseline: Baseline) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "grid": baseline.grid,
        "code": list(baseline.code),
        "science_version": baseline.science_version,
        "items": {
            digest: {
                "form": items.form,
                "labels": list(items.labels),
                "class_groups": list(items.class_groups),
                "groups": _packed(items.groups[:, None]),
            }
            for digest, items in sorted(baseline.items.items())
        },
        "entries": [_record_entry(entry) for entry in baseline.entries],
    }


def _record_entry(entry: Entry) -> dict[str, Any]:
    plain = {name: value for name, value in vars(entry).items() if name != "runs"}
    runs = {
        str(seed): {
            "score": run.score,
            "trial": run.trial,
            "seconds": run.seconds,
            "memory": run.memory,
            "features": _packed(run.features),
        }
        for seed, run in sorted(entry.runs.items())
    }
    mean = statistics.fmean(run.score for run in entry.runs.values())
    return {**plain, "score": round(mean, _DECIMALS), "runs": runs}


def _packed(features: Features) -> dict[str, Any]:
    """Features as text: bits where they are true or false, else numbers of their own type, compressed."""
    bits = features.dtype == np.bool_
    content = np.packbits(features.astype(np.bool_)).tobytes() if bits else np.ascontiguousarray(features).tobytes()
    kind = "bits" if bits else features.dtype.str
    return {"type": kind, "shape": list(features.shape), "zlib": base64.b64encode(zlib.compress(content, 9)).decode()}


def listed(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and files of the baselines in a folder."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        yield path.name.removesuffix(SUFFIX), path
