"""What trials say of themselves."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wtsbench.contract.measurements import Measurements, TrialResult


def test_what_is_stored_is_what_was_said() -> None:
    """What was not measured is absent and no null, a null stays one, and so does what other versions say beside."""
    later = {"x": [1, "y", float("inf")]}
    said = {"steps": 3, "final_loss": None, "votes": [0.5, 2.0], "seconds": {"load": 0.25}, "later": later}
    result = TrialResult.model_validate({"status": "done", "measurements": said})
    assert result.measurements.stored() == said
    assert TrialResult.model_validate_json(result.text()) == result
    added = Measurements.together([result.measurements, Measurements(steps=4), Measurements(scorer={"name": "s"})])
    assert added.stored() == said | {"steps": 4, "scorer": {"name": "s"}}


@pytest.mark.parametrize("said", [{"steps": -1}, {"steps": True}, {"threads": 2**31}, {"final_loss": "0.5"}, [1]])
def test_what_is_no_measurement_is_refused(said: object) -> None:
    """Nothing is read as a number that is none."""
    with pytest.raises(ValidationError):
        TrialResult.model_validate({"status": "done", "measurements": said})
