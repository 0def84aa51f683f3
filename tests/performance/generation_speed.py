"""How fast continuations are written, against transformers' `generate` with one prompt at a time and one by one.

The embedded models continue prompts of `toxicity-mini` on one thread; times are CPU seconds of this process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tests.performance.part import Asked, Figure, Missing, apart, described, embedded
from wtsbench.data import prepare
from wtsbench.spec.grid import DataSettings
from wtsbench.spec.manifests import load_task
from wtsbench.trial.device import Device
from wtsbench.trial.language_model import load_language_model
from wtsbench.trial.sampling import uniforms, write
from wtsbench.trial.text_tokens import load_text_tokenizer

SAMPLES, MOST, TOP_P = 25, 20, 0.9
_ONE_BY_ONE = 16
"""One prompt of so many is written text by text, which takes long."""


def measure_generation(asked: Asked) -> Iterator[Figure | Missing]:
    """The `generation` part: tokens a second of each model, over those of the two ways of `generate`."""
    texts = prepare(load_task("toxicity-mini")[0], DataSettings()).items["text"].to_pylist()
    count = asked.pick(quick=16, usual=64, large=256)
    for name in asked.pick(quick=["nano-1"], usual=["nano-1", "nano-3"], large=["nano-1", "nano-2", "nano-3"]):
        found = apart(measure, embedded(name), texts[:count])
        ours = {"tokens_per_s": found["ours"]}
        for way, against in (("samples", f"{SAMPLES} of a prompt"), ("single", "one by one")):
            yield Figure(
                name=f"{name}, against {against}",
                what=f"tokens a second over those of `generate`, {against}",
                value=found["ours"] / found[way],
                better="higher",
                details=described(ours | {"generate_tokens_per_s": found[way]}),
            )


def measure(folder: Path, texts: list[str]) -> dict[str, float]:
    """Tokens per second of CPU: `ours`, and those of `generate` by way."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    device = Device(torch_device=torch.device("cpu"), dtype=torch.float32, threads=1)
    model, tokenizer = load_language_model(folder, device), load_text_tokenizer(folder, 256)
    prompts = tokenizer.prompts(texts, MOST)
    randoms = [np.stack([uniforms(0, str(i), k, MOST) for k in range(SAMPLES)]) for i in range(len(prompts))]

    begun = time.process_time()
    written = write(
        [model],
        prompts,
        randoms,
        end_id=tokenizer.end_id,
        pad_id=tokenizer.pad_id,
        temperature=1.0,
        top_p=TOP_P,
        batch_size=64,
        device=device,
        advance=lambda count: None,
    )
    ours = sum(len(one.tokens) for some in written for one in some) / (time.process_time() - begun)

    torch.manual_seed(0)
    tokens = {"samples": 0, "single": 0}
    speeds = {}
    for name, times, copies in (("samples", 1, SAMPLES), ("single", SAMPLES, 1)):
        chosen = prompts if name == "samples" else prompts[::_ONE_BY_ONE]
        begun = time.process_time()
        for prompt in chosen:
            for _ in range(times):
                found = model.model.generate(
                    torch.tensor([prompt]),
                    attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                    do_sample=True,
                    top_p=TOP_P,
                    top_k=0,
                    max_new_tokens=MOST,
                    num_return_sequences=copies,
                    pad_token_id=tokenizer.pad_id,
                    eos_token_id=tokenizer.end_id,
                )
                new = found[:, len(prompt) :]
                tokens[name] += int(((new == tokenizer.end_id).cumsum(dim=1) == 0).sum())
        speeds[name] = tokens[name] / (time.process_time() - begun)
    return {"ours": ours, **speeds}
