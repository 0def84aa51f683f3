"""A trial folder shows each role only the ground truth it may see."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.planning.grids import plan_of
from wtsbench.execution.inputs import visible_items
from wtsbench.spec.trial import Role, TrialSpec

SPLITS = ["weak_train", "transfer", "validation", "test"]
ITEMS = pa.table(
    {
        "data_digest": ["d"] * 8,
        "item_id": [f"i{n}" for n in range(8)],
        "group_id": [f"g{n}" for n in range(8)],
        "split": SPLITS * 2,
        "text": [f"text {n}" for n in range(8)],
        "label": pa.array([0, 1, 0, 1, 1, 0, 1, 0], pa.int32()),
        "target": pa.array([f"target {n}" for n in range(10)][:8], pa.string()),
    }
)


def _spec(role: Role) -> TrialSpec:
    trials = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"], controls=["random_labels"]).trials.values()
    return next(spec for spec in trials if spec.role is role)


@pytest.mark.parametrize(
    ("role", "seen"),
    [
        (Role.WEAK, {"weak_train": True, "transfer": False, "validation": True, "test": False}),
        (Role.CEILING, {"transfer": True, "validation": True, "test": False}),
        (Role.STUDENT, {"transfer": False, "validation": False, "test": False}),
    ],
)
def test_labels_by_role(role: Role, seen: dict[str, bool]) -> None:
    """Test labels never enter a trial folder, and a student gets no label at all."""
    rows = visible_items(ITEMS, _spec(role)).to_pylist()
    assert {row["split"]: row["label"] is not None for row in rows} == seen
    truth = dict(zip(ITEMS["item_id"].to_pylist(), ITEMS["label"].to_pylist(), strict=True))
    assert all((row["label"] is None) == (row["target"] is None) for row in rows)
    assert all(row["label"] in (None, truth[row["item_id"]]) for row in rows)
