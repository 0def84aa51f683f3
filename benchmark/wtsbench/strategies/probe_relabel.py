"""`probe_relabel`: a probe on the strong model's frozen activations corrects or drops weak labels before training.

    v(x) = probe of w at the activations a(x)
    relabel:  loss = CE(f, v)
    drop:     leave out the share `drop` of the items with the largest |v - w|_1 / 2; loss = CE(f, w) over the others

a(x) are activations of the pretrained strong model, before any training. `knn`: v(x) is the mean weak label of the `k`
nearest items in Euclidean distance, x itself among them; `logistic`: v is a softmax regression on standardised
activations with an L2 penalty. Weak errors that are unrelated to the activations are averaged out. `drop`
with a share of 0 is `naive`, and so is `knn` with k = 1.

Source: the `knn` and `logreg` probes of the EleutherAI `w2s` code, which relabel, or drop the worst tenth.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wtsbench.strategies import base
from wtsbench.strategies.base import Floats
from wtsbench.strategies.filtering import share_of

_ROWS = 512
"""Rows of the distance matrix that are held at once."""


class ProbeRelabelParameters(base.Parameters):
    """Parameters of `probe_relabel`."""

    probe: Literal["knn", "logistic"] = "knn"
    """Nearest neighbours, or softmax regression."""
    k: Annotated[int, Field(ge=1, le=100_000)] = 50
    """For `knn`: neighbours, the item itself included; all items where there are fewer."""
    penalty: Annotated[float, Field(gt=0)] = 1e-3
    """For `logistic`: L2 penalty on the mean loss."""
    action: Literal["relabel", "drop"] = "relabel"
    """Learn the probe's labels, or drop the items on which the weak label is farthest from them."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """For `drop`: share of the items that is left out, rounded down; 0 is `naive`."""


class ProbeRelabel(base.Strategy):
    """Weak labels corrected by the strong model's own representation."""

    name = "probe_relabel"
    summary = "a probe on the strong model's frozen activations relabels items, or drops the worst"
    source = "EleutherAI w2s, probes `knn` and `logreg`"
    Parameters = ProbeRelabelParameters

    def __init__(self, parameters: ProbeRelabelParameters) -> None:
        super().__init__(parameters)
        self.filters = parameters.action == "drop" and parameters.drop > 0

    def kept(self, supervision: base.Supervision) -> int:
        """All items except the share to drop."""
        size = len(supervision.item_ids)
        return share_of(size, 1 - self.parameters.drop) if self.filters else size

    def run(self, student: base.Student, supervision: base.Supervision) -> None:
        """The probe, then one fit."""
        items = self.prepare(supervision)
        if self.parameters.action == "drop":
            if self.filters:
                items = items.subset(self.nearest_to_probe(student.activations(items.texts), supervision))
        else:
            probed = self.probed(student.activations(items.texts), supervision.probabilities.mean(axis=0))
            items = self.prepare(replace(supervision, probabilities=probed[None]))
        student.fit(items, self)

    def nearest_to_probe(self, activations: Floats, supervision: base.Supervision) -> NDArray[np.int64]:
        """Rows of the items to keep, in order."""
        weak = supervision.probabilities.mean(axis=0)
        distance = np.abs(self.probed(activations, weak) - weak).sum(axis=1) / 2
        return np.sort(np.argsort(distance, kind="stable")[: self.kept(supervision)])

    def probed(self, activations: Floats, weak: Floats) -> Floats:
        """[N, C] the probe's labels of activations [N, H] and weak labels [N, C]."""
        if self.parameters.probe == "knn":
            return neighbour_means(activations, weak, self.parameters.k)
        return softmax_regression(activations, weak, self.parameters.penalty)


def neighbour_means(activations: Floats, labels: Floats, k: int) -> Floats:
    """[N, C] mean label of the `k` nearest items to each, itself included; of equal distances the first count."""
    means = np.empty_like(labels)
    squares = (activations**2).sum(axis=1)
    for start in range(0, len(activations), _ROWS):
        some = activations[start : start + _ROWS]
        distances = squares[start : start + _ROWS, None] - 2 * some @ activations.T + squares
        own = np.arange(len(some))
        distances[own, start + own] = -1.0  # despite rounding, an item is nearest to itself
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
        means[start : start + _ROWS] = labels[nearest].mean(axis=1)
    return means


def softmax_regression(activations: Floats, labels: Floats, penalty: float, *, others: Floats | None = None) -> Floats:
    """[N, C] fitted probabilities: weights W, b minimise mean CE(softmax(a W + b), label) + penalty / 2 |W|^2.

    Activations [N, H] are standardised column by column; columns that do not vary are left out. With `others` [M, H]
    the probabilities [M, C] are theirs, standardised alike, and N only the items that are learned from.
    """
    import torch

    spread = activations.std(axis=0)
    varied = spread > 1e-12

    def standardised(rows: Floats) -> torch.Tensor:
        return torch.from_numpy((rows[:, varied] - activations[:, varied].mean(axis=0)) / spread[varied])

    inputs = standardised(activations)
    targets = torch.from_numpy(labels)
    weights = torch.zeros(inputs.shape[1], labels.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(labels.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logs = (inputs @ weights + bias).log_softmax(dim=-1)
        loss = -(targets * logs).sum(dim=-1).mean() + penalty / 2 * (weights**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        wanted = inputs if others is None else standardised(others)
        return np.asarray((wanted @ weights + bias).softmax(dim=-1).numpy())
