"""How fast a trial computes: useful FLOP/s over those of a matrix product, and against a loop as released scripts have.

Both loops train and predict the same random items on the same random weights, in turns within one process, on one
thread. Times are CPU seconds of this process (on a GPU the clock's), the median of some turns, so that other work on
the machine counts little. Useful FLOPs are those of the real tokens: 2 a weight of the body and token forward, 3 times
that in training; padding, attention's scores and the embeddings count nothing, and neither is less counted where a last
layer is not computed whole. Memory is the process's peak, after our own loop and after the other.

The loop as released scripts have it pads random batches to their longest item, takes transformers' own kernels, and
predicts 32 items at once.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from tests.performance.part import Asked, Figure, Missing, apart, described, peak_of
from wtsbench.spec.training import Training
from wtsbench.strategies.base import Labelled
from wtsbench.strategies.naive import Naive
from wtsbench.trial import train
from wtsbench.trial.batching import pad, prediction_batches
from wtsbench.trial.classifier import Classifier
from wtsbench.trial.device import Device
from wtsbench.trial.models import load_classifier, quiet


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A kind of model and its size."""

    kind: str
    sizes: dict[str, int]
    items: int
    """As many as keep a core busy for some seconds."""
    repeats: int


_LLAMA = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_key_value_heads": 4}
MODELS = {
    "nano-3": Shape(kind="llama", sizes={**_LLAMA, "num_attention_heads": 4}, items=640, repeats=3),
    "minilm": Shape(
        kind="bert",
        sizes={"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12},
        items=96,
        repeats=3,
    ),
    "gpt2": Shape(kind="gpt2", sizes={"n_embd": 768, "n_layer": 12, "n_head": 12}, items=32, repeats=1),
}
"""The largest embedded model, all-MiniLM-L6-v2, and the smallest GPT-2, with random weights and a small vocabulary."""
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


def measure_compute(asked: Asked) -> Iterator[Figure | Missing]:
    """The `compute` part: every shape at the lengths of every task, on the CPU and on a GPU if torch sees one."""
    models = asked.pick(quick=["nano-3", "minilm"], usual=[*MODELS], large=[*MODELS])
    tasks = asked.pick(quick=["safety"], usual=[*TASKS], large=[*TASKS])
    for name in models:
        shape = MODELS[name]
        torch.manual_seed(0)
        config = AutoConfig.for_model(
            shape.kind, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, pad_token_id=0, **shape.sizes
        )
        with quiet():
            AutoModel.from_config(config).save_pretrained(asked.scratch / name)  # type: ignore[no-untyped-call]
        repeats = asked.pick(quick=1, usual=shape.repeats, large=3)
        items = asked.pick(quick=shape.items // 2, usual=shape.items, large=10 * shape.items)
        for task in tasks:
            yield from _figures(f"{name}, {task}", apart(measure, asked.scratch / name, task, items, repeats, "cpu"))
            if torch.cuda.is_available():
                found = apart(measure, asked.scratch / name, task, items, repeats, "cuda")
                yield from _figures(f"{name}, {task}, GPU", found)
    if not torch.cuda.is_available():
        yield Missing(name="GPU", why="torch sees none")


def _figures(name: str, found: dict[str, float]) -> Iterator[Figure]:
    memory = {"memory_mib": found["memory_mib"], "released_memory_mib": found["memory_after_released_mib"]}
    for what, said in (("train", "training"), ("predict", "predicting")):
        gflops = {"gflops": found[f"{what}_share"] * found["matmul_gflops"], "matmul_gflops": found["matmul_gflops"]}
        yield Figure(
            name=f"{name}: {said}",
            what="useful FLOP/s over a matrix product's",
            value=found[f"{what}_share"],
            better="higher",
            details=described(gflops | (memory if what == "train" else {})),
        )
        yield Figure(
            name=f"{name}: {said}, against scripts",
            what="seconds of a loop of released scripts over a trial's",
            value=found[f"{what}_ratio"],
            better="higher",
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
    batch, place = work.training.batch_size, work.device.torch_device

    def fit() -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=work.training.learning_rate)
        order = np.random.default_rng(0).permutation(len(work.rows))
        model.train()
        for at in range(0, len(order), batch):
            chosen = order[at : at + batch]
            ids, mask = pad([work.rows[i] for i in chosen], 0)
            with work.device.autocast():
                logits = model(input_ids=ids.to(place), attention_mask=mask.to(place)).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), targets[torch.from_numpy(chosen)].to(place))
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            torch.nn.utils.clip_grad_norm_(model.parameters(), work.training.max_gradient_norm)
            optimizer.step()
            optimizer.zero_grad()
            float(loss.detach())

    def predict() -> None:
        model.eval()
        with torch.no_grad(), work.device.autocast():
            for at in range(0, len(work.rows), RELEASED_BATCH):
                ids, mask = pad(work.rows[at : at + RELEASED_BATCH], 0)
                model(input_ids=ids.to(place), attention_mask=mask.to(place)).logits.float().softmax(dim=-1).cpu()

    return fit, predict


def measure(folder: Path, task: str, size: int, repeats: int, place: Literal["cpu", "cuda"]) -> dict[str, float]:
    """Every figure of one model and task, to be taken in a process of its own: peak memory never falls."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    dtype = torch.bfloat16 if place == "cuda" else torch.float32
    work = work_of(folder, task, size, Device(torch_device=torch.device(place), dtype=dtype, threads=1))
    classifier = work.classifier()
    with quiet():
        plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, pad_token_id=0)
    body = sum(p.numel() for name, p in plain.named_parameters() if p.dim() > 1 and "emb" not in name)
    body -= sum(p.numel() for name, p in plain.named_parameters() if name.endswith(("wte.weight", "wpe.weight")))
    width = int(plain.config.hidden_size)
    loops = {"ours": ours(work, classifier), "released": released(work, copy.deepcopy(plain).to(place))}
    seconds: dict[str, list[float]] = {f"{name} {what}": [] for name in loops for what in ("train", "predict")}
    seconds["matmul"] = []
    shapes = (work.tokens * work.training.batch_size // size, width), (width, 4 * width)
    left, right = (torch.randn(*shape, dtype=dtype, device=place) for shape in shapes)
    peak: dict[str, float] = {}
    for _ in range(repeats):
        for name, loop in loops.items():
            for what, act in zip(("train", "predict"), loop, strict=True):
                seconds[f"{name} {what}"].append(_seconds(act, place))
            peak.setdefault(name, peak_of("self"))
        seconds["matmul"].append(_seconds(lambda: [left @ right for _ in range(50)], place))
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


def _seconds(act: Callable[[], Any], place: str) -> float:
    clock = time.monotonic if place == "cuda" else time.process_time
    begun = clock()
    act()
    if place == "cuda":
        torch.cuda.synchronize()
    return clock() - begun
