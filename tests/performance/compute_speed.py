"""How fast a trial computes: useful FLOP/s over those of a matrix product, and against a loop as released scripts have.

    python -m tests.performance.compute_speed [--models nano-3,gpt2] [--tasks safety,legal] [--items N] [--json FILE]

Both loops train and predict the same random items on the same random weights, in turns within one process, on one
thread. Times are CPU seconds of this process, the median of `--repeats` turns, so that other work on the machine
counts little. Useful FLOPs are those of the real tokens: 2 a weight of the body and token forward, 3 times that in
training; padding, attention's scores and the embeddings count nothing, and neither is less counted where a last layer
is not computed whole. `memory` is the process's peak, after our own loop and after the other.

The loop as released scripts have it pads random batches to their longest item, takes transformers' own kernels, and
predicts 32 items at once. No test: speeds depend on the machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from wtsbench.spec.provenance import cpu_name
from wtsbench.spec.training import Training
from wtsbench.strategies.base import Labelled
from wtsbench.strategies.naive import Naive
from wtsbench.trial import train
from wtsbench.trial.batching import pad, prediction_batches
from wtsbench.trial.classifier import Classifier
from wtsbench.trial.device import Device
from wtsbench.trial.models import load_classifier, quiet

MODELS: dict[str, tuple[str, dict[str, int]]] = {
    "nano-3": (
        "llama",
        {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
        },
    ),
    "gpt2": ("gpt2", {"n_embd": 256, "n_layer": 4, "n_head": 4}),
    "minilm": (
        "bert",
        {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12},
    ),
}
"""Shapes: the largest embedded model, one of 3.2 million weights in the manner of GPT-2, and all-MiniLM-L6-v2."""
TASKS = {"safety": (16, 0.45), "legal": (42, 0.4), "toxicity": (16, 0.37)}
"""Median of the tokens of an item, and the spread of its logarithm, fitted to the real tasks."""
VOCABULARY, LONGEST, RELEASED_BATCH = 2048, 256, 32


@dataclass(frozen=True, kw_only=True)
class Work:
    """Items and weights that both loops get."""

    folder: Path
    rows: list[list[int]]
    items: Labelled
    training: Training
    device: Device

    @property
    def tokens(self) -> int:
        """Real tokens."""
        return sum(map(len, self.rows))

    def classifier(self) -> Classifier:
        """As a trial has it."""
        return load_classifier(
            self.folder, classes=2, pad_id=0, seed=0, round_=0, device=self.device, training=self.training
        )


def work_of(folder: Path, task: str, size: int, device: Device) -> Work:
    """Random items with the lengths of a task."""
    random = np.random.default_rng(0)
    median, spread = TASKS[task]
    lengths = np.clip(random.lognormal(np.log(median), spread, size).astype(int), 4, LONGEST)
    items = Labelled(
        item_ids=tuple(map(str, range(size))),
        texts=("",) * size,
        targets=np.eye(2)[random.integers(0, 2, size)],
        weights=np.ones(size),
    )
    rows = [random.integers(5, VOCABULARY, size=length).tolist() for length in lengths]
    return Work(folder=folder, rows=rows, items=items, training=Training(epochs=1), device=device)


def ours(work: Work, classifier: Classifier) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Training and predicting as a trial does."""
    lengths = [len(row) for row in work.rows]

    def fit() -> None:
        train.fit(
            classifier,
            work.rows,
            work.items,
            Naive(Naive.Parameters()),
            training=work.training,
            pad_id=0,
            seed=0,
            fit_number=0,
            device=work.device,
            curve=train.Curve(),
            advance=lambda _: None,
        )

    def predict() -> None:
        most = work.device.tokens_at_once(classifier.width)
        batches = prediction_batches(lengths, work.training.eval_batch_size, most)
        train.predict(classifier, work.rows, batches, pad_id=0, device=work.device, advance=lambda _: None)

    return fit, predict


