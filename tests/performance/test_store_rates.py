"""The measurement measures: records arrive, once, in every sink that is here."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.performance.store_rates import measure
from tests.performance.store_writers import RECORDS, ROWS, StoreSink, fake_records
from wtsbench.store.client import open_store


def test_fake_trials_are_real_records(tmp_path: Path) -> None:
    """The store takes them as it takes others, and shows each trial when its seal has come."""
    open_store(str(tmp_path / "store"), create=True).append(list(islice(fake_records("x"), 2 * RECORDS + 3)))
    store = open_store(str(tmp_path / "store"))
    assert store.trials().num_rows == 2
    assert store.predictions(store.trials()["trial_id"].to_pylist()).num_rows == 2 * RECORDS * ROWS
    StoreSink(str(tmp_path / "store")).write(next(fake_records("y")))


@pytest.mark.slow
def test_rates_are_of_what_was_acknowledged() -> None:
    """Each sink at each number of writers gives a rate, waiting times and a size."""
    found = measure(["server", "parquet"], [1, 3], 0.5)
    assert [(one.writers, one.sink) for one in found] == [(1, "server"), (1, "parquet"), (3, "server"), (3, "parquet")]
    for one in found:
        assert one.batches > 0
        assert one.p50_ms <= one.p99_ms
        assert one.bytes_per_prediction > 0
        assert one.unfinished == one.refused == 0
        assert one.writers_cpu_s > 0
        assert (one.server_cpu_s or 0) > 0 if one.sink == "server" else one.server_cpu_s is None
