"""What the steps of one trial share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wtsbench.contract.outbox import Outbox
from wtsbench.spec.trial import Split, TrialJob, TrialSpec
from wtsbench.trial.device import Device
from wtsbench.trial.folder import Items, TrialFolder


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial on its way: what it reads, where it computes, where its records go."""

    folder: TrialFolder
    job: TrialJob
    items: Mapping[Split, Items]
    device: Device
    outbox: Outbox
    measured: dict[str, Any]
    """Filled on the way; ends in `trials.measurements`."""

    @property
    def spec(self) -> TrialSpec:
        """What is asked for."""
        return self.job.spec

    @property
    def predicted(self) -> Iterator[Split]:
        """The splits to predict: those the task has."""
        return (split for split in self.spec.predicted_splits if split in self.items)
