"""What the checks run on: constructed weak labels, a tiny model, and whole trial folders. Nothing is downloaded.

Shapes: S supervisors, V further wordings, N items, C classes.
"""

from __future__ import annotations

import hashlib
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from wtsbench.contract.outbox import Outbox, read_batch
from wtsbench.models.layout import content_digests, revision_of
from wtsbench.spec.generation import ZeroShot
from wtsbench.spec.training import Training
from wtsbench.spec.trial import ModelRef, Role, Split, TrialJob, TrialSpec
from wtsbench.strategies import recipes, registry
from wtsbench.strategies.base import Floats, Labelled, PlanningContext, Strategy, Supervision, Supervisor
from wtsbench.trial import folder as trial_folder

CONTEXT = PlanningContext(
    weak="weak", strong="strong", ladder=("between",), seed=0, zero_shot=ZeroShot(answers={"no": " no", "yes": " yes"})
)
"""A pair with one model between weak and strong, and a task that says how they are asked untrained."""
_WORDS = ("red", "green", "blue", "tall", "short", "old", "new", "round", "yes", "no")
_SIZES = {Split.TRANSFER: 32, Split.VALIDATION: 8, Split.TEST: 8}


def supervision(supervisors: tuple[Supervisor, ...], budget: int, *, size: int = 40, classes: int = 2) -> Supervision:
    """Weak labels of one split, without ties, that cannot be written to."""
    texts = _texts(size, "transfer")
    held_out = _said(supervisors, _texts(12, "validation"), classes)
    given = replace(_said(supervisors, texts, classes), validation=held_out)
    if not budget:
        return given
    truth = _truth(budget, classes)
    return replace(given, truth=truth, said_of_truth=_said_of_truth(supervisors, truth, classes))


def answers_truth(supervisor: Supervisor) -> bool:
    """Whether a supervisor says something of the items of a student's budget of ground truth."""
    recipe = None if supervisor.recipe is None else recipes.parse(supervisor.recipe)
    return isinstance(recipe, recipes.Reserved | recipes.Prior)


def certain(given: Supervision) -> Supervision:
    """The same items, of which every supervisor says class 0 for sure."""
    one_hot = _frozen(np.zeros_like(given.probabilities) + np.eye(given.probabilities.shape[2])[0])
    asked = None if given.asked is None else _frozen(np.zeros_like(given.asked) + one_hot[0, 0])
    return replace(given, probabilities=one_hot, asked=asked)


def reordered(given: Supervision, order: np.ndarray[Any, Any]) -> Supervision:
    """The same items in another order."""
    return replace(
        given,
        item_ids=tuple(given.item_ids[i] for i in order),
        texts=tuple(given.texts[i] for i in order),
        probabilities=_frozen(given.probabilities[:, order]),
        asked=None if given.asked is None else _frozen(given.asked[:, :, order]),
    )


def frames_of(supervisor: Supervisor) -> int:
    """How many further wordings a supervisor is asked in."""
    recipe = None if supervisor.recipe is None else recipes.parse(supervisor.recipe)
    return len(recipe.frames) if isinstance(recipe, recipes.Asked) else 0


def write_model(folder: Path) -> None:
    """A language model of a few thousand random weights, with a tokenizer of whole words."""
    vocabulary = ["<unk>", "<s>", "</s>", *_WORDS, *map(str, range(64))]
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers has no types here
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.1,
        bos_token_id=1,
        eos_token_id=2,
    )
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    LlamaForCausalLM(config).save_pretrained(folder)


