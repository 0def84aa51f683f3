"""Training: AdamW with linear warm-up and decay, gradient clipping, and a loss that the strategy decides.

Shapes: B items of a batch, T tokens of its longest item, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

import numpy as np
import torch

from wtsbench.contract.measurements import Measurements
from wtsbench.spec.training import Training
from wtsbench.strategies.base import Floats, Labelled, Step, Strategy
from wtsbench.trial.backward import go_backward, pieces_of
from wtsbench.trial.batching import Rows, endless_batches, pad
from wtsbench.trial.classifier import Classifier
from wtsbench.trial.device import Device, derive, seed_all
from wtsbench.trial.faults import DivergedError

CURVE_POINTS = 100
"""Points of a fit's training curve, each the mean over the steps since the last."""
_FEW_POINTS = 10
"""With fewer points of a curve, how it ended is not told."""
LOOK_EVERY = 32
"""Steps after which the points since the last look are read: on a GPU that waits for all that was computed."""


@dataclass
class Curve:
    """Training loss over the steps of a trial."""

    steps: list[int] = field(default_factory=list)
    """Steps done when a point was taken."""
    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    """Real tokens seen in training, padding not counted."""
    padded: int = 0
    """Tokens computed on, padding counted."""
    last_fit: int = 0
    """Index of the first point of the last fit."""

    def extend(self, points: Sequence[tuple[int, torch.Tensor]], steps: int) -> None:
        """Read points that a device has computed, of steps done and mean losses.

        Raises:
            DivergedError: a loss is NaN or infinite; it says at which of all `steps`.
        """
        losses = torch.stack([mean for _, mean in points]).tolist()
        for (done, _), mean in zip(points, losses, strict=True):
            if not math.isfinite(mean):
                raise DivergedError(f"the training loss became {mean} within step {done} of {steps}")
            self.steps.append(done)
            self.losses.append(mean)

    @property
    def done(self) -> int:
        """Optimisation steps so far."""
        return self.steps[-1] if self.steps else 0

    @property
    def late_fall(self) -> float | None:
        """Share of the loss's fall that came late; see `Measurements.late_fall`.

        A fall is the difference of means: of the first tenth of the points, of the last fifth, of the fifth before it.
        """
        losses = self.losses[self.last_fit :]
        if len(losses) < _FEW_POINTS:
            return None
        tenth, fifth = len(losses) // 10, len(losses) // 5
        first, before, last = fmean(losses[:tenth]), fmean(losses[-2 * fifth : -fifth]), fmean(losses[-fifth:])
        return round((before - last) / (first - last), 6) if first > last else None

    def measured(self, items: int) -> Measurements:
        """What a trial tells of its training, on so many items."""
        return Measurements(
            steps=self.done,
            train_items=items,
            train_tokens=self.tokens,
            padding_share=round(1 - self.tokens / self.padded, 6) if self.padded else None,
            initial_loss=self.losses[0] if self.losses else None,
            final_loss=self.losses[-1] if self.losses else None,
            late_fall=self.late_fall,
        )


def steps_of(items: int, training: Training) -> int:
    """Optimisation steps of a fit; fractions of an epoch are rounded up to whole steps."""
    per_epoch = math.ceil(items / training.batch_size)
    return max(1, math.ceil(training.epochs * per_epoch - 1e-9))


