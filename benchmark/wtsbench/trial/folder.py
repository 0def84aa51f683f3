"""The trial folder as the trial reads it; for the names in it see `contract.folder`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc
from numpy.typing import NDArray

from wtsbench.contract.folder import ITEMS, SUPERVISION, FolderLayout
from wtsbench.contract.measurements import TrialResult
from wtsbench.files import replace
from wtsbench.spec.trial import Split, TrialJob
from wtsbench.strategies.base import Floats, Supervision


class TrialInputError(Exception):
    """The trial folder does not hold what the trial needs."""


@dataclass(frozen=True, kw_only=True)
class Items:
    """The items of one split, in order of item id. Rows are aligned."""

    item_ids: tuple[str, ...]
    texts: tuple[str, ...]
    labels: NDArray[np.int64] | None
    """[N], or None where the role may not see them, and for generation."""
    targets: tuple[str, ...] | None = None
    """For generation, continuations to learn from; None where the role may not see them."""


class TrialFolder(FolderLayout):
    """A trial folder, as the trial reads it."""

    def gone(self) -> Path | None:
        """Where weights were when the trial began and are no more; None where all are there."""
        for link in (self.model, self.reference):
            if link.is_symlink() and not (link / "config.json").exists():
                return link.readlink()
            lost = next((path for path in link.iterdir() if not path.exists()), None) if link.is_dir() else None
            if lost is not None:  # a hub's cache has its files in another folder
                return lost.resolve()
        return None

    def job(self) -> TrialJob:
        """What `spec.json` asks for."""
        return TrialJob.model_validate_json(self.spec.read_bytes())

    def items(self) -> dict[Split, Items]:
        """The prepared items by split."""
        table = _read(self.inputs / ITEMS, ("item_id", "split", "text", "label", "target"))
        found = {}
        for split in Split:
            rows = table.filter(pa.compute.equal(table["split"], split.value)).sort_by("item_id")
            if not rows.num_rows:
                continue
            label = rows["label"]
            if 0 < label.null_count < rows.num_rows:
                raise TrialInputError(f"some items of split {split.value} have a label and some have none")
            labels = None if label.null_count else label.to_numpy().astype(np.int64)
            targets = None if rows["target"].null_count else tuple(rows["target"].to_pylist())
            found[split] = Items(
                item_ids=tuple(rows["item_id"].to_pylist()),
                texts=tuple(rows["text"].to_pylist()),
                labels=labels,
                targets=targets,
            )
        return found

    def supervision(
        self, items: Items, split: Split, parents: tuple[str, ...], classes: int, *, seed: int = 0
    ) -> Supervision:
        """The parents' predictions on the items of a split, [S, N, C] in the order of `parents`.

        Where the parents were asked in further wordings (splits `transfer~1`, `transfer~2`, …), those predictions too.

        Raises:
            TrialInputError: a prediction is missing, twice there or no distribution over the classes.
        """
        table = _read(self.inputs / SUPERVISION, ("parent", "item_id", "split", "probabilities"))
        wordings = [name for name in table["split"].unique().to_pylist() if name.startswith(f"{split.value}~")]
        asked = [_stacked(table, name, parents, items, classes) for name in sorted(wordings, key=_wording)]
        return Supervision(
            item_ids=items.item_ids,
            texts=items.texts,
            probabilities=_stacked(table, split.value, parents, items, classes),
            asked=np.stack(asked, axis=1) if asked else None,
            seed=seed,
        )

    def said_of_truth(self, items: Items, parents: tuple[str, ...], classes: int) -> Floats | None:
        """[S, T, C] the parents' predictions on a student's budget of `weak_train`, NaN of one that has none there.

        None where none of them has. Errors are those of `supervision`.
        """
        table = _read(self.inputs / SUPERVISION, ("parent", "item_id", "split", "probabilities"))
        split = Split.WEAK_TRAIN.value
        table = table.filter(pa.compute.equal(table["split"], split))
        asked = {*table["parent"].to_pylist()}
        unasked = np.full((len(items.item_ids), classes), np.nan)
        said = [_of_parent(table, each, items, split, classes) if each in asked else unasked for each in parents]
        return np.stack(said) if asked else None

    def written(self) -> pa.Table:
        """For generation: what the parents wrote, with scores."""
        columns = ("parent", "item_id", "split", "sample", "text", "tokens", "logprobs", "base_logprobs", "score")
        return _read(self.inputs / SUPERVISION, columns)

    def write_result(self, result: TrialResult) -> None:
        """Write the trial's last word, whole or not at all."""
        replace(self.result, result.text(), durable=True)


@dataclass
class Progress:
    """How far the trial is, for whoever watches `scratch/progress.json`; the unit is a pass of one item."""

    path: Path
    total: float = 0.0
    done: float = 0.0
    every: float = 0.5
    """Seconds between two writes."""
    _last: float = field(default=float("-inf"))

    def expect(self, passes: float) -> None:
        """There is this much more to do."""
        self.total += passes

    def advance(self, passes: float) -> None:
        """This much more is done."""
        self.done += passes
        now = time.monotonic()
        if now - self._last >= self.every or self.done >= self.total:
            self._last = now
            replace(self.path, json.dumps({"done": round(self.done, 1), "total": round(self.total, 1)}), durable=False)


def _wording(name: str) -> int:
    return int(name.partition("~")[2])


def _stacked(table: pa.Table, name: str, parents: tuple[str, ...], items: Items, classes: int) -> Floats:
    of_split = table.filter(pa.compute.equal(table["split"], name))
    return np.stack([_of_parent(of_split, parent, items, name, classes) for parent in parents])


def _of_parent(table: pa.Table, parent: str, items: Items, split: str, classes: int) -> Floats:
    rows = table.filter(pa.compute.equal(table["parent"], parent))
    by_item = dict(zip(rows["item_id"].to_pylist(), rows["probabilities"].to_pylist(), strict=True))
    if len(by_item) != rows.num_rows:
        raise TrialInputError(f"parent {parent[:12]} predicts an item of {split} twice")
    missing = [item for item in items.item_ids if item not in by_item]
    if missing:
        raise TrialInputError(
            f"parent {parent[:12]} has no prediction for {len(missing)} of {len(items.item_ids)} items of {split}"
        )
    chosen = [by_item[item] for item in items.item_ids]
    if any(len(row) != classes for row in chosen):
        raise TrialInputError(f"parent {parent[:12]} predicts another number of classes than {classes}")
    values = np.array(chosen, dtype=np.float64)
    if not np.isfinite(values).all() or (values < 0).any() or np.abs(values.sum(axis=1) - 1).max(initial=0) > 1e-3:
        raise TrialInputError(f"parent {parent[:12]} has predictions that are no probabilities")
    return values


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    with pa.OSFile(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise TrialInputError(f"{path.name} has no column {', '.join(missing)}")
    return table.select(list(columns))
