"""A trial of a generative task: to be read from top to bottom."""

from __future__ import annotations

from wtsbench.trial.attempt import Trial


def run(trial: Trial) -> None:
    """Load, train, generate, and write the records."""
    raise NotImplementedError("generative tasks come with the next change")
