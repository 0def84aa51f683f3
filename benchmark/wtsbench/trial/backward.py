"""Loss and gradients of one batch, whole or in pieces that fit into memory.

In pieces, the loss is still that of the whole batch, also where it looks at all of its items (as `logconf` does, whose
threshold is a quantile over the batch). Gradients are cached at the logits:

1. the logits of every piece are computed without a graph;
2. the strategy's loss is taken on the logits of the whole batch, and gives d loss / d logits;
3. every piece is computed again, with a graph and the same dropout, and its part of d loss / d logits goes backward.

So memory is that of one piece, for one more forward pass. Sums are taken in another order than for the whole batch,
and dropout draws other masks: `micro_batch_size` belongs to a trial's identity, like all training settings. The scheme
is that of GradCache (Gao et al. 2021, arXiv 2101.06983), with logits in the place of representations.

Shapes: B items of a batch, T tokens of its longest item, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from wtsbench.trial.device import Device


def pieces_of(
    model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, size: int | None, device: Device
) -> list[Callable[[], torch.Tensor]]:
    """What computes the logits [b, C] of each piece of a batch, for `go_backward`.

    Args:
        model: token ids [B, T] and mask [B, T] to logits [B, C].
        ids: token ids [B, T], in this process's memory, as the mask is.
        mask: [B, T], 1 on real tokens, padded on the right.
        size: items of a piece; None takes the batch whole.
        device: where, and in what precision.
    """
    pieces = [(ids, mask)] if size is None or len(ids) <= size else _pieces(ids, mask, size)
    return [partial(_logits, model, device, *piece) for piece in pieces]


def _logits(model: torch.nn.Module, device: Device, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with device.autocast():
        logits = model(device.put(ids), device.put(mask))
    assert isinstance(logits, torch.Tensor)
    return logits


def go_backward(
    pieces: Sequence[Callable[[], torch.Tensor]],
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    device: Device,
    scaler: torch.amp.GradScaler,
) -> torch.Tensor:
    """Add the gradients of `loss_of` to the parameters'; the loss itself, without a graph.

    Args:
        pieces: compute what the loss looks at, [b, ...] each, for the rows of the batch in order.
        loss_of: all of them together, [B, ...], to a scalar.
        device: where, and in what precision.
        scaler: scales the loss, where the precision needs it.
    """
    if len(pieces) == 1:
        loss = loss_of(pieces[0]())
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's own
        return loss.detach()
    states, found = [], []
    with torch.no_grad():
        for piece in pieces:
            states.append(_random_state(device))
            found.append(piece())
    whole = torch.cat(found).requires_grad_()
    loss = loss_of(whole)
    (gradient,) = torch.autograd.grad(scaler.scale(loss), whole)
    parts = torch.split(gradient, [len(rows) for rows in found])
    for piece, state, part in zip(pieces, states, parts, strict=True):
        with _random_state_of(state, device):
            again = piece()
        again.backward(part)  # type: ignore[no-untyped-call]
    return loss.detach()


def _pieces(ids: torch.Tensor, mask: torch.Tensor, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows of a batch, so many at a time, each piece as long as its own longest item."""
    for some_ids, some_mask in zip(torch.split(ids, size), torch.split(mask, size), strict=True):
        longest = int(some_mask.sum(dim=1).max())
        yield some_ids[:, :longest], some_mask[:, :longest]


def _random_state(device: Device) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The state that dropout draws from: the CPU's, and the GPU's where there is one."""
    on_gpu = device.torch_device.type == "cuda"
    return torch.get_rng_state(), torch.cuda.get_rng_state(device.torch_device) if on_gpu else None


@contextmanager
def _random_state_of(state: tuple[torch.Tensor, torch.Tensor | None], device: Device) -> Iterator[None]:
    """Draw from this state, then go on from where it was."""
    before = _random_state(device)
    _set_random_state(state, device)
    try:
        yield
    finally:
        _set_random_state(before, device)


def _set_random_state(state: tuple[torch.Tensor, torch.Tensor | None], device: Device) -> None:
    on_cpu, on_gpu = state
    torch.set_rng_state(on_cpu)
    if on_gpu is not None:
        torch.cuda.set_rng_state(on_gpu, device.torch_device)
