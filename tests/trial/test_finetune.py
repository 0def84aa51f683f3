"""What of a model trains: all of it, adapters and the head, or the head alone; and in what memory and precision."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel, AutoModelForSequenceClassification

from tests.trial.devices import DEVICES, device_of
from tests.trial.folders import WEAK_PARENT, made_items, noisy_labels, predictions_of, result_of, write_folder
from tests.trial.processes import environment
from tests.trial.tiny import SHAPES, write_tiny_model
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import Training
from wtsbench.spec.trial import Role
from wtsbench.strategies import registry
from wtsbench.strategies.base import Labelled
from wtsbench.strategies.naive import Naive
from wtsbench.trial import train
from wtsbench.trial.batching import prediction_batches, training_batches
from wtsbench.trial.classifier import Classifier, head_parameters
from wtsbench.trial.device import Device, derive
from wtsbench.trial.folder import Progress, TrialFolder
from wtsbench.trial.models import load_classifier
from wtsbench.trial.run import run_folder
from wtsbench.trial.student import TrialModel
from wtsbench.trial.train import rate_at

ITEMS = made_items(120)
QUICK: dict[str, Any] = {"epochs": 2.0, "learning_rate": 3e-3, "batch_size": 8}
CPU = Device(torch_device=torch.device("cpu"), dtype=torch.float32, threads=1)
LABELLED = Labelled(
    item_ids=tuple(item for item, _, _ in ITEMS),
    texts=tuple(text for _, text, _ in ITEMS),
    targets=np.eye(2)[[label for _, _, label in ITEMS]],
    weights=np.ones(len(ITEMS)),
)
NAIVE = Naive(Naive.Parameters())


def model_of(folder: Path, model: Path, device: Device = CPU, **more: Any) -> TrialModel:
    """A trial's model, outside a trial."""
    job = write_folder(folder, ITEMS, model, **{**QUICK, **more})
    trial = TrialFolder(folder)
    return TrialModel(trial.model, job.spec, 2, device, Progress(trial.scratch / "progress.json"))


def weights_of(model: TrialModel) -> dict[str, torch.Tensor]:
    """A copy of every weight by name."""
    return {name: parameter.detach().clone() for name, parameter in model.classifier.model.named_parameters()}


