"""What a language model writes depends on nothing but model, prompt, settings and random numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trial.devices import DEVICES, device_of
from tests.trial.tiny import write_tiny_model
from wtsbench.strategies.decoding import Contrast
from wtsbench.trial import sampling
from wtsbench.trial.device import Device
from wtsbench.trial.faults import DivergedError
from wtsbench.trial.language_model import LanguageModel, continuation_logprobs, load_language_model, score
from wtsbench.trial.reading import score_shared
from wtsbench.trial.sampling import Written, draw, uniforms, write
from wtsbench.trial.text_tokens import Encoded

END, PAD = 2, 3
PROMPTS = [[1, *range(4, 4 + size)] for size in (1, 5, 2, 8, 3, 3, 7, 1, 6, 4)]
SAMPLES, MOST = 7, 12
RANDOMS = [np.stack([uniforms(0, str(i), k, MOST) for k in range(SAMPLES)]) for i in range(len(PROMPTS))]


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> Device:
    """Where the model is."""
    return device_of(request.param)


@pytest.fixture(scope="module", params=["llama", "gpt2", "openai-gpt"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, device: Device) -> LanguageModel:
    """Random weights."""
    folder = write_tiny_model(tmp_path_factory.mktemp("models") / request.param, request.param)
    return load_language_model(folder, device)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """More of them only wait for each other here."""
    torch.set_num_threads(1)


def written(
    model: LanguageModel, device: Device, batch_size: int, end_id: int | None, *, back: bool = False
) -> list[list[Written]]:
    """Continuations of all prompts; `back` takes them in the opposite order."""
    order = -1 if back else 1
    return write(
        [model],
        PROMPTS[::order],
        RANDOMS[::order],
        end_id=end_id,
        pad_id=PAD,
        temperature=0.5,
        top_p=0.95,
        batch_size=batch_size,
        device=device,
        advance=lambda count: None,
    )[::order]


def test_batch_size_order_and_padding_change_nothing(
    model: LanguageModel, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One prompt at a time, seven, or all at once, backwards or with other neighbours: the same texts."""
    found = Counter(token for some in written(model, device, 64, None) for one in some for token in one.tokens)
    end = found.most_common(5)[-1][0]  # a token that many texts hold, as random weights end few
    alone = written(model, device, 1, end)
    assert {one.finished for some in alone for one in some} == {True, False}
    assert written(model, device, 7, end) == alone
    assert written(model, device, 64, end) == alone
    assert written(model, device, 4, end, back=True) == alone
    monkeypatch.setattr(sampling, "_LEAVE", 0.0)
    assert written(model, device, 64, end) == alone


def test_the_scores_while_writing_are_those_of_reading_the_text(model: LanguageModel, device: Device) -> None:
    """With cache, padding and prompts shared by samples, a token has the probability it has in the text alone."""
    said: dict[int, list[torch.Tensor]] = {}
    chosen = [2, 0, 4]

    def keep(scores: Sequence[torch.Tensor]) -> torch.Tensor:
        said.setdefault(len(said), []).append(scores[0].log_softmax(dim=-1))
        return scores[0]

    found = write(
        [model], [PROMPTS[i] for i in chosen], [RANDOMS[i][:1] for i in chosen], end_id=None, pad_id=PAD,
        temperature=1.0, top_p=1.0, batch_size=3, device=device, advance=lambda count: None, combine=keep,
    )  # fmt: skip
    order = sorted(chosen, key=lambda i: -len(PROMPTS[i]))
    for row, place in enumerate(order):
        tokens = list(found[chosen.index(place)][0].tokens)
        rows = [Encoded(ids=[*PROMPTS[place], *tokens], start=len(PROMPTS[place]), ended=False)]
        read = score(model, rows, pad_id=PAD, batch_size=1, device=device, advance=lambda count: None)[0]
        while_writing = [float(said[step][0][row, token]) for step, token in enumerate(tokens)]
        assert while_writing == pytest.approx(read.tolist(), abs=1e-4)


