"""Canonical JSON is that of RFC 8785, and a trial's id changes with what can change its result and nothing else."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wtsbench.errors import SpecError
from wtsbench.spec import identity, trial
from wtsbench.spec.generation import GenerationSettings
from wtsbench.spec.identity import Alike, canonical_json, digest
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.training import Training
from wtsbench.spec.trial import ModelRef, Role, TrialSpec

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**53, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("bits", "text"),
    [  # numbers at the edges of the forms that ECMA-262 gives them, by their IEEE 754 bits
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("41b3de4355555557", "333333333.33333343"),
        ("3f0a36e2eb1c432d", "0.00005"),
        ("3ff0000000000000", "1"),
        ("c004000000000000", "-2.5"),
    ],
)
def test_numbers(bits: str, text: str) -> None:
    """A number is written as ECMAScript writes it."""
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(value) == text.encode()


def test_keys_are_sorted_by_utf16() -> None:
    """A character beyond U+FFFF sorts by its surrogates, before U+FB33, though its code point is larger."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    text = canonical_json(dict.fromkeys(keys, None)).decode()
    assert list(json.loads(text)) == ordered


def test_whole_document() -> None:
    """Nested values, escapes and literals together, byte for byte."""
    value = {
        "numbers": [1e30, 4.50, 2e-3, 1e-27, 10, 10.0],
        "string": '\u20ac$\u000f\nA\'B"\\"/\x7f',
        "literals": [None, True, False],
        "": {},
    }
    expected = (
        '{"":{},"literals":[null,true,false],"numbers":[1e+30,4.5,0.002,1e-27,10,10],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\"/\x7f"}'
    )
    assert canonical_json(value) == expected.encode()
    assert digest(value) == hashlib.sha256(expected.encode()).hexdigest()


@given(json_values)
def test_reads_back(value: Any) -> None:
    """Any JSON reader gets the same value back, and its canonical form is the same again."""
    text = canonical_json(value)
    assert json.loads(text, parse_int=float) == value
    assert canonical_json(json.loads(text, parse_int=float)) == text


@given(st.dictionaries(st.text(), st.integers(0, 9)))
def test_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    """Two dicts that are equal have one digest."""
    assert digest(dict(reversed(value.items()))) == digest(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_finite(value: float) -> None:
    """JSON has no word for these, so nothing that holds them has an identity."""
    with pytest.raises(ValueError, match="not representable"):
        canonical_json({"a": [value]})


def test_other_types() -> None:
    """What JSON has no form for is refused, not turned into its `repr`."""
    with pytest.raises(ValueError, match="set"):
        canonical_json({1, 2})


def test_a_number_that_json_rounds() -> None:
    """A whole number beyond 2^53 would be another one to other readers of JSON: the user is told."""
    assert canonical_json(2**53 - 1) == b"9007199254740991"
    with pytest.raises(SpecError, match="9007199254740992"):
        digest({"batch_size": 2**53})


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1) | st.lists(st.text(max_size=3)), min_size=1), st.data())
def test_members_that_differ(value: dict[str, Any], data: st.DataObject) -> None:
    """Of an object whose shared members were written once, the digest is that of the whole."""
    differing = data.draw(st.sets(st.sampled_from(sorted(value)), min_size=1))
    alike = Alike({name: value[name] for name in value if name not in differing}, differing)
    assert alike.digest(*(value[name] for name in alike.differing)) == digest(value)


SPEC = TrialSpec(
    role=Role.STUDENT,
    task="safety",
    data_digest="d" * 64,
    data_seed=0,
    model=ModelRef(name="gpt2", kind="hub", id="openai/gpt2", revision="a" * 40, family="gpt2", parameters=124),
    strategy=StrategyCall(name="logconf", parameters={"max_weight": 0.5, "labels": "soft"}),
    strategy_version=1,
    training=Training(),
    seed=0,
    parents=("p" * 64, "q" * 64),
    environment="process:0",
)

OTHER_TRAINING: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "micro_batch_size": 4,
    "gradient_checkpointing": True,
    "finetune": "lora",
    "lora_rank": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.1,
    "lora_targets": ("q_proj",),
    "learning_rate": 1e-5,
    "warmup": 0.2,
    "weight_decay": 0.0,
    "max_gradient_norm": 2.0,
    "max_length": 128,
    "precision": "float32",
    "eval_batch_size": 32,
}
"""For every training setting, a value that is not the default."""


