"""Supervisors that wtsbench does not train: their labels are read outside the sandbox, in place of running a trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from wtsbench.contract.measurements import Measurements, TrialResult
from wtsbench.contract.outbox import Outbox
from wtsbench.contract.schemas import PREDICTIONS
from wtsbench.data import Dataset
from wtsbench.errors import ModelError
from wtsbench.execution.inputs import items_of
from wtsbench.execution.spool import AttemptFolder
from wtsbench.models import external
from wtsbench.planning.report import PlannedTrial
from wtsbench.spec.trial import PREDICTED_SPLITS, TrialJob
from wtsbench.store.client import Store

ISOLATION = "none: labels were taken from elsewhere, nothing was run"


def require_labels(trials: Iterable[PlannedTrial], datasets: Mapping[str, Dataset]) -> None:
    """Refuse supervisors that cannot label the items of their tasks, before any other trial has run for hours.

    Args:
        trials: of a plan; those that are in the store are skipped.
        datasets: by the task's name.

    Raises:
        ModelError: a file has no label for some items, or a supervisor's classes are not the task's; lists all cases.
    """
    remedies: dict[str, str] = {}
    for trial in trials:
        if trial.spec.model.trained or trial.state == "stored":
            continue
        data = datasets[trial.spec.data_digest]
        try:
            external.check(trial.spec.model, _labelled_items(data.items), data.labels)
        except ModelError as error:
            remedies[f"{error.message} (task {trial.spec.task})"] = error.remedy or ""
    if remedies:
        raise ModelError("\n  ".join(remedies), remedy="\n".join(dict.fromkeys(filter(None, remedies.values()))))


def _labelled_items(items: pa.Table) -> pa.Table:
    """The items that a supervisor labels."""
    chosen = items.select(["item_id", "split", "text"])
    return chosen.filter(pc.field("split").isin([split.value for split in PREDICTED_SPLITS]))


def take_labels(folder: AttemptFolder, job: TrialJob, store: Store) -> None:
    """Write the supervisor's predictions for every item that needs one, and a result, as a trial would.

    Raises:
        ModelError: it has no label for some items, has changed since planning, or does not answer.
    """
    items = _labelled_items(items_of(store, job.spec.data_digest))
    predictions, statistics = external.predict(job.spec.model, items, job.labels)
    columns = {
        "trial_id": pa.repeat(job.trial_id, predictions.num_rows),
        "attempt": pa.repeat(job.attempt, predictions.num_rows).cast(pa.int32()),
        **{name: predictions[name] for name in ("split", "item_id", "probabilities")},
    }
    outbox = Outbox(folder.trial.outbox, trial_id=job.trial_id, attempt=job.attempt)
    outbox.append("predictions", pa.table([columns[name] for name in PREDICTIONS.names], schema=PREDICTIONS))
    result = TrialResult(status="done", measurements=Measurements(supervisor=statistics))
    folder.trial.result.write_text(result.text())