def write_trial(folder: Path, model: Path, strategy: Strategy, *, seed: int = 0) -> TrialJob:
    """A student's trial folder, with no ground truth in it but the strategy's budget."""
    for name in ("inputs", "outbox", "scratch"):
        (folder / name).mkdir(parents=True)
    (folder / "model").symlink_to(model, target_is_directory=True)
    supervisors = strategy.supervisors(CONTEXT)
    parents = tuple(f"{number:064x}" for number in range(len(supervisors)))
    rows, said = [], []
    for split, size in _SIZES.items():
        texts = _texts(size, split.value)
        given = _said(supervisors, texts, 2)
        rows += [_row(item, split, text, None) for item, text in zip(given.item_ids, texts, strict=True)]
        tables = [("", given.probabilities)]
        if given.asked is not None:
            tables += [(f"~{k + 1}", given.asked[:, k]) for k in range(given.asked.shape[1])]
        said += [
            {"parent": parent, "item_id": item, "split": f"{split.value}{wording}", "probabilities": values.tolist()}
            for wording, table in tables
            for parent, of_parent in zip(parents, table, strict=True)
            for item, values in zip(given.item_ids, of_parent, strict=True)
        ]
    budget = _truth(min(strategy.truth_budget(), 16), 2)
    of_budget = _said_of_truth(supervisors, budget, 2)
    said += [
        {"parent": parent, "item_id": item, "split": Split.WEAK_TRAIN.value, "probabilities": values.tolist()}
        for parent, supervisor, table in zip(parents, supervisors, of_budget, strict=True)
        for item, values in zip(budget.item_ids, table, strict=True)
        if answers_truth(supervisor)
    ]
    labels = budget.targets.argmax(axis=1).tolist()
    rows += [
        _row(item, Split.WEAK_TRAIN, text, label)
        for item, text, label in zip(budget.item_ids, budget.texts, labels, strict=True)
    ]
    schema = pa.schema([(name, pa.string()) for name in ("item_id", "split", "text", "target")])
    _write(folder / "inputs" / "items.arrow", pa.Table.from_pylist(rows, schema.append(pa.field("label", pa.int32()))))
    _write(folder / "inputs" / "supervision.arrow", pa.Table.from_pylist(said))
    spec = TrialSpec(
        role=Role.STUDENT,
        task="conformance",
        data_digest="0" * 64,
        data_seed=0,
        model=ModelRef(
            name="tiny", kind="folder", id="tiny", revision=revision_of(content_digests(model)), path=str(model)
        ),
        strategy=registry.full_call(strategy),
        strategy_version=strategy.revision(),
        training=Training(epochs=2, batch_size=8, learning_rate=3e-3),
        seed=seed,
        parents=parents,
        environment="process:0",
    )
    job = TrialJob(trial_id=spec.trial_id, attempt=1, spec=spec, labels=("no", "yes"))
    (folder / "spec.json").write_text(job.model_dump_json())
    return job


def predictions_of(folder: Path) -> dict[tuple[str, str], list[float]]:
    """What the trial of a folder predicts, by split and item id."""
    job = trial_folder.TrialFolder(folder).job()
    files = Outbox(folder / "outbox", trial_id=job.trial_id, attempt=job.attempt).pending()
    rows = [row for file in files if file.table == "predictions" for row in read_batch(file.path).data.to_pylist()]
    return {(row["split"], row["item_id"]): row["probabilities"] for row in rows}


def die_at(passes: float) -> None:
    """Make this process kill itself, as a machine that fails would, when its trial has come so far."""
    advance = trial_folder.Progress.advance

    def advance_or_die(progress: trial_folder.Progress, more: float) -> None:
        advance(progress, more)
        if progress.done >= passes:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(trial_folder.Progress, "advance", advance_or_die)  # only in the process that dies  # noqa: B010


def _texts(size: int, purpose: str) -> tuple[str, ...]:
    random = _random("texts", purpose)
    return tuple(f"{i} " + " ".join(random.choice(_WORDS, size=int(random.integers(2, 9)))) for i in range(size))


def _said(supervisors: tuple[Supervisor, ...], texts: tuple[str, ...], classes: int) -> Supervision:
    draw = partial(_random("labels", str(len(texts))).dirichlet, np.ones(classes))
    wordings = max(map(frames_of, supervisors), default=0)
    ids = tuple(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Supervision(
        item_ids=tuple(ids[i] for i in order),
        texts=tuple(texts[i] for i in order),
        probabilities=_frozen(draw(size=(len(supervisors), len(texts)))),
        asked=_frozen(draw(size=(len(supervisors), wordings, len(texts)))) if wordings else None,
    )


def _said_of_truth(supervisors: tuple[Supervisor, ...], truth: Labelled, classes: int) -> Floats:
    draw = _random("labels of truth").dirichlet
    tables = draw(np.ones(classes), size=(len(supervisors), len(truth.item_ids)))
    tables[[not answers_truth(supervisor) for supervisor in supervisors]] = np.nan
    return _frozen(tables)


def _truth(size: int, classes: int) -> Labelled:
    texts = _texts(size, "weak_train")
    return Labelled(
        item_ids=tuple(f"truth-{i}" for i in range(size)),
        texts=texts,
        targets=_frozen(np.eye(classes)[np.arange(size) % classes].reshape(size, classes)),
        weights=_frozen(np.ones(size)),
    )


def _random(*purpose: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256("/".join(purpose).encode()).digest()[:8], "big"))


def _frozen(values: Floats) -> Floats:
    values.setflags(write=False)
    return values


def _row(item: str, split: Split, text: str, label: int | None) -> dict[str, Any]:
    return {"item_id": item, "split": split.value, "text": text, "label": label, "target": None}


def _write(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