@pytest.mark.parametrize(
    "change",
    [
        {"role": Role.CEILING},
        {"task": "legal"},
        {"data_digest": "e" * 64},
        {"data_seed": 1},
        {"recipe": StrategyCall(name="contrastive")},
        {"strategy_package": "other==1.0"},
        {"form": "generation"},
        {"generation": GenerationSettings()},
        {"scorer": "s" * 64},
        {"reference": SPEC.model},
        {"model": SPEC.model.model_copy(update={"id": "openai/gpt3"})},
        {"model": SPEC.model.model_copy(update={"revision": "b" * 40})},
        {"model": SPEC.model.model_copy(update={"kind": "embedded"})},
        {"strategy": StrategyCall(name="entropy", parameters=SPEC.strategy.parameters if SPEC.strategy else {})},
        {"strategy": StrategyCall(name="logconf", parameters={"max_weight": 0.75, "labels": "soft"})},
        {"strategy": StrategyCall(name="logconf", parameters={"max_weight": 0.5})},
        {"strategy": None},
        {"strategy_version": 2},
        {"seed": 1},
        {"parents": ("q" * 64, "p" * 64)},
        {"parents": ("p" * 64,)},
        {"environment": "process:1"},
        *({"training": Training(**{name: value})} for name, value in OTHER_TRAINING.items()),
    ],
    ids=lambda change: "-".join(change),
)  # fmt: skip
def test_what_changes_the_result_changes_the_id(change: dict[str, Any]) -> None:
    """Every field that a result depends on is in the identity."""
    assert SPEC.model_copy(update=change).trial_id != SPEC.trial_id


@pytest.mark.parametrize("constant", ["SCIENCE_VERSION", "IDENTITY_VERSION"])
def test_versions_change_the_id(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new science or identity version takes no older trial for its own."""
    before = SPEC.trial_id
    monkeypatch.setattr(trial, constant, getattr(trial, constant) + 1)
    assert SPEC.trial_id != before
    assert identity.IDENTITY_VERSION >= 1


def test_every_training_setting_is_tried() -> None:
    """A setting added later must be added to the test above."""
    assert set(OTHER_TRAINING) == set(Training.model_fields)
    assert set(SPEC.identity()) == {
        "identity_version", "science_version", "role", "task", "data", "data_seed", "model", "strategy", "training",
        "seed", "recipe", "form", "generation", "scorer", "reference", "parents", "environment",
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"name": "my-gpt2"}, {"path": "/elsewhere"}, {"family": "other"}, {"family": None}, {"parameters": None}],
    ids=lambda change: "-".join(change),
)
def test_names_and_places_do_not(change: dict[str, Any]) -> None:
    """What a model is called, where it lies and which ladder it is on leave the id as it is."""
    model = SPEC.model.model_copy(update=change)
    assert SPEC.model_copy(update={"model": model}).trial_id == SPEC.trial_id


def test_equal_folders_are_one_model() -> None:
    """Two folders with the same files are the same model, whatever they are called."""
    one, two = (
        ModelRef(name=name, kind="folder", id=name, revision="a" * 64, path=f"/models/{name}") for name in ("a", "b")
    )
    assert one.identity() == two.identity()


def test_survives_storage() -> None:
    """A spec read back from its JSON has the id it was stored under."""
    assert TrialSpec.model_validate_json(SPEC.model_dump_json()).trial_id == SPEC.trial_id
    assert TrialSpec.model_validate(json.loads(SPEC.model_dump_json())).trial_id == SPEC.trial_id


def test_numbers_equal_in_yaml_are_one_setting() -> None:
    """`3` and `3.0` epochs, `5e-5` and `0.00005` are one trial."""
    ids = {
        SPEC.model_copy(update={"training": Training.model_validate(settings)}).trial_id
        for settings in ({"epochs": 3, "learning_rate": "5e-5"}, {"epochs": 3.0, "learning_rate": 0.00005})
    }
    assert len(ids) == 1
