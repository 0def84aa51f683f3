"""What the steps of one trial share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wtsbench.contract.measurements import Measurements
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
    measured: list[Measurements]
    """What was measured so far, part by part, so that it is told even where the trial fails."""

    @property
    def spec(self) -> TrialSpec:
        """What is asked for."""
        return self.job.spec

    @property
    def predicted(self) -> Iterator[Split]:
        """The splits to predict: those the task has."""
        return (split for split in self.spec.predicted_splits if split in self.items)
