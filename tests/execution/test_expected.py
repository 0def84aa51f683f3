"""How long a grid will take, by what the store has and by what it has not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

import wtsbench
from tests.models.test_work import LARGE, SIZES, spec_of
from tests.test_api import TINY
from wtsbench.execution.expected import Estimate, expected
from wtsbench.execution.session import Options, prepare
from wtsbench.models import work
from wtsbench.spec.trial import Role
from wtsbench.store.folder import DATABASE


def test_as_trials_like_them_took(tmp_path: Path) -> None:
    """Another seed is like the first; what is trained otherwise, or on other items, is not."""
    uri = str(tmp_path / "store")
    wtsbench.submit(
        {**TINY, "seeds": [0, 1]}, store=uri, executor="in-process", sandbox="process", on_event=lambda _: None
    )

    def estimate(**changes: Any) -> Estimate:
        options = Options(store=uri, executor="in-process", sandbox="process")
        return prepare({**TINY, **changes}, options, note=lambda _: None).estimate

    took: dict[str, list[float]] = {}
    rows = wtsbench.open_store(uri).trials().select(["role", "duration_s"]).to_pylist()
    for row in rows:
        took.setdefault(row["role"], []).append(row["duration_s"])
    assert {role: len(seconds) for role, seconds in took.items()} == {"weak": 2, "ceiling": 2, "student": 2}
    found = estimate(seeds=[0, 2])
    assert (len(found.seconds), found.measured) == (3, 3)
    assert (found.low, found.high) == pytest.approx((sum(map(min, took.values())), sum(map(max, took.values()))))
    assert sum(found.seconds.values()) == pytest.approx(sum(map(sum, took.values())) / 2)
    assert str(found).endswith("of one core, one trial after the other: 3 by how long trials like them took here")

    other = estimate(training={"epochs": 3}, seeds=[0, 1])
    assert (other.measured, len(other.seconds)) == (0, 6)
    assert other.low == pytest.approx(sum(other.seconds.values()) / 2)
    assert other.high == pytest.approx(sum(other.seconds.values()) * 2)
    assert "6 by their operations, half to twice" in str(other)
    assert estimate(seeds=[0, 2], data={"weak_train": 60, "transfer": 70, "validation": 20, "test": 60}).measured == 0

    with duckdb.connect(tmp_path / "store" / DATABASE) as db:  # as another version may have written it
        db.execute("UPDATE trials_rows SET spec = '{}'")
    assert estimate(seeds=[0, 2]).measured == 0


def test_what_is_not_counted_is_said() -> None:
    """Trials of models whose size nobody knows; labels from elsewhere cost nothing here."""
    ceiling = spec_of(Role.CEILING)
    other = ceiling.model_copy(update={"model": LARGE.model_copy(update={"parameters": None})})
    labels = ceiling.model_copy(update={"model": LARGE.model_copy(update={"kind": "labels"})})
    found = expected(None, {"a": ceiling, "b": other, "c": labels}, {ceiling.data_digest: SIZES}, gpus=1)
    assert (dict(found.seconds), found.device) == ({"a": work.seconds(ceiling, SIZES, gpus=1)}, "GPU")
    assert found.unknown == ("unheard-of",)
    assert str(found).endswith("; without those of unheard-of")
