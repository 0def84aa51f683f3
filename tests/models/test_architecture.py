"""Which models write texts, told without loading them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wtsbench.models.architecture import ENCODERS, writes
from wtsbench.models.memory import shape_of
from wtsbench.spec.trial import ModelRef


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "bert"}, False),
        ({"model_type": "bert", "is_decoder": True}, True),
        ({"model_type": "gpt2"}, None),
        ({}, None),
        ([], None),
    ],
)
def test_folders(config: object, expected: bool | None, tmp_path: Path) -> None:
    """An encoder is known by its type, unless it is set up as a decoder; of others the trial is the judge."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert writes(ModelRef(name="m", kind="folder", id="m", revision="r", path=str(tmp_path))) is expected


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"num_hidden_layers": Infinity, "hidden_size": 8}', '{"model_type": []}']
)
def test_a_configuration_that_is_none(text: str, tmp_path: Path) -> None:
    """What cannot be a configuration tells nothing: neither whether the model writes, nor its size."""
    (tmp_path / "config.json").write_text(text)
    model = ModelRef(name="m", kind="folder", id="m", revision="r", path=str(tmp_path))
    assert writes(model) is None
    assert shape_of(model) is None


def test_without_a_configuration(tmp_path: Path) -> None:
    """Embedded models write; of a model that is not here, or a broken one, nothing is said."""
    assert writes(ModelRef(name="nano-1", kind="embedded", id="nano-1", revision="r")) is True
    assert writes(ModelRef(name="m", kind="hub", id="a/b", revision="r")) is None
    assert writes(ModelRef(name="m", kind="folder", id="m", revision="r", path=str(tmp_path))) is None


def test_types_are_those_that_a_trial_refuses() -> None:
    """Every type of the list is one that transformers calls a masked language model, as the trial's own check asks."""
    auto = pytest.importorskip("transformers.models.auto.modeling_auto")
    assert set(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES) >= ENCODERS
