"""The measurement of a large run measures: a real plan runs to its end, and every figure is there."""

from __future__ import annotations

import pytest

from tests.performance.cluster_scale import TRIALS_OF_A_SEED, ideal_seconds, measure
from tests.planning.grids import make_grid, make_inputs, planned


def test_ideal_schedule_waits_for_parents_and_slots() -> None:
    """A student begins when its weak supervisor is done; two slots hold no more than two trials."""
    grid = make_grid(tasks=["t1"], strategies=["naive"], seeds=[0])
    specs = list(planned(grid, make_inputs(grid)).trials.values())
    by_role = {spec.role.value: spec.trial_id for spec in specs}
    assert len(by_role) == len(specs) == 3
    seconds = {by_role["weak"]: 3.0, by_role["student"]: 5.0, by_role["ceiling"]: 4.0}
    assert ideal_seconds(specs, seconds, slots=2) == 8.0
    assert ideal_seconds(specs, seconds, slots=1) == 12.0


@pytest.mark.slow
def test_a_small_run_is_measured() -> None:
    """All trials of a small grid are done, each after its requests to the store, and none sooner than is possible."""
    found = measure(TRIALS_OF_A_SEED, 13, 0.3, look=60.0)
    assert found["trials"] == TRIALS_OF_A_SEED
    assert found["wall_s"] >= found["ideal_s"] >= found["bound_s"] > 0
    assert {kind: one["requests"] for kind, one in found["requests"].items()} == dict.fromkeys(
        ("append", "begin"), TRIALS_OF_A_SEED
    )
    assert set(found["driver_rss_bytes"]) == {"10%", "50%", "100%"}
    assert min(found["driver_cpu_ms"], found["server_cpu_ms"], found["nodes_cpu_ms"]) > 0
