"""What a row says of its trials beside their scores: which failed, which learned too little, where they ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from wtsbench.reports.contents import Ending
from wtsbench.reports.rows import SeedFailure
from wtsbench.reports.spread import CLAIM_SEEDS
from wtsbench.spec.cell import Cell

LATE_FALL = 0.05
"""Training has not converged where more than this share of the loss's fall comes in the last fifth of the steps."""
_SURE = 0.99
"""Level of the one-sided test of it: a row makes three, and a report many rows."""


def one_class(cells: Sequence[Cell], class_of: Callable[[str], str | None]) -> Iterator[str]:
    """The models that name one class whatever the item: `student seed 3 (safe)`, `weak seed 0 of data seed 1 (safe)`.

    Args:
        cells: finished ones of a row.
        class_of: the one class that a trial names; None where it names several.
    """
    for cell in cells:
        for role, trial_id in cell.trials.items():
            named = class_of(trial_id)
            if named is not None:
                draw = "" if cell.data_seed is None else f" of data seed {cell.data_seed}"
                yield f"{role} seed {cell.seed}{draw} ({named})"


def unconverged(cells: Sequence[Cell], ended: Mapping[str, Ending]) -> dict[str, float]:
    """Roles whose training loss was still falling at its last step, with the mean share of its fall that came late.

    By a t test over the role's trials of whether that mean is above LATE_FALL. With fewer trials than a claim takes,
    or where they tell no share, nothing is said.
    """
    from scipy.special import stdtrit

    found = {}
    for role in ("weak", "student", "ceiling"):
        trials = sorted({cell.trials[role] for cell in cells if role in cell.trials})
        shares = [share for trial_id in trials if (share := ended[trial_id].late_fall) is not None]
        if len(shares) < CLAIM_SEEDS:
            continue
        mean = float(np.mean(shares))
        error = float(np.std(shares, ddof=1)) / len(shares) ** 0.5
        if mean - float(stdtrit(len(shares) - 1, _SURE)) * error > LATE_FALL:
            found[role] = round(mean, 4)
    return found


def failures(cells: Sequence[Cell], ended: Mapping[str, Ending]) -> Iterator[SeedFailure]:
    """Why seeds of a row are missing."""
    for cell in cells:
        for role, trial_id in cell.trials.items():
            ending = ended.get(trial_id)
            if ending is not None and not ending.done:
                yield SeedFailure(
                    seed=cell.seed,
                    data_seed=cell.data_seed,
                    role=role,
                    trial_id=trial_id,
                    failure_class=ending.failure_class or "unknown",
                    message=ending.failure_message or "",
                )


def distinct(cells: Sequence[Cell], ended: Mapping[str, Ending], field: str) -> tuple[str, ...]:
    """The values that a field of their endings has."""
    used = {trial_id for cell in cells for trial_id in cell.trials.values()}
    return tuple(sorted({str(getattr(ended[trial_id], field)) for trial_id in used}))
