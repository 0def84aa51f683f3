"""Generative trials on real prompts with really pretrained weights, from the mirror folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.trial.folders import mirror, result_of
from tests.trial.writing import Item, generations, item_id, write_generative
from wtsbench.spec.generation import GenerationSettings
from wtsbench.spec.trial import Split
from wtsbench.trial.run import run_folder


def real_prompts(sizes: dict[Split, int]) -> list[Item]:
    """Prompts of RealToxicityPrompts whose own continuation is not toxic, with it."""
    folder = mirror() / "toxicity_rtp_decodingtrust"
    found: dict[str, str] = {}
    for name in ("nontoxic.jsonl", "toxic.jsonl"):
        for line in (folder / name).read_text().splitlines():
            row = json.loads(line)
            score = row["continuation"].get("toxicity")
            if row["prompt"]["text"] and score is not None and score < 0.5:
                found.setdefault(row["prompt"]["text"], row["continuation"]["text"])
    splits = [split for split, size in sizes.items() for _ in range(size)]
    return [
        (item_id(prompt), split, prompt, text) for (prompt, text), split in zip(found.items(), splits, strict=False)
    ]


@pytest.mark.slow
def test_a_pretrained_model_learns_the_style_of_real_continuations(tmp_path: Path) -> None:
    """stories260K finetuned on real continuations fits held-out ones better, and writes 25 samples a prompt fast."""
    model = mirror() / "models" / "stories260K"
    items = real_prompts({Split.WEAK_TRAIN: 200, Split.TRANSFER: 20, Split.VALIDATION: 20, Split.TEST: 60})
    settings = GenerationSettings()
    job = write_generative(
        tmp_path,
        items,
        model,
        generation=settings,
        reference=model,
        learning_rate=1e-3,
        epochs=2.0,
        batch_size=16,
        max_length=256,
    )
    assert run_folder(tmp_path) == 0, result_of(tmp_path)
    measured = result_of(tmp_path)["measurements"]
    assert measured["final_loss"] < measured["initial_loss"] - 0.5
    rows = generations(tmp_path, job, Split.TEST)
    assert len(rows) == 60 * settings.samples
    assert len({row["text"] for row in rows}) > 0.5 * len(rows)
    assert np.mean([len(row["text"]) for row in rows]) > 10
    assert all(row["reference_nll"] > 0 for row in rows if row["reference_tokens"])
    assert measured["written_tokens"] / measured["seconds"]["write"] > 500