def pretrained(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of the body as the folder has them."""
    return dict(AutoModel.from_pretrained(folder, dtype=torch.float32).named_parameters())


def loaded(folder: Path, *, device: Device = CPU, seed: int = 3, **training: Any) -> Classifier:
    """A classifier with a fresh head."""
    return load_classifier(
        folder, classes=2, pad_id=0, seed=seed, round_=0, device=device, training=Training(**training)
    )


def padded(model_type: str) -> str | None:
    """Encoders come with a padding token."""
    return "<pad>" if model_type in ("bert", "roberta") else None


@pytest.mark.parametrize(("steps", "warmup", "rising"), [(70, 0.1, 7), (100, 0.1, 10), (101, 0.1, 11), (10, 0.0, 0)])
def test_the_rate_rises_for_the_share_of_steps_that_is_asked_for(steps: int, warmup: float, rising: int) -> None:
    """It reaches its top at that step, whatever the share times the steps is rounded to, and falls to 0 from there."""
    rates = [rate_at(step, steps, warmup) for step in range(steps)]
    assert rates[:rising] == pytest.approx([(step + 1) / rising for step in range(rising)])
    assert rates[rising:] == pytest.approx([(steps - step) / (steps - rising) for step in range(rising, steps)])


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "roberta"])
def test_lora_trains_adapters_and_head(tmp_path: Path, model_type: str) -> None:
    """Exactly the adapters of all linear layers of the body and the head move; the body stays bit for bit."""
    folder = write_tiny_model(tmp_path / "m", model_type, pad_token=padded(model_type))
    model = model_of(tmp_path / "t", folder, finetune="lora", lora_rank=3)
    before = weights_of(model)
    model.fit(LABELLED, NAIVE)
    after = weights_of(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    head = set(head_parameters(model.classifier.model))
    adapters = {name for name in before if "lora_" in name}
    assert moved == head | adapters
    # rank x (inputs + outputs) of every matrix of the body but the embeddings, counted from the pretrained weights
    body = pretrained(folder)
    others = ("embed", "wte", "wpe", "pooler")  # RoBERTa's classifier goes without the pooler
    matrices = [p for name, p in body.items() if p.dim() == 2 and not any(other in name for other in others)]
    counted = sum(3 * sum(matrix.shape) for matrix in matrices) + sum(before[name].numel() for name in head)
    assert model.trained_parameters == counted
    prefix = f"{model.classifier.model.base_model_prefix}."
    for name, weight in body.items():
        if "pooler" in name:
            continue
        found = after.get(prefix + name)
        if found is None:  # wrapped by an adapter
            stem, _, kind = name.rpartition(".")
            found = after[f"{prefix}{stem}.base_layer.{kind}"]
        assert torch.equal(found, weight), name


def test_lora_learns_and_repeats(tmp_path: Path, tiny_llama: Path) -> None:
    """A trial with adapters learns what one word says, and the same seed gives the same bits."""
    items = made_items(300)
    found = []
    for name in ("a", "b"):
        job = write_folder(
            tmp_path / name, items, tiny_llama, finetune="lora", epochs=10.0, learning_rate=1e-2, batch_size=8
        )
        assert run_folder(tmp_path / name) == 0
        found.append(predictions_of(tmp_path / name, job))
    measured = result_of(tmp_path / "a")["measurements"]
    assert measured["validation_accuracy"] > 0.9
    assert measured["trained_parameters"] < measured["parameters"] / 2
    assert found[0] == found[1]


def test_lora_of_chosen_layers(tmp_path: Path, tiny_llama: Path) -> None:
    """`lora_targets` names layers by the end of their names; a name that no layer has fails the trial."""
    model = model_of(tmp_path / "t", tiny_llama, finetune="lora", lora_targets=("q_proj", "v_proj"))
    touched = {name.split(".lora_")[0].rpartition(".")[2] for name in weights_of(model) if "lora_" in name}
    assert touched == {"q_proj", "v_proj"}
    write_folder(tmp_path / "w", ITEMS, tiny_llama, finetune="lora", lora_targets=("query",), **QUICK)
    assert run_folder(tmp_path / "w") == 1
    message = result_of(tmp_path / "w")["failure"]["message"]
    assert "no linear layer query" in message
    assert "q_proj" in message


@pytest.mark.parametrize("model_type", ["llama", "roberta"])
def test_a_probe_is_its_head_trained_on_frozen_activations(tmp_path: Path, model_type: str) -> None:
    """The probe's predictions are those of a head trained by hand on activations computed text by text, unpadded."""
    folder = write_tiny_model(tmp_path / "m", model_type, pad_token=padded(model_type))
    settings = {**QUICK, "finetune": "linear_probe", "weight_decay": 0.0, "warmup": 0.0}
    model = model_of(tmp_path / "t", folder, **settings)
    reference = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for name in head_parameters(reference):
        reference.get_parameter(name).data.copy_(model.classifier.model.get_parameter(name))
    for part in reference.modules():
        if isinstance(part, torch.nn.Dropout):  # the head's own is on in training, and draws from another stream here
            part.p = 0.0
    for part in model.classifier.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    model.fit(LABELLED, NAIVE)
    found = model.predict(LABELLED.texts)

    encoded = model.tokenizer.encode(LABELLED.texts)
    with torch.no_grad():
        states = [reference.base_model(torch.tensor([row]))[0] for row in encoded]

    def logits(rows: Any) -> torch.Tensor:
        if model_type == "llama":
            return torch.cat([reference.score(states[row][:, -1]) for row in rows])
        return torch.cat([reference.classifier(states[row]) for row in rows])

    parameters = [reference.get_parameter(name) for name in head_parameters(reference)]
    optimizer = torch.optim.AdamW(parameters, lr=1.0, weight_decay=0.0)
    order = np.random.default_rng(derive(derive(0, "weak_train"), "order", 0))
    lengths = [len(row) for row in encoded]
    batches = [rows for _ in range(2) for rows in training_batches(lengths, 8, order)]
    for step, rows in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 3e-3 * rate_at(step, len(batches), 0.0)
        optimizer.zero_grad()
        truth = torch.tensor([ITEMS[row][2] for row in rows])
        torch.nn.functional.cross_entropy(logits(rows), truth).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    with torch.no_grad():
        expected = logits(range(len(encoded))).softmax(-1).numpy()
    assert np.abs(found - expected).max() < 1e-4
    assert math.ceil(len(ITEMS) / 8) * 2 == len(batches) == model.curve.done


@pytest.mark.parametrize("model_type", sorted(SHAPES))
def test_a_probe_leaves_the_body_alone(tmp_path: Path, model_type: str) -> None:
    """A probe learns on every architecture with the body unchanged bit for bit, asked once for each text."""
    folder = write_tiny_model(tmp_path / "m", model_type, pad_token=padded(model_type))
    model = model_of(tmp_path / "t", folder, finetune="linear_probe", epochs=6.0)
    before, head = weights_of(model), set(head_parameters(model.classifier.model))
    calls: list[int] = []
    model.classifier.model.base_model.register_forward_hook(lambda _module, _in, output: calls.append(len(output[0])))
    model.fit(LABELLED, NAIVE)
    assert np.mean(model.curve.losses[-15:]) < np.mean(model.curve.losses[:15])  # an epoch each
    model.predict(LABELLED.texts)
    model.reset()
    model.fit(LABELLED, NAIVE)
    once = len(ITEMS) + (4 if model_type in ("bert", "roberta") else 0)  # encoders are checked on two texts, twice
    assert sum(calls) == once
    after = weights_of(model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == head
    assert model.trained_parameters == sum(before[name].numel() for name in head)


def test_a_probe_meets_a_new_text(tmp_path: Path, tiny_llama: Path) -> None:
    """A text that was not remembered is, when it is met, and can be trained on though it was met in a prediction."""
    model = model_of(tmp_path / "t", tiny_llama, finetune="linear_probe")
    encoded = model.tokenizer.encode(LABELLED.texts[:9])
    lengths = [len(row) for row in encoded]
    found = train.predict(
        model.classifier,
        encoded,
        prediction_batches(lengths, 4),
        pad_id=model.tokenizer.pad_id,
        device=CPU,
        advance=lambda _: None,
    )
    assert np.abs(found - model.predict(LABELLED.texts[:9])).max() < 1e-6
    model.fit(LABELLED, NAIVE)


def test_a_probe_is_much_faster(tmp_path: Path, tiny_llama: Path) -> None:
    """Training the head on known activations takes less time than training the model, by far on real ones."""
    seconds = []
    for finetune in ("full", "linear_probe"):
        model = model_of(tmp_path / finetune, tiny_llama, finetune=finetune, epochs=8.0)
        model.fit(LABELLED, NAIVE)
        seconds.append(model.seconds["train"])
    assert seconds[1] < seconds[0]


def test_a_reset_probe_starts_anew(tmp_path: Path, tiny_llama: Path) -> None:
    """After a reset the head is another one, as with full training, and the same one every time."""
    heads = []
    for finetune in ("full", "linear_probe", "lora"):
        model = model_of(tmp_path / finetune, tiny_llama, finetune=finetune)
        first = model.classifier.model.score.weight.detach().clone()
        model.reset()
        heads.append(model.classifier.model.score.weight.detach().clone())
        assert not torch.equal(first, heads[-1])
    assert torch.equal(heads[0], heads[1])
    assert torch.equal(heads[0], heads[2])


def test_the_strategy_decides_over_the_grid(tmp_path: Path, tiny_llama: Path) -> None:
    """`finetune` of the strategy is taken before that of the training settings; null leaves it to them."""
    trained = {}
    for name, strategy, grid in (
        ("probe", "linear_probe", "full"),
        ("lora", "lora", "linear_probe"),
        ("full", "full", "lora"),
        ("grid", None, "linear_probe"),
    ):
        call = registry.full_call(registry.resolve(StrategyCall(name="logconf", parameters={"finetune": strategy})))
        parents = {WEAK_PARENT: noisy_labels(ITEMS, wrong=0.2)}
        folder = tmp_path / name
        write_folder(
            folder, ITEMS, tiny_llama, role=Role.STUDENT, strategy=call, parents=parents, finetune=grid, **QUICK
        )
        assert run_folder(folder) == 0, result_of(folder)["failure"]
        trained[name] = result_of(folder)["measurements"]["trained_parameters"]
    assert trained["probe"] == trained["grid"] == 64
    assert trained["probe"] < trained["lora"] < trained["full"]


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("finetune", ["full", "lora"])
def test_checkpointing_changes_nothing(tmp_path: Path, kind: str, finetune: str) -> None:
    """Activations computed again, dropout included, train the same weights; with adapters too."""
    if finetune == "lora":
        pytest.importorskip("peft")
    folder = write_tiny_model(tmp_path / "m", "gpt2")
    found = []
    for on in (False, True):
        model = model_of(tmp_path / str(on), folder, device_of(kind), finetune=finetune, gradient_checkpointing=on)
        assert model.classifier.model.is_activation_checkpointing is on
        model.fit(LABELLED, NAIVE)
        found.append(weights_of(model))
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, rtol=1e-4, atol=1e-6)


def test_checkpointing_that_an_architecture_lacks(tmp_path: Path) -> None:
    """A setting the architecture cannot serve fails the trial with its name."""
    folder = write_tiny_model(tmp_path / "m", "openai-gpt")
    write_folder(tmp_path / "t", ITEMS, folder, gradient_checkpointing=True, **QUICK)
    assert run_folder(tmp_path / "t") == 1
    assert "gradient_checkpointing" in result_of(tmp_path / "t")["failure"]["message"]


@pytest.mark.parametrize("model_type", ["llama", "bert", "roberta"])
def test_the_head_computes_in_float32(tmp_path: Path, model_type: str) -> None:
    """Under bfloat16 the body is in bfloat16, and the logits have all the digits of a float32 head on its states."""
    half = Device(torch_device=torch.device("cpu"), dtype=torch.bfloat16, threads=1)
    folder = write_tiny_model(tmp_path / "m", model_type, pad_token=padded(model_type))
    model = loaded(folder, device=half).eval()
    ids = torch.randint(4, 100, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    with torch.no_grad(), half.autocast():
        logits = model(ids, mask)
        states = model.model.base_model(ids, mask)
    assert logits.dtype is torch.float32
    with torch.no_grad():
        assert not torch.equal(states[0].float(), model.model.base_model(ids, mask)[0])
        if model_type == "llama":
            expected = model.model.score(states[0][:, -1].float())
        elif model_type == "bert":
            expected = model.model.classifier(states[1].float())
        else:
            expected = model.model.classifier(states[0].float())
    assert torch.equal(logits, expected)
    assert not torch.equal(logits, logits.bfloat16().float())


class Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has few types here
    """Counts how often each weight is cast to bfloat16."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = {parameter.data_ptr(): name for name, parameter in model.named_parameters()}
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") is torch.bfloat16:
            self.counts[self._names.get(args[0].data_ptr(), "no weight")] += 1
        return func(*args, **kwargs)


def test_weights_are_cast_once_for_all_batches(tmp_path: Path, tiny_llama: Path) -> None:
    """In half precision, predicting casts each weight once, and not for every batch of items."""
    half = Device(torch_device=torch.device("cpu"), dtype=torch.bfloat16, threads=1)
    model = model_of(tmp_path, tiny_llama, half, eval_batch_size=8)
    with Casts(model.classifier) as casts:
        model.predict(LABELLED.texts)
    weights = [count for name, count in casts.counts.items() if name.endswith("_proj.weight")]
    assert weights == [1] * 14  # of two layers
    assert casts.counts["no weight"] > 14


@pytest.mark.parametrize("finetune", ["lora", "linear_probe"])
def test_frozen_matrices_are_held_in_half_precision(tmp_path: Path, finetune: str) -> None:
    """What does not train takes half of the memory, while embeddings, norms and all that trains keep float32."""
    half = Device(torch_device=torch.device("cpu"), dtype=torch.bfloat16, threads=1)
    folder = write_tiny_model(tmp_path / "m", "gpt2")
    model = model_of(tmp_path / "t", folder, half, finetune=finetune)
    kinds = {name: parameter.dtype for name, parameter in model.classifier.model.named_parameters()}
    held = {name for name, dtype in kinds.items() if dtype is torch.bfloat16}
    assert held == {name for name in kinds if ".c_" in name and name.endswith("weight") and "lora" not in name}
    assert all(kinds[name] is torch.float32 for name in kinds if "wte" in name or "ln_" in name or "score" in name)


@pytest.mark.parametrize("model_type", ["llama", "bert", "roberta"])
def test_the_whole_head_is_drawn_from_the_seed(tmp_path: Path, model_type: str) -> None:
    """Every matrix of the head differs between seeds and is equal for equal ones, whatever head the checkpoint has."""
    folder = write_tiny_model(tmp_path / "m", model_type, pad_token=padded(model_type))
    first = loaded(folder)
    brought = tmp_path / "brought"
    with torch.no_grad():
        for name in head_parameters(first.model):
            first.model.get_parameter(name).fill_(9.0)
    first.model.save_pretrained(brought)
    again, other = loaded(brought), loaded(folder, seed=4)
    fresh = loaded(folder)
    names = head_parameters(fresh.model)
    assert ("classifier.dense.weight" in names) == (model_type == "roberta")
    for name in names:
        weight = fresh.model.get_parameter(name)
        assert torch.equal(again.model.get_parameter(name), weight)
        assert (
            (weight == 0).all() if name.endswith("bias") else not torch.equal(other.model.get_parameter(name), weight)
        )
    bodies = [dict(model.model.base_model.named_parameters()) for model in (fresh, other)]
    assert all(torch.equal(weight, bodies[1][name]) for name, weight in bodies[0].items() if "pooler" not in name)


def test_a_model_on_another_split_has_another_head(tmp_path: Path, tiny_llama: Path) -> None:
    """A model that supervises itself shares no random stream with its student; a ceiling and its student do."""
    heads = {}
    for role in (Role.WEAK, Role.CEILING):
        heads[role] = model_of(tmp_path / role.value, tiny_llama, role=role).classifier.model.score.weight
    call = registry.full_call(registry.resolve(StrategyCall(name="naive")))
    parents = {WEAK_PARENT: noisy_labels(ITEMS, wrong=0.2)}
    student = model_of(tmp_path / "s", tiny_llama, role=Role.STUDENT, strategy=call, parents=parents)
    assert torch.equal(student.classifier.model.score.weight, heads[Role.CEILING])
    assert not torch.equal(heads[Role.WEAK], heads[Role.CEILING])


def test_peft_is_imported_only_when_asked(tmp_path: Path, tiny_llama: Path) -> None:
    """A trial without adapters does not pay for the import."""
    write_folder(tmp_path, ITEMS, tiny_llama, **QUICK)
    code = (
        "import sys; from pathlib import Path; from wtsbench.trial.run import run_folder; "
        f"assert run_folder(Path({str(tmp_path)!r})) == 0; print('peft' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines()[-1:] == ["False"], ended.stderr
