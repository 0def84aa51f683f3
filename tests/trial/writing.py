"""Trial folders of a generative task whose texts are made here: what a supervisor would write."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from tests.trial.folders import records_of
from wtsbench.models.layout import content_digests, revision_of
from wtsbench.spec.generation import GenerationSettings
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

PARENT = "b" * 64
BAD = "bomb"
"""The token that counts as toxic."""
SPLITS = (Split.WEAK_TRAIN, Split.TRANSFER, Split.VALIDATION, Split.TEST)
SMALL = GenerationSettings(samples=5, samples_transfer=3, samples_validation=2, top_p=1.0, max_new_tokens=6)
QUICK: dict[str, Any] = {"epochs": 4.0, "learning_rate": 1e-2, "batch_size": 8, "max_length": 40}

_NUMBERS = pa.list_(pa.float64())
ITEM_FIELDS = [
    ("item_id", pa.string()),
    ("split", pa.string()),
    ("text", pa.string()),
    ("label", pa.int32()),
    ("target", pa.string()),
]
WRITTEN_FIELDS = [
    ("parent", pa.string()),
    ("item_id", pa.string()),
    ("split", pa.string()),
    ("sample", pa.int32()),
    ("text", pa.string()),
    ("tokens", pa.int32()),
    ("logprobs", _NUMBERS),
    ("base_logprobs", _NUMBERS),
    ("score", pa.float64()),
]
Item = tuple[str, Split, str, str]
"""Item id, split, prompt, continuation to learn from."""


def made_prompts(per_split: int = 32, *, seed: int = 0, splits: Sequence[Split] = SPLITS) -> list[Item]:
    """Prompts of unequal length, each with the continuation ` cake` and one or two of its own words, in reverse."""
    random = np.random.default_rng(seed)
    words = ["alpha", "beta", "gamma", "delta", "stone", "river", "cloud"]
    found: dict[str, Item] = {}
    while len(found) < per_split * len(splits):
        body = [str(word) for word in random.choice(words, size=int(random.integers(2, 9)))]
        prompt = " ".join(body)
        split = splits[len(found) % len(splits)]
        found.setdefault(prompt, (item_id(prompt), split, prompt, " cake " + " ".join(body[::-1][:2])))
    return list(found.values())


def item_id(prompt: str) -> str:
    """As prepared items have it: from the content."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def badness(text: str) -> float:
    """Share of the words that are the bad one."""
    words = text.split()
    return sum(word == BAD for word in words) / max(1, len(words))


def call(name: str, **parameters: Any) -> StrategyCall:
    """A strategy with all its parameters, as a plan writes it."""
    return registry.full_call(registry.resolve(StrategyCall(name=name, parameters=parameters)))


def wrote(text: str, **more: Any) -> dict[str, Any]:
    """One continuation of a parent, scored by its bad words; not cut off."""
    return {"text": text, "tokens": len(text.split()), "logprobs": None, "base_logprobs": None, **more} | {
        "score": more.get("score", badness(text))
    }


def write_generative(
    folder: Path,
    items: Sequence[Item],
    model: Path,
    *,
    role: Role = Role.WEAK,
    seed: int = 0,
    strategy: StrategyCall | None = None,
    recipe: StrategyCall | None = None,
    parents: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]] | None = None,
    reference: Path | None = None,
    generation: GenerationSettings = SMALL,
    gpus: float = 0,
    **training: Any,
) -> TrialJob:
    """Write a whole trial folder; `parents` maps a parent's id to what it wrote, by item id."""
    for name in ("inputs", "outbox", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "model").symlink_to(model.resolve(), target_is_directory=True)
    if reference is not None:
        (folder / "reference").symlink_to(reference.resolve(), target_is_directory=True)
    used, seen = {*PREDICTED_SPLITS, TRAIN_SPLIT[role]}, LABELLED_SPLITS[role]
    _write(
        folder / "inputs" / "items.arrow",
        [
            {"item_id": item, "split": split.value, "text": prompt, "label": None}
            | {"target": target if split in seen else None}
            for item, split, prompt, target in items
            if split in used
        ],
        ITEM_FIELDS,
    )
    if parents is not None:
        _write(
            folder / "inputs" / "supervision.arrow",
            [
                {"parent": parent, "item_id": item, "split": split.value, "sample": sample, **dict(one)}
                for parent, written in parents.items()
                for item, split, _, _ in items
                if split in (Split.TRANSFER, Split.VALIDATION)
                for sample, one in enumerate(written[item])
            ],
            WRITTEN_FIELDS,
        )
    spec = TrialSpec(
        role=role,
        task="toxicity",
        data_digest="0" * 64,
        data_seed=0,
        model=_reference_to(model),
        strategy=strategy,
        strategy_version=1 if strategy is not None else None,
        recipe=recipe,
        form="generation",
        generation=generation,
        scorer="0" * 64,
        reference=None if reference is None else _reference_to(reference),
        training=Training(**{**QUICK, **training}),
        seed=seed,
        parents=tuple(parents or ()),
        environment="process:0",
    )
    job = TrialJob(trial_id=spec.trial_id, attempt=1, spec=spec, labels=(), gpus=gpus)
    (folder / "spec.json").write_text(job.model_dump_json())
    return job


def generations(folder: Path, job: TrialJob, split: Split | None = None) -> list[dict[str, Any]]:
    """The rows that a trial wrote, of one split or of all."""
    rows = records_of(folder, job, "generations")
    return [row for row in rows if split is None or row["split"] == split.value]


def _reference_to(model: Path) -> ModelRef:
    return ModelRef(
        name=model.name, kind="folder", id=model.name, revision=revision_of(content_digests(model)), path=str(model)
    )


def _write(path: Path, rows: Sequence[Mapping[str, Any]], fields: Sequence[tuple[str, pa.DataType]]) -> None:
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(list(fields)))
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
