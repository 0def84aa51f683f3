"""What a trial asks for, against what is there."""

from __future__ import annotations

import os

import pytest

from wtsbench.errors import SpecError
from wtsbench.execution.fitting import fitting, misfit
from wtsbench.execution.in_process import InProcessExecutor
from wtsbench.spec.grid import Resources

NODES = [{"CPU": 4.0, "memory": 8.0 * 2**30}, {"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30}]


def test_as_many_as_fit() -> None:
    """The scarcest resource decides; a node that lacks one has room for none."""
    assert [fitting(node, Resources.model_validate({"cpus": 3, "memory": "8GiB"})) for node in NODES] == [1, 5]
    assert [fitting(node, Resources.model_validate({"gpus": 0.5})) for node in NODES] == [0, 4]


def test_what_does_not_fit_is_said_in_units() -> None:
    """Memory is told in GiB, and every node by what it has of what is asked for."""
    assert misfit(NODES, Resources.model_validate({"cpus": 16})) is None
    assert misfit(NODES, Resources.model_validate({"cpus": 2, "memory": "500GiB"})) == (
        "a trial asks for 2 CPU, 500.0 GiB of memory, and there is only "
        "4 CPU, 8.0 GiB of memory; 16 CPU, 64.0 GiB of memory"
    )


@pytest.mark.parametrize("asked", [{"cpus": 4096}, {"memory": "900TiB"}, {"gpus": 1}])
def test_in_process_refuses_what_this_machine_lacks(asked: dict[str, object]) -> None:
    """Without a cluster, too, a trial is not begun where it cannot have what it asks for."""
    with pytest.raises(SpecError) as error:
        InProcessExecutor.of(Resources.model_validate(asked))
    assert error.value.remedy is not None


def test_in_process_has_room_for_as_many_as_cores() -> None:
    """By default one trial a core that this process may use."""
    executor = InProcessExecutor.of(Resources())
    assert executor.slots == len(os.sched_getaffinity(0))
    executor.close()
