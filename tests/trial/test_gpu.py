"""Whole trials on a GPU, held against the same on the CPU; what a CPU can show as well runs on both.

    pytest -m gpu

runs these and the other tests that are marked so, on a machine that has torch, transformers, pyarrow, pydantic, rfc8785
and pytest (and peft, for adapters), with no network, engine or cluster.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trial.devices import DEVICES
from tests.trial.folders import WEAK_PARENT, accuracy_of, made_items, predictions_of, result_of, write_folder
from tests.trial.processes import SECONDS, environment
from tests.trial.tiny import write_tiny_model
from tests.trial.writing import generations, made_prompts, write_generative
from wtsbench.models.memory import estimate, shape_of
from wtsbench.spec.failure import FailureClass
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import Role, Split, TrialJob
from wtsbench.strategies import registry
from wtsbench.trial.run import run_folder

# Drivers and versions of torch warn of what is not ours.
pytestmark = pytest.mark.filterwarnings("default")

ITEMS, PROMPTS = made_items(240), made_prompts()
QUICK: dict[str, Any] = {"epochs": 1.0, "learning_rate": 1e-3, "batch_size": 8}
"""Little enough that probabilities stay well inside of 0 and 1, where differences show."""
Predictions = Mapping[tuple[str, str], list[float]]


CLOSE = {"float32": 1e-3, "bfloat16": 0.01, "float16": 0.02}
"""How far probabilities may lie on average from those of float32 on the CPU after a whole training.

In float16 a first step that overflows is left out, and the next one taken with a smaller scale.
"""
ELSEWHERE = [
    ("cpu", "bfloat16"),
    ("cpu", "float16"),
    *(pytest.param("cuda", precision, marks=pytest.mark.gpu) for precision in CLOSE),
]
"""Devices and precisions beside float32 on the CPU."""


def gpus(kind: str) -> float:
    """What a job on this device asks for."""
    return float(kind == "cuda")


def run_here(folder: Path) -> None:
    """Run a trial in this process; it must end well."""
    assert run_folder(folder) == 0, result_of(folder)["failure"]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a trial in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "wtsbench.trial", str(folder)], env=environment())


def a_grid(folder: Path, model: Path, kind: str, precision: str) -> dict[str, tuple[Path, TrialJob]]:
    """A weak supervisor, two students that learn from it, and the ceiling: each one's folder, once it has run."""
    common: dict[str, Any] = {**QUICK, "gpus": gpus(kind), "precision": precision}
    ran: dict[str, tuple[Path, TrialJob]] = {}

    def run(name: str, **more: Any) -> None:
        ran[name] = folder / name, write_folder(folder / name, ITEMS, model, **common, **more)
        run_here(folder / name)

    run("weak")
    said = {item: values for (split, item), values in predictions_of(*ran["weak"]).items() if split != "test"}
    parents = {WEAK_PARENT: {item: said.get(item, [0.5, 0.5]) for item, _, _ in ITEMS}}
    for name in ("naive", "logconf"):
        call = registry.full_call(registry.resolve(StrategyCall(name=name)))
        run(name, role=Role.STUDENT, strategy=call, parents=parents)
    run("ceiling", role=Role.CEILING)
    return ran


@pytest.fixture(scope="module")
def on_the_cpu(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> dict[str, tuple[Path, TrialJob]]:
    """The grid in float32 on the CPU."""
    return a_grid(tmp_path_factory.mktemp("cpu"), tiny_llama, "cpu", "float32")


@pytest.mark.parametrize(("kind", "precision"), ELSEWHERE)
def test_a_grid_says_what_it_says_on_the_cpu(
    tmp_path: Path, tiny_llama: Path, on_the_cpu: dict[str, tuple[Path, TrialJob]], kind: str, precision: str
) -> None:
    """Every trial's probabilities and accuracy are those of float32 on the CPU, as closely as the precision allows."""
    for name, (folder, job) in a_grid(tmp_path, tiny_llama, kind, precision).items():
        measured = result_of(folder)["measurements"]
        assert (measured["device"], measured["dtype"]) == (kind, precision)
        there = predictions_of(*on_the_cpu[name])
        here = predictions_of(folder, job)
        assert here.keys() == there.keys()
        assert np.mean([np.abs(np.subtract(here[key], there[key])) for key in there]) < CLOSE[precision], name
        scores = [accuracy_of(*where, ITEMS, Split.TEST) for where in (on_the_cpu[name], (folder, job))]
        assert scores[1] == pytest.approx(scores[0], abs=0.05), name


@pytest.mark.parametrize(("kind", "precision"), ELSEWHERE)
def test_texts_are_those_of_the_cpu(tmp_path: Path, tiny_llama: Path, kind: str, precision: str) -> None:
    """Equal random numbers and nearly equal weights write nearly the same texts, about as likely ones in any case."""
    texts, losses, likely = [], [], []
    for where, how in (("cpu", "float32"), (kind, precision)):
        folder = tmp_path / where / how
        job = write_generative(folder, PROMPTS, tiny_llama, reference=tiny_llama, gpus=gpus(where), precision=how)
        run_here(folder)
        rows = generations(folder, job)
        texts.append({(row["split"], row["item_id"], row["sample"]): row["text"] for row in rows})
        losses.append(result_of(folder)["measurements"]["final_loss"])
        likely.append(
            sum(row["reference_nll"] or 0 for row in rows) / sum(row["reference_tokens"] or 0 for row in rows)
        )
    same = np.mean([texts[0][key] == text for key, text in texts[1].items()])
    assert same > (0.98 if precision == "float32" else 0.3)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3 if precision == "float32" else 0.05)
    assert likely[1] == pytest.approx(likely[0], rel=0.02 if precision == "float32" else 0.1)


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_trial_repeats_bit_for_bit(tmp_path: Path, kind: str, checkpointing: bool) -> None:
    """With dropout, in pieces, and texts long enough for attention to be split up: twice the same bits, both forms."""
    wide: dict[str, Any] = {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 512} if kind == "cuda" else {}
    model = write_tiny_model(tmp_path / "m", "gpt2", **wide)
    long = [(item, " ".join([text] * (20 if wide else 2)), label) for item, text, label in ITEMS[:80]]
    how: dict[str, Any] = {"gpus": gpus(kind), "max_length": 512, "gradient_checkpointing": checkpointing}
    said, texts = [], []
    for turn in ("a", "b"):
        folder = tmp_path / turn
        job = write_folder(folder / "classes", long, model, **QUICK, **how, micro_batch_size=5)
        run_here(folder / "classes")
        said.append(predictions_of(folder / "classes", job))
        job = write_generative(folder / "texts", PROMPTS, model, **how)
        run_here(folder / "texts")
        texts.append([(row["item_id"], row["sample"], row["text"]) for row in generations(folder / "texts", job)])
    assert said[0] == said[1]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("kind", DEVICES)
