"""Less work for the same results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.activations import NewGELUActivation

from tests.trial.tiny import SHAPES
from wtsbench.trial import train
from wtsbench.trial.batching import pad, prediction_batches
from wtsbench.trial.classifier import Classifier
from wtsbench.trial.device import Device
from wtsbench.trial.shortcuts import OneToken, ShortDropout, use_fast_kernels

CPU = Device(torch_device=torch.device("cpu"), dtype=torch.float32, threads=1)
LLAMA, BERT = SHAPES["llama"], SHAPES["bert"]
KINDS = {**SHAPES, "qwen2": LLAMA, "mistral": LLAMA, "gpt_neox": BERT}
ROWS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14] * 9]


def model_of(kind: str) -> Any:
    """A tiny model of this architecture with random weights, in evaluation mode."""
    config = AutoConfig.for_model(
        kind, vocab_size=300, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.2, **KINDS[kind]
    )
    torch.manual_seed(1)
    return AutoModelForSequenceClassification.from_config(config).eval()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_last_layer_for_one_token_says_what_the_whole_one_says(kind: str) -> None:
    """Logits and gradients are those of the whole model with its own kernels, and less is computed."""
    whole, short = Classifier(model_of(kind)), model_of(kind)
    use_fast_kernels(short, CPU)
    cut = Classifier(short, one_token=OneToken(short))
    ids, mask = pad(ROWS, 0)
    seen = []
    for classifier in (whole, cut):
        with FlopCounterMode(display=False) as counter:
            logits = classifier(ids, mask)
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 0, 1])).backward()  # type: ignore[no-untyped-call]
        seen.append((logits.detach(), counter.get_total_flops()))
    torch.testing.assert_close(seen[1][0], seen[0][0], rtol=1e-5, atol=1e-6)
    assert seen[1][1] < seen[0][1]
    for (name, one), (_, other) in zip(whole.named_parameters(), cut.named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("rows", [ROWS, [[5, 6, 7], [8, 9, 10]]], ids=["padded", "unpadded"])
def test_masks_made_unasked_say_what_transformers_masks_say(kind: str, rows: list[list[int]]) -> None:
    """The masks that GPUs get, whatever the padding, change no logit but by rounding, padded or not."""
    model = model_of(kind)
    classifier = Classifier(model, one_token=OneToken(model))
    ids, mask = pad(rows, 0)
    with torch.no_grad():
        asked = classifier(ids, mask)
        use_fast_kernels(model, Device(torch_device=torch.device("meta"), dtype=torch.float32, threads=1))
        assert model.config._attn_implementation == ("eager" if kind == "openai-gpt" else "sdpa_masked")
        torch.testing.assert_close(classifier(ids, mask), asked, rtol=1e-5, atol=1e-5)


def test_other_users_of_the_body_get_all_tokens() -> None:
    """Outside of the classifier, as where a body reads texts as a language model, nothing is cut."""
    model = model_of("llama")
    ids, mask = pad(ROWS, 0)
    with torch.no_grad():
        before = model.base_model(input_ids=ids, attention_mask=mask)[0]
        Classifier(model, one_token=OneToken(model))(ids, mask)
        assert torch.equal(model.base_model(input_ids=ids, attention_mask=mask)[0], before)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_batches_decide_no_prediction(kind: str) -> None:
    """One item at a time, all at once, or as many as a number of tokens: probabilities are within 1e-4."""
    model = model_of(kind)
    use_fast_kernels(model, CPU)
    classifier = Classifier(model, one_token=OneToken(model))
    random = np.random.default_rng(0)
    rows = [random.integers(5, 300, size=size).tolist() for size in random.integers(1, 46, size=16)]
    lengths = [len(row) for row in rows]

    def found() -> Iterator[Any]:
        for batches in (
            prediction_batches(lengths, 1),
            prediction_batches(lengths, 16),
            prediction_batches(lengths, 16, 100),
        ):
            yield train.predict(classifier, rows, batches, pad_id=0, device=CPU, advance=lambda _: None)

    first, *others = found()
    for other in others:
        assert np.abs(other - first).max() < 1e-4


def test_a_budget_of_tokens_bounds_the_batches() -> None:
    """No batch of several items has more padded tokens than asked for, and a single long item is a batch."""
    batches = prediction_batches([300, 40, 40, 10, 10, 10], 4, 100)
    assert [rows.tolist() for rows in batches] == [[0], [1, 2], [3, 4, 5]]


def test_gelu_in_one_kernel() -> None:
    """The tanh form of GELU is replaced wherever a model has it, and agrees with it to rounding."""
    model = model_of("gpt2")
    use_fast_kernels(model, CPU)
    assert not any(isinstance(module, NewGELUActivation) for module in model.modules())
    values = torch.linspace(-6, 6, 10_001)
    torch.testing.assert_close(
        model.transformer.h[0].mlp.act(values), NewGELUActivation()(values), rtol=2e-6, atol=2e-6
    )


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_what_it_says(p: float) -> None:
    """The share of zeros is `p`, the mean stays, a seed decides the mask, and evaluation drops nothing."""
    layer, values = ShortDropout(p), torch.ones(1000, 1001)
    torch.manual_seed(3)
    once = layer(values)
    torch.manual_seed(3)
    assert torch.equal(layer(values), once)
    assert not torch.equal(layer(values), once)
    assert float((once == 0).float().mean()) == pytest.approx(p, abs=2e-3)
    assert float(once.mean()) == pytest.approx(1, abs=2e-3)
    assert torch.equal(layer.eval()(values), values)