def test_only_continuations_are_scored_and_learned_from(model: LanguageModel, device: Device) -> None:
    """Log-probabilities and gradients of a padded batch are those of transformers' own scores of each text alone."""
    rows = [
        Encoded(ids=[*prompt, *range(40, 40 + size)], start=len(prompt), ended=False)
        for prompt, size in zip(PROMPTS, (3, 0, 6, 1, 4, 2, 7, 5, 1, 3), strict=True)
    ]
    made = continuation_logprobs(model, rows, pad_id=PAD, device=device)
    assert made.shape == (len(rows), 7)
    (-made.sum()).backward()  # type: ignore[no-untyped-call]
    learned = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    for line, row in zip(made, rows, strict=True):
        text = torch.tensor([row.ids], device=device.torch_device)
        whole = model.model(text).logits[0, :-1].log_softmax(dim=-1)
        alone = whole.gather(1, text[0, 1:, None])[row.start - 1 :, 0]
        assert line[: len(alone)].tolist() == pytest.approx(alone.tolist(), abs=1e-4)
        assert not line[len(alone) :].any()
        (-alone.sum()).backward()
    expected = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    assert learned.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(learned[name], gradient, rtol=1e-3, atol=1e-4)


def test_a_batch_of_empty_continuations_has_no_loss(model: LanguageModel, device: Device) -> None:
    """Texts that ended before their first token can meet in a batch: there is nothing to score, and no gradient."""
    rows = [Encoded(ids=prompt, start=len(prompt), ended=False) for prompt in PROMPTS[:3]]
    made = continuation_logprobs(model, rows, pad_id=PAD, device=device)
    assert made.shape == (3, 0)
    made.sum().backward()  # type: ignore[no-untyped-call]
    assert not any(value.grad is not None and value.grad.any() for value in model.parameters())
    model.zero_grad()


def test_an_empty_continuation_is_no_divergence(device: Device, tmp_path: Path) -> None:
    """Beside others that share its prompt, also of a model that never writes the token that pads them."""
    model = load_language_model(write_tiny_model(tmp_path / "model"), device)
    head = model.model.get_output_embeddings()
    head.register_forward_hook(lambda _, __, scores: scores.index_fill(-1, torch.tensor(PAD), -torch.inf))
    rows = [
        Encoded(ids=[*PROMPTS[1], *range(40, 40 + size)], start=len(PROMPTS[1]), ended=False) for size in (0, 3, 0, 1)
    ]
    found = score_shared(model, rows, pad_id=PAD, batch_size=4, device=device, advance=lambda count: None)
    assert [len(values) for values in found] == [0, 3, 0, 1]
    assert np.isfinite(np.concatenate(found)).all()


def test_prompts_read_once_score_as_whole_texts(model: LanguageModel, device: Device) -> None:
    """Sharing a prompt among its continuations changes no log-probability, empty continuations included."""
    random = np.random.default_rng(0)
    rows = [
        Encoded(ids=[*prompt, *random.integers(4, 300, size=size).tolist()], start=len(prompt), ended=False)
        for prompt in PROMPTS
        for size in (0, 3, 11, 1, 7)
    ]
    told: list[int] = []
    found = [
        how(model, rows, pad_id=PAD, batch_size=4, device=device, advance=told.append) for how in (score, score_shared)
    ]
    assert [len(values) for values in found[0]] == [0, 3, 11, 1, 7] * len(PROMPTS)
    for alone, shared in zip(*found, strict=True):
        assert shared.tolist() == pytest.approx(alone.tolist(), abs=1e-4)
    assert sum(told) == 2 * sum(len(row.ids) for row in rows)


def test_progress_counts_every_token_once(model: LanguageModel, device: Device) -> None:
    """Whether texts end early or not, the whole work is told in the end."""
    told: list[int] = []
    write(
        [model], PROMPTS, RANDOMS, end_id=END, pad_id=PAD, temperature=1.0, top_p=1.0, batch_size=3, device=device,
        advance=told.append,
    )  # fmt: skip
    assert sum(told) == len(PROMPTS) * SAMPLES * MOST


