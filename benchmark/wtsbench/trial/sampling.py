"""Continuations drawn from a language model: many prompts and all their samples at once.

Each continuation has a stream of random numbers of its own, a function of the trial's seed, the item and the sample.
Step t takes its t-th number u and writes the first token, in order of the vocabulary, at which the distribution's
cumulative sum exceeds u. So batch size, order and padding decide nothing; they can change the last bits of a
distribution, and then a token with about that probability (1e-6 in float32), which no rounding of scores would lower.

A prompt is read once, for all its samples; continuations that have ended leave the batch; prompts are taken in order of
length and padded on the left, with masks and positions that leave padding out.

Shapes: P prompts of a batch, n samples of each, R = P n continuations not ended yet, T tokens read, V tokens of the
vocabulary, K tokens at most to be written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wtsbench.strategies.decoding import Contrast
from wtsbench.trial.batching import prediction_batches
from wtsbench.trial.device import Device, derive
from wtsbench.trial.faults import DivergedError
from wtsbench.trial.kv_cache import Left
from wtsbench.trial.language_model import LanguageModel
from wtsbench.trial.reading import Reader, rows_in_memory

Combine = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Scores [R, V] of each model to the scores that are sampled from."""

ROWS = {"cpu": 800, "cuda": 4096}
"""Continuations written side by side at most; small models gain nothing from more on CPUs."""
_SCORES_AT_ONCE = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Scores that are sampled from at once; more are taken in turns, which changes nothing but the memory used."""
_FEW, _COMMON = 2048, 64
"""Of vocabularies up to the first size all tokens are sorted; of larger ones so many of the likeliest, and all of them
only in the rows where these do not hold `top_p`."""
_LEAVE = 0.125
"""Share of ended continuations from which on they are taken out of the batch."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """One continuation as it was drawn."""

    tokens: tuple[int, ...]
    """Without the end token."""
    finished: bool
    """Whether the model ended it; else it was cut off."""


def uniforms(seed: int, item_id: str, sample: int, count: int) -> NDArray[np.float64]:
    """[count] numbers in [0, 1) of one continuation."""
    generator = np.random.Generator(np.random.Philox(key=derive(seed, "write", item_id, sample)))
    return generator.random(count)


def first(scores: Sequence[torch.Tensor]) -> torch.Tensor:
    """Plain sampling: the scores of the one model."""
    return scores[0]


def contrast(settings: Contrast) -> Combine:
    """Scores of `strategies.contrastive_decoding`, of the finetuned and the pretrained model in this order.

    Where `alpha` is 0 the second one is not needed.
    """

    def combine(scores: Sequence[torch.Tensor]) -> torch.Tensor:
        after = scores[0].float().log_softmax(dim=-1)
        contrasted = scores[0]
        if settings.alpha:
            contrasted = after - settings.alpha * scores[1].float().log_softmax(dim=-1)
        if not settings.plausibility:
            return contrasted
        least = after.amax(dim=-1, keepdim=True) + math.log(settings.plausibility)
        return contrasted.masked_fill(after < least, -math.inf)

    return combine


def write(
    models: Sequence[LanguageModel],
    prompts: Sequence[Sequence[int]],
    randoms: Sequence[NDArray[np.float64]],
    *,
    end_id: int | None,
    pad_id: int,
    temperature: float,
    top_p: float,
    batch_size: int,
    device: Device,
    advance: Callable[[int], None],
    combine: Combine = first,
) -> list[list[Written]]:
    """Draw continuations of every prompt.

    Args:
        models: those that read along, of one vocabulary; nearly always one.
        prompts: token ids, at least one each.
        randoms: for each prompt [n, K] numbers in [0, 1), which settle everything that is random.
        end_id: the token that ends a continuation; None where nothing does.
        pad_id: token id for padding; masked out.
        temperature: scores are divided by it.
        top_p: share of the probability that is sampled from, the likeliest tokens first.
        batch_size: prompts side by side at most; fewer where they have many samples.
        device: where, and in what precision.
        advance: told the number of tokens that need no more work, written or not.
        combine: makes one table of scores of the models'.

    Returns:
        for each prompt n continuations.

    Raises:
        DivergedError: a model's scores are NaN.
    """
    for model in models:
        model.eval()
    found: list[list[Written]] = [[] for _ in prompts]
    many = max((len(numbers) for numbers in randoms), default=1)
    longest = max(map(len, prompts), default=0) + max((numbers.shape[1] for numbers in randoms), default=0)
    most = min(ROWS[device.torch_device.type], rows_in_memory(models, longest, device))
    size = max(1, min(batch_size, most // max(1, many)))
    with device.reading():
        for batch in prediction_batches([len(row) for row in prompts], size):
            places = batch.tolist()
            numbers = torch.from_numpy(np.concatenate([randoms[i] for i in places]))  # [R, K]
            counts = [len(randoms[i]) for i in places]
            tokens, lengths = _batch(
                [Reader(model, [prompts[i] for i in places], pad_id, device) for model in models],
                device.put(numbers),
                counts,
                end_id=-1 if end_id is None else end_id,
                pad_id=pad_id,
                draw=lambda scores, u: draw(combine(scores), u, temperature=temperature, top_p=top_p),
                advance=advance,
            )
            row = 0
            for place, count in zip(places, counts, strict=True):
                for _ in range(count):
                    length = int(lengths[row])
                    written = tuple(tokens[row, :length].tolist())
                    found[place].append(Written(tokens=written, finished=length < tokens.shape[1]))
                    row += 1
    return found


def draw(scores: torch.Tensor, randoms: torch.Tensor, *, temperature: float, top_p: float) -> torch.Tensor:
    """One token [R] from each row of scores [R, V] by inversion of its cumulative distribution at `randoms` [R].

    Nucleus sampling (Holtzman et al. 2020, arXiv 1904.09751): tokens less likely than the least likely one of the
    smallest set that holds `top_p` get probability 0. Tokens as likely as that one stay, so that no order of equals
    matters. Where the scores are NaN, the token is -1.
    """
    rows = max(1, _SCORES_AT_ONCE[scores.device.type] // scores.shape[1])
    if len(scores) > rows:
        parts = zip(torch.split(scores, rows), torch.split(randoms, rows), strict=True)
        return torch.cat([draw(part, some, temperature=temperature, top_p=top_p) for part, some in parts])
    probabilities = (scores.float() / temperature).softmax(dim=-1)
    if top_p < 1:
        probabilities = torch.where(probabilities >= _threshold(probabilities, top_p), probabilities, 0.0)
    reached = probabilities.double().cumsum(dim=-1)
    total = reached[:, -1:]
    at = torch.minimum(randoms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(reached, at, right=True).where(total > 0, -1)[:, 0]  # NaN is not larger either


def _threshold(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """[R, 1] the probability of the least likely token that is kept."""
    if probabilities.shape[1] <= _FEW:
        return _least_kept(_sorted(probabilities), top_p)
    likely = probabilities.topk(_COMMON, dim=-1).values.flip(1)
    found = _least_kept(likely, top_p)
    short = (likely.double().sum(dim=-1) < top_p).nonzero()[:, 0]
    if len(short):
        found[short] = _least_kept(_sorted(probabilities[short]), top_p)
    return found


def _sorted(probabilities: torch.Tensor) -> torch.Tensor:
    """[R, V] each row sorted, the smallest first. On CPUs numpy's sort takes a seventh of the time of torch's."""
    if probabilities.device.type == "cpu":
        return torch.from_numpy(np.sort(probabilities.numpy(), axis=1))
    return probabilities.sort(dim=-1).values


def _least_kept(ordered: torch.Tensor, top_p: float) -> torch.Tensor:
    """[R, 1] the first of probabilities, the smallest first, with less than `top_p` in those behind it."""
    reached = ordered.double().cumsum(dim=-1)
    kept = torch.searchsorted(reached, reached[:, -1:] - top_p, right=True)
    return ordered.gather(1, kept.clamp(max=ordered.shape[1] - 1))


def _batch(
    readers: Sequence[Reader],
    randoms: torch.Tensor,
    counts: Sequence[int],
    *,
    end_id: int,
    pad_id: int,
    draw: Callable[[Sequence[torch.Tensor], torch.Tensor], torch.Tensor],
    advance: Callable[[int], None],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens [R, K] of a batch in the order of `counts`, and how many of each row count [R]: K where it was cut off."""
    rows, most = randoms.shape
    tokens = torch.full((rows, most), pad_id, dtype=torch.int64, device=randoms.device)
    lengths = torch.full((rows,), most, dtype=torch.int64, device=randoms.device)
    alive = torch.arange(rows, device=randoms.device)  # which row each of the readers' rows is
    ended = torch.zeros(rows, dtype=torch.bool, device=randoms.device)  # of the readers' rows
    scores = [reader.begin(counts) for reader in readers]
    for step in range(most):
        chosen = draw(scores, randoms[alive, step])
        stops = (chosen == end_id) & ~ended
        lengths[alive] = torch.where(stops, step, lengths[alive])
        ended |= stops
        tokens[alive, step] = chosen
        going, stopped, bad = torch.stack([(~ended).sum(), stops.sum(), (chosen < 0).sum()]).tolist()
        if bad:
            raise DivergedError("the model's scores of the next token are NaN")
        advance(going + stopped * (most - step))
        if not going or step == most - 1:
            break
        if going <= (1 - _LEAVE) * len(alive):
            left = Left.of(ended, going)
            alive, chosen, ended = alive[left.rows], chosen[left.rows], ended[left.rows]
            for reader in readers:
                reader.leave(left)
        scores = [reader.read(chosen) for reader in readers]
    return tokens.cpu().numpy(), lengths.cpu().numpy()