def rate_at(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate at a step counted from 0: linear up over `warmup * steps`, then linear to 0."""
    rising = max(1, math.ceil(warmup * steps - 1e-9)) if warmup else 0  # .1 * 70 is a little more than 7
    if step < rising:
        return (step + 1) / rising
    return (steps - step) / max(1, steps - rising)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one optimisation step learns from."""

    pieces: Sequence[Callable[[], torch.Tensor]]
    """Compute what the loss looks at, for the rows of the batch in order; see `backward.go_backward`."""
    loss_of: Callable[[torch.Tensor], torch.Tensor]
    """All pieces together to a scalar."""
    tokens: int
    """Real tokens."""
    padded: int
    """Tokens computed on."""
    cost: int
    """What the progress display is told."""


def optimise(
    model: torch.nn.Module,
    batch_of: Callable[[Rows, float], Batch],
    batches: Iterator[Rows],
    steps: int,
    *,
    training: Training,
    device: Device,
    curve: Curve,
    advance: Callable[[int], None],
    enough: Callable[[int, int], bool] | None = None,
) -> None:
    """The one training loop, whatever is learned: train the model in place and leave it in evaluation mode.

    Args:
        model: starts from its current weights.
        batch_of: rows, and the share of all steps that is done, to a batch.
        batches: rows of each step.
        steps: optimisation steps.
        training: settings.
        device: where, and in what precision.
        curve: points of the training curve are added to it.
        advance: told the cost of each step.
        enough: told after each step how many of all steps are done; says whether to end here.

    Raises:
        DivergedError: a loss is NaN or infinite.
    """
    optimizer = optimizer_of(model, training)
    scaler = torch.amp.GradScaler(device.torch_device.type, enabled=device.dtype is torch.float16)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    report_every = max(1, steps // CURVE_POINTS)
    begun, recent = curve.done, []
    curve.last_fit = len(curve.losses)
    points: list[tuple[int, torch.Tensor]] = []
    model.train()
    with device.training():
        for step in range(steps):
            batch = batch_of(next(batches), step / steps)
            curve.tokens += batch.tokens
            curve.padded += batch.padded
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate * rate_at(step, steps, training.warmup)
            optimizer.zero_grad(set_to_none=True)
            recent.append(go_backward(batch.pieces, batch.loss_of, device, scaler))
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, training.max_gradient_norm)
            scaler.step(optimizer)
            scaler.update()
            ended = enough is not None and enough(step + 1, steps)
            over = ended or step == steps - 1
            if over or len(recent) == report_every:
                points.append((begun + step + 1, torch.stack(recent).double().mean()))
                recent = []
            advance(batch.cost)
            if points and (over or step % LOOK_EVERY == LOOK_EVERY - 1):
                curve.extend(points, begun + steps)
                points = []
            if ended:
                break
    optimizer.zero_grad(set_to_none=True)  # as much memory as the trained weights, for predictions to come
    model.eval()


def fit(
    classifier: Classifier,
    encoded: Sequence[Sequence[int]],
    items: Labelled,
    strategy: Strategy,
    *,
    training: Training,
    pad_id: int,
    seed: int,
    fit_number: int,
    device: Device,
    curve: Curve,
    advance: Callable[[int], None],
    enough: Callable[[int, int], bool] | None = None,
) -> None:
    """Train the classifier in place.

    Args:
        classifier: starts from its current weights.
        encoded: token ids of the items, aligned with `items`.
        items: targets [N, C] and weights [N].
        strategy: gives the loss of each step.
        training: settings.
        pad_id: token id for padding; masked out.
        seed: the trial's.
        fit_number: which fit of the trial this is, from 0; part of the seed of order and dropout.
        device: where, and in what precision.
        curve: points of the training curve are added to it.
        advance: told the number of items of each step.
        enough: told after each step how many of all steps are done; says whether to end here.

    Raises:
        DivergedError: a loss is NaN or infinite.
    """
    seed_all(seed, "dropout", fit_number)
    order = np.random.default_rng(derive(seed, "order", fit_number))
    targets = torch.tensor(items.targets, dtype=torch.float32)
    weights = torch.tensor(items.weights, dtype=torch.float32)

    def batch_of(rows: Rows, progress: float) -> Batch:
        ids, mask = pad([encoded[i] for i in rows.tolist()], pad_id)
        at = torch.from_numpy(rows)
        return Batch(
            pieces=pieces_of(classifier, ids, mask, training.micro_batch_size, device),
            loss_of=partial(
                _loss_of,
                strategy,
                targets=device.put(targets[at]),
                weights=device.put(weights[at]),
                progress=progress,
            ),
            tokens=int(mask.sum()),
            padded=mask.numel(),
            cost=len(rows),
        )

    optimise(
        classifier,
        batch_of,
        endless_batches([len(row) for row in encoded], training.batch_size, order),
        steps_of(len(encoded), training),
        training=training,
        device=device,
        curve=curve,
        advance=advance,
        enough=enough,
    )


def _loss_of(
    strategy: Strategy, logits: torch.Tensor, *, targets: torch.Tensor, weights: torch.Tensor, progress: float
) -> torch.Tensor:
    return strategy.loss(Step(logits=logits, targets=targets, weights=weights, progress=progress))


def predict(
    classifier: Classifier,
    encoded: Sequence[Sequence[int]],
    batches: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]],
    *,
    pad_id: int,
    device: Device,
    advance: Callable[[int], None],
) -> Floats:
    """Probabilities [N, C], a softmax in float32 widened to float64, in the order of `encoded`.

    Raises:
        DivergedError: a probability is NaN.
    """
    classifier.eval()
    found: list[torch.Tensor] = []
    with device.reading():
        for rows in batches:
            ids, mask = pad([encoded[i] for i in rows.tolist()], pad_id)
            found.append(classifier(device.put(ids), device.put(mask)).softmax(dim=-1))
            advance(len(rows))
    stacked = torch.cat(found).cpu().numpy().astype(np.float64)
    if not np.isfinite(stacked).all():
        raise DivergedError("the model predicts NaN")
    back = np.empty(len(encoded), dtype=np.int64)
    back[np.concatenate(list(batches))] = np.arange(len(encoded))
    return stacked[back]


def activations(
    classifier: Classifier,
    encoded: Sequence[Sequence[int]],
    batches: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]],
    *,
    pad_id: int,
    device: Device,
    advance: Callable[[int], None],
) -> Floats:
    """[N, H] the first vector that the head reads of the body, float32 widened to float64, in the order of `encoded`.

    Raises:
        DivergedError: one of them is NaN or infinite.
    """
    classifier.eval()
    found: list[torch.Tensor] = []
    with device.reading():
        for rows in batches:
            ids, mask = pad([encoded[i] for i in rows.tolist()], pad_id)
            found.append(classifier.features(device.put(ids), device.put(mask))[:, 0].float())
            advance(len(rows))
    stacked = torch.cat(found).cpu().numpy().astype(np.float64)
    if not np.isfinite(stacked).all():
        raise DivergedError("the model's activations are NaN or infinite")
    back = np.empty(len(encoded), dtype=np.int64)
    back[np.concatenate(list(batches))] = np.arange(len(encoded))
    return np.asarray(stacked[back])


def optimizer_of(model: torch.nn.Module, training: Training) -> torch.optim.Optimizer:
    """AdamW; biases and norm gains (tensors of one dimension) are not decayed."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)
