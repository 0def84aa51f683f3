"""Trial folders for tests: what a supervisor would write, from items made here or from the mirror's real data."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from wtsbench.contract.measurements import TrialResult
from wtsbench.contract.outbox import Outbox, read_batch
from wtsbench.models.layout import content_digests, revision_of
from wtsbench.settings import data_mirror
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import Training
from wtsbench.spec.trial import (
    LABELLED_SPLITS,
    PREDICTED_SPLITS,
    TRAIN_SPLIT,
    ModelRef,
    Role,
    Split,
    TrialJob,
    TrialSpec,
)
from wtsbench.strategies import registry

LABELS = ("unsafe", "safe")
WEAK_PARENT = "a" * 64
TRAIN = Split.WEAK_TRAIN


def mirror() -> Path:
    """The mirror folder with real data and weights; skips the test where there is none."""
    import pytest  # `gpu_smoke` writes folders where there may be none

    folder = data_mirror()
    if folder is None or not (folder / "models").is_dir():
        pytest.skip("WTSBENCH_DATA_MIRROR names no folder with real data and weights")
    return folder


def real_items(count: int, *, seed: int = 0) -> list[tuple[str, str, int]]:
    """(item id, text, label) of so many distinct prompts of the real safety data."""
    with (mirror() / "safety_wts" / "safety.csv").open(newline="") as file:
        labels = {row["prompt"]: int(row["is_safe"] == "True") for row in csv.DictReader(file)}
    texts = sorted(labels)
    chosen = np.random.default_rng(seed).permutation(len(texts))[:count]
    return [(_item_id(texts[i]), texts[i], labels[texts[i]]) for i in chosen]


def made_items(count: int, *, seed: int = 0) -> list[tuple[str, str, int]]:
    """Texts of unequal length whose class is said by one word."""
    random = np.random.default_rng(seed)
    words = ["alpha", "beta", "gamma", "delta", "stone", "river", "cloud"]
    found = []
    for i in range(count):
        label = int(random.integers(2))
        body = list(random.choice(words, size=int(random.integers(2, 20))))
        body.insert(int(random.integers(len(body))), ["bomb", "cake"][label])
        text = f"{i} " + " ".join(body)
        found.append((_item_id(text), text, label))
    return found


def write_folder(
    folder: Path,
    items: list[tuple[str, str, int]],
    model: Path,
    *,
    role: Role = Role.WEAK,
    seed: int = 0,
    strategy: StrategyCall | None = None,
    strategy_version: int | None = 1,
    recipe: StrategyCall | None = None,
    parents: dict[str, dict[str, list[float]]] | None = None,
    wordings: Sequence[dict[str, list[float]]] = (),
    shares: tuple[float, float, float, float] = (0.4, 0.4, 0.1, 0.1),
    threads: int = 1,
    gpus: float = 0,
    **training: Any,
) -> TrialJob:
    """Write a whole trial folder; `parents` maps a parent's id to its probabilities by item id.

    `wordings` are what all parents say under each further wording.
    """
    for name in ("inputs", "outbox", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "model").symlink_to(model.resolve(), target_is_directory=True)
    (folder / "inputs" / "items.arrow").parent.mkdir(exist_ok=True)
    splits = _split(len(items), shares)
    used = {*PREDICTED_SPLITS, TRAIN_SPLIT[role]}
    seen = LABELLED_SPLITS[role]
    budget = registry.resolve(strategy).truth_budget() if strategy is not None else 0
    revealed = set([item for (item, _, _), split in zip(items, splits, strict=True) if split is TRAIN][:budget])
    rows = [
        {
            "item_id": item,
            "split": split.value,
            "text": text,
            "label": label if split in seen or item in revealed else None,
            "target": None,
        }
        for (item, text, label), split in zip(items, splits, strict=True)
        if split in used or item in revealed
    ]
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("split", pa.string()),
            ("text", pa.string()),
            ("label", pa.int32()),
            ("target", pa.string()),
        ]
    )
    _write(folder / "inputs" / "items.arrow", pa.Table.from_pylist(rows, schema=schema))
    if parents:
        supervised = [
            {"parent": parent, "item_id": item, "split": f"{split.value}{wording}", "probabilities": given[item]}
            for parent, plain in parents.items()
            for wording, given in (("", plain), *((f"~{k}", said) for k, said in enumerate(wordings, start=1)))
            for (item, _, _), split in zip(items, splits, strict=True)
            if split in (Split.TRANSFER, Split.VALIDATION) or (role is Role.WEAK and not wording)
        ]
        _write(folder / "inputs" / "supervision.arrow", pa.Table.from_pylist(supervised))
    spec = TrialSpec(
        role=role,
        task="safety",
        data_digest="0" * 64,
        data_seed=0,
        model=ModelRef(
            name=model.name, kind="folder", id=model.name, revision=revision_of(content_digests(model)), path=str(model)
        ),
        strategy=strategy,
        strategy_version=strategy_version if strategy is not None else None,
        recipe=recipe,
        training=Training(**training),
        seed=seed,
        parents=tuple(parents or ()),
        environment="process:0",
    )
    job = TrialJob(trial_id=spec.trial_id, attempt=1, spec=spec, labels=LABELS, threads=threads, gpus=gpus)
    (folder / "spec.json").write_text(job.model_dump_json())
    return job


def noisy_labels(items: list[tuple[str, str, int]], *, wrong: float, seed: int = 0) -> dict[str, list[float]]:
    """Weak probabilities by item id that are wrong on a share of the items."""
    random = np.random.default_rng(seed)
    found = {}
    for item, _, label in items:
        sure = float(random.uniform(0.55, 0.95))
        right = label if random.random() >= wrong else 1 - label
        found[item] = [1 - sure, sure] if right else [sure, 1 - sure]
    return found


def result_of(folder: Path) -> dict[str, Any]:
    """The trial's `result.json`."""
    loaded = json.loads((folder / "outbox" / "result.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


def last_word_of(folder: Path) -> TrialResult:
    """The same as its supervisor reads it."""
    return TrialResult.model_validate(result_of(folder))


def records_of(folder: Path, job: TrialJob, table: str) -> list[dict[str, Any]]:
    """All rows of a table in the outbox."""
    outbox = Outbox(folder / "outbox", trial_id=job.trial_id, attempt=job.attempt)
    rows: list[dict[str, Any]] = []
    for file in outbox.pending():
        if file.table == table:
            rows += read_batch(file.path).data.to_pylist()
    return rows


def predictions_of(folder: Path, job: TrialJob) -> dict[tuple[str, str], list[float]]:
    """Probabilities by split and item id."""
    return {(row["split"], row["item_id"]): row["probabilities"] for row in records_of(folder, job, "predictions")}


def accuracy_of(folder: Path, job: TrialJob, items: list[tuple[str, str, int]], split: Split) -> float:
    """Accuracy of the predictions on a split against the truth, which the trial did not see."""
    truth = {item: label for item, _, label in items}
    found = [
        int(np.argmax(values)) == truth[item]
        for (where, item), values in predictions_of(folder, job).items()
        if where == split.value
    ]
    return float(np.mean(found))


def _split(count: int, shares: tuple[float, float, float, float]) -> list[Split]:
    edges = np.cumsum([0, *(round(share * count) for share in shares)])
    found: list[Split] = []
    for split, start, stop in zip(Split, edges, edges[1:], strict=False):
        found += [split] * int(stop - start)
    return (found + [Split.TEST] * count)[:count]


def _item_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