def test_adapters_train_as_on_the_cpu(tmp_path: Path, tiny_llama: Path, kind: str) -> None:
    """A classifier with adapters in half precision says what it says in float32 on the CPU, nearly."""
    pytest.importorskip("peft")
    said = []
    for where, precision in (("cpu", "float32"), (kind, "bfloat16")):
        folder = tmp_path / precision
        job = write_folder(folder, ITEMS, tiny_llama, **QUICK, gpus=gpus(where), finetune="lora", precision=precision)
        run_here(folder)
        measured = result_of(folder)["measurements"]
        assert measured["trained_parameters"] < measured["parameters"] / 2
        said.append(predictions_of(folder, job))
    assert np.mean([np.abs(np.subtract(said[0][key], said[1][key])) for key in said[0]]) < CLOSE["bfloat16"]


@pytest.mark.parametrize("kind", [pytest.param("cpu", marks=pytest.mark.slow), DEVICES[1]])
def test_trials_side_by_side_share_a_gpu(tmp_path: Path, tiny_llama: Path, kind: str) -> None:
    """Two trials that each ask for half of a GPU, at once in processes of their own, give the bits of one alone."""
    said = []
    alone = write_folder(tmp_path / "alone", ITEMS, tiny_llama, **QUICK, gpus=gpus(kind) / 2)
    run_here(tmp_path / "alone")
    said.append(predictions_of(tmp_path / "alone", alone))
    pair = [tmp_path / "one", tmp_path / "other"]
    jobs = [write_folder(folder, ITEMS, tiny_llama, **QUICK, gpus=gpus(kind) / 2) for folder in pair]
    processes = [start(folder) for folder in pair]
    assert [process.wait(SECONDS) for process in processes] == [0, 0]
    said += [predictions_of(folder, job) for folder, job in zip(pair, jobs, strict=True)]
    assert said[1] == said[0]
    assert said[2] == said[0]


@pytest.mark.gpu
def test_a_trial_that_needs_too_much_memory_says_so_and_fits_in_pieces(tmp_path: Path) -> None:
    """Past its share of the GPU a trial fails as out of memory; with smaller pieces of its batches it does not."""
    shape: dict[str, Any] = {"n_embd": 256, "n_layer": 6, "n_head": 4, "n_positions": 512}
    model = write_tiny_model(tmp_path / "m", "gpt2", **shape)
    long = [(item, " ".join([text] * 40), label) for item, text, label in ITEMS]
    settings: dict[str, Any] = {"epochs": 1.0, "batch_size": 64, "eval_batch_size": 4, "max_length": 512}
    share = 400 * 2**20 / torch.cuda.get_device_properties(0).total_memory
    ended = []
    for name, size in (("whole", None), ("pieces", 2)):
        write_folder(tmp_path / name, long, model, gpus=share, micro_batch_size=size, **settings)
        ended.append(start(tmp_path / name).wait(SECONDS))
    assert ended == [1, 0]
    assert result_of(tmp_path / "whole")["failure"]["failure_class"] == FailureClass.OUT_OF_MEMORY.value


@pytest.mark.gpu
@pytest.mark.parametrize(
    "more",
    [{}, {"gradient_checkpointing": True}, {"micro_batch_size": 4}, {"finetune": "lora"}, {"finetune": "linear_probe"}],
    ids=lambda more: next(iter(more), "whole"),
)
def test_the_memory_model_foretells_the_peak(tmp_path: Path, more: dict[str, Any]) -> None:
    """What a plan warns with is within half and twice of the GPU memory that a trial takes at most."""
    if more.get("finetune") == "lora":
        pytest.importorskip("peft")
    shape: dict[str, Any] = {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 256}
    model = write_tiny_model(tmp_path / "m", "gpt2", **shape)
    long = [(item, " ".join([text] * 40), label) for item, text, label in ITEMS]
    settings: dict[str, Any] = {"epochs": 1.0, "batch_size": 32, "eval_batch_size": 32, "max_length": 256, **more}
    job = write_folder(tmp_path / "t", long, model, gpus=1, precision="bfloat16", **settings)
    assert start(tmp_path / "t").wait(SECONDS) == 0
    known = shape_of(job.spec.model)
    assert known is not None
    foretold = estimate(known, job.spec.training, job.spec.finetune, half=True)
    peak = result_of(tmp_path / "t")["measurements"]["peak_memory_bytes"]
    assert 0.5 < peak / foretold < 2