def released(work: Work, model: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same as released scripts do: random batches, padded to their longest item, and transformers' kernels."""
    targets = torch.tensor(work.items.targets, dtype=torch.float32)
    batch = work.training.batch_size

    def fit() -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=work.training.learning_rate)
        order = np.random.default_rng(0).permutation(len(work.rows))
        model.train()
        for at in range(0, len(order), batch):
            chosen = order[at : at + batch]
            ids, mask = pad([work.rows[i] for i in chosen], 0)
            logits = model(input_ids=ids, attention_mask=mask).logits
            loss = torch.nn.functional.cross_entropy(logits, targets[torch.from_numpy(chosen)])
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            torch.nn.utils.clip_grad_norm_(model.parameters(), work.training.max_gradient_norm)
            optimizer.step()
            optimizer.zero_grad()
            float(loss.detach())

    def predict() -> None:
        model.eval()
        with torch.no_grad():
            for at in range(0, len(work.rows), RELEASED_BATCH):
                ids, mask = pad(work.rows[at : at + RELEASED_BATCH], 0)
                model(input_ids=ids, attention_mask=mask).logits.softmax(dim=-1).numpy()

    return fit, predict


def measure(folder: Path, task: str, size: int, repeats: int) -> dict[str, float]:
    """Every figure of one model and task, to be taken in a process of its own: peak memory never falls."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    work = work_of(folder, task, size, Device(torch_device=torch.device("cpu"), dtype=torch.float32, threads=1))
    classifier = work.classifier()
    with quiet():
        plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, pad_token_id=0)
    body = sum(p.numel() for name, p in plain.named_parameters() if p.dim() > 1 and "emb" not in name)
    body -= sum(p.numel() for name, p in plain.named_parameters() if name.endswith(("wte.weight", "wpe.weight")))
    width = int(plain.config.hidden_size)
    loops = {"ours": ours(work, classifier), "released": released(work, copy.deepcopy(plain))}
    seconds: dict[str, list[float]] = {f"{name} {what}": [] for name in loops for what in ("train", "predict")}
    seconds["matmul"] = []
    left, right = torch.randn(work.tokens * work.training.batch_size // size, width), torch.randn(width, 4 * width)
    peak: dict[str, float] = {}
    for _ in range(repeats):
        for name, loop in loops.items():
            for what, act in zip(("train", "predict"), loop, strict=True):
                seconds[f"{name} {what}"].append(_seconds(act))
            peak.setdefault(name, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        seconds["matmul"].append(_seconds(lambda: [left @ right for _ in range(50)]))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    product = 50 * 2 * left.numel() * 4 * width / median["matmul"]
    once = 2 * body * work.tokens
    return {
        "matmul_gflops": product / 1e9,
        "train_share": 3 * once / median["ours train"] / product,
        "predict_share": once / median["ours predict"] / product,
        "train_ratio": median["released train"] / median["ours train"],
        "predict_ratio": median["released predict"] / median["ours predict"],
        "memory_mib": peak["ours"] / 2**20,
        "memory_after_released_mib": peak["released"] / 2**20,
    }


def _seconds(act: Callable[[], Any]) -> float:
    begun = time.process_time()
    act()
    return time.process_time() - begun


def main() -> None:
    """Print a table, and write the same as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--items", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    hardware = (
        f"1 thread of {cpu_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    )
    table = Table("model", "task", "matmul GFLOP/s", "train", "predict", "against released: train", "predict", "memory")
    table.caption = hardware
    rows = []
    with tempfile.TemporaryDirectory(prefix="wtsbench-speed-") as scratch:
        for name in arguments.models.split(","):
            kind, shape = MODELS[name]
            torch.manual_seed(0)
            config = AutoConfig.for_model(
                kind, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, pad_token_id=0, **shape
            )
            AutoModel.from_config(config).save_pretrained(Path(scratch) / name)  # type: ignore[no-untyped-call]
            for task in arguments.tasks.split(","):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    found = process.submit(
                        measure, Path(scratch) / name, task, arguments.items, arguments.repeats
                    ).result()
                rows.append({"model": name, "task": task, **found})
                shares = (f"{found[key]:.0%}" for key in ("train_share", "predict_share"))
                ratios = (f"{found[key]:.2f} x" for key in ("train_ratio", "predict_ratio"))
                memory = f"{found['memory_mib']:.0f} MiB"
                table.add_row(name, task, f"{found['matmul_gflops']:.0f}", *shares, *ratios, memory)
    Console(width=120).print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"hardware": hardware, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