def test_draws_follow_the_distribution() -> None:
    """Over many random numbers, tokens come as often as temperature and nucleus say, recomputed by hand."""
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5])
    count = 40_000
    randoms = torch.from_numpy((np.arange(count) + 0.5) / count)
    tokens = draw(scores.expand(count, -1), randoms, temperature=0.7, top_p=0.9)
    weights = np.exp(scores.numpy().astype(float) / 0.7)
    shares = weights / weights.sum()
    order = np.argsort(-shares)
    size = int(np.searchsorted(np.cumsum(shares[order]), 0.9)) + 1
    kept = np.zeros(5)
    kept[order[:size]] = shares[order[:size]] / shares[order[:size]].sum()
    found = np.bincount(tokens.numpy(), minlength=5) / count
    assert found == pytest.approx(kept, abs=1e-3)
    assert size < 5


def test_a_wide_vocabulary_is_cut_as_a_narrow_one() -> None:
    """Sorting only the likeliest tokens gives the same nucleus, also where they do not hold enough."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(4, 3000, generator=generator) * 0.1
    steep = torch.randn(4, 3000, generator=generator) * 6
    for row in torch.cat([flat, steep]):
        shares, order = row.double().softmax(dim=-1).sort(descending=True)
        size = int((shares.cumsum(dim=-1) < 0.9).sum()) + 1
        randoms = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
        tokens = set(draw(row.expand(300, -1), randoms, temperature=1.0, top_p=0.9).tolist())
        assert tokens <= set(order[:size].tolist())


def test_extreme_random_numbers_stay_within_the_nucleus() -> None:
    """0 and the largest number below 1 give tokens that can be drawn."""
    scores = torch.tensor([[-50.0, 3.0, 2.0, -50.0]]).expand(2, -1)
    randoms = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert draw(scores, randoms, temperature=1.0, top_p=0.99).tolist() == [1, 2]


def test_scores_that_are_no_numbers_are_divergence(model: LanguageModel, device: Device) -> None:
    """NaN is never sampled from, of a single text either."""

    def spoilt(scores: Sequence[torch.Tensor]) -> torch.Tensor:
        return scores[0].clone().index_fill(0, torch.tensor([3], device=scores[0].device), torch.nan)

    with pytest.raises(DivergedError):
        write(
            [model], PROMPTS, RANDOMS, end_id=None, pad_id=PAD, temperature=1.0, top_p=0.9, batch_size=4, device=device,
            advance=lambda count: None, combine=spoilt,
        )  # fmt: skip


def test_contrast_takes_away_what_the_model_said_before() -> None:
    """Log p_after - alpha log p_before over plausible tokens, recomputed by hand; alpha 0 and cut 0 is plain."""
    after, before = torch.tensor([[3.0, 2.5, -4.0]]), torch.tensor([[3.0, 0.0, -9.0]])
    found = sampling.contrast(Contrast(alpha=0.4, plausibility=0.1))([after, before])
    p, q = after.double().softmax(dim=-1), before.double().softmax(dim=-1)
    assert found[0, :2].tolist() == pytest.approx((p.log() - 0.4 * q.log())[0, :2].tolist(), abs=1e-5)
    assert found[0, 2] == -float("inf")
    assert found[0].argmax() == 1  # the token that finetuning made likelier wins over the one that always was likely
    plain = sampling.contrast(Contrast(alpha=0.0, plausibility=0.0))([after])
    assert torch.equal(plain, after)


def test_every_continuation_has_its_own_random_numbers() -> None:
    """Streams are functions of seed, item and sample, and are not alike."""
    found = Counter(tuple(uniforms(*key, 3)) for key in ((0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0)))
    assert len(found) == 4
    assert uniforms(0, "a", 0, 3).tolist() == uniforms(0, "a", 0, 5)[:3].tolist()
