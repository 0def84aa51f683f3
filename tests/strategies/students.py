"""A small student for strategies to teach: logistic regression on numbers written as texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from wtsbench.strategies.base import Floats, Labelled, Monitor, Step, Strategy, Supervision


class LinearStudent:
    """Implements `strategies.base.Student`; sees the first `features` numbers of a text."""

    def __init__(self, features: int, classes: int = 2, *, steps: int = 400) -> None:
        self.features = features
        self.classes = classes
        self.steps = steps
        self.reset()

    def reset(self) -> None:
        """Back to no knowledge at all."""
        self.weights = torch.zeros(self.features + 1, self.classes, dtype=torch.float64, requires_grad=True)

    def fit(self, items: Labelled, strategy: Strategy) -> None:
        """Gradient descent on all items at once."""
        inputs = self._inputs(items.texts)
        optimizer = torch.optim.SGD([self.weights], lr=1.0)
        for step in range(self.steps):
            optimizer.zero_grad()
            loss = strategy.loss(
                Step(
                    logits=inputs @ self.weights,
                    targets=torch.from_numpy(items.targets),
                    weights=torch.from_numpy(items.weights),
                    progress=step / self.steps,
                )
            )
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()

    def fit_monitored(self, items: Labelled, strategy: Strategy, monitor: Monitor) -> None:
        """As `fit`, with a look every so many steps."""
        best, since, kept, whole = np.inf, 0, self.weights, self.steps
        texts, targets = monitor.held_out.texts, monitor.held_out.targets
        for _ in range(monitor.checks):
            self.steps = whole // monitor.checks
            self.fit(items, strategy)
            loss = float(-(targets * np.log(self.predict(texts))).sum(axis=1).mean())
            since = 0 if loss < best else since + 1
            if loss < best:
                best, kept = loss, self.weights.detach().clone()
            if since >= monitor.patience:
                break
        self.steps = whole
        self.weights = kept.requires_grad_()

    def fit_language(self, texts: Sequence[str], epochs: float) -> None:
        """Numbers are no language."""
        raise NotImplementedError

    def activations(self, texts: Sequence[str]) -> Floats:
        """The numbers themselves, [N, features]."""
        return np.asarray(self._inputs(texts)[:, :-1].numpy())

    def predict(self, texts: Sequence[str]) -> Floats:
        """Probabilities [N, C]."""
        with torch.no_grad():
            return np.asarray((self._inputs(texts) @ self.weights).softmax(dim=-1).numpy())

    def _inputs(self, texts: Sequence[str]) -> torch.Tensor:
        rows = [[float(number) for number in text.split()[: self.features]] + [1.0] for text in texts]
        return torch.tensor(rows, dtype=torch.float64)


class Recorder(LinearStudent):
    """Keeps the items of the last fit, and learns nothing from them."""

    items: Labelled

    def fit(self, items: Labelled, strategy: Strategy) -> None:
        self.items = items


def texts_of(points: Floats) -> tuple[str, ...]:
    """Points [N, D] as texts."""
    return tuple(" ".join(f"{number:.6f}" for number in point) for point in points)


def supervision(texts: Sequence[str], *labels: Floats) -> Supervision:
    """Weak labels of one or more supervisors."""
    ids = tuple(f"i{number}" for number in range(len(texts)))
    return Supervision(item_ids=ids, texts=tuple(texts), probabilities=np.stack(labels))


def accuracy(student: LinearStudent, texts: Sequence[str], truth: np.ndarray) -> float:
    """Share of the texts whose class the student knows."""
    return float((student.predict(texts).argmax(axis=1) == truth).mean())
