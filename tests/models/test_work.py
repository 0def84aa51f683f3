"""The estimate of a grid's time, against operations counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.planning.grids import plan_of
from wtsbench.models import work
from wtsbench.models.work import OVERHEAD, RATES, STEP, Size
from wtsbench.spec.generation import GenerationSettings
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.trial import ModelRef, Role, Split, TrialSpec

SIZES = {split: Size(items=0, characters=0) for split in Split}
SIZES |= {
    Split.WEAK_TRAIN: Size(items=100, characters=100 * 80),  # 20 tokens an item
    Split.TRANSFER: Size(items=200, characters=200 * 80),
    Split.VALIDATION: Size(items=10, characters=10 * 80),
    Split.TEST: Size(items=50, characters=50 * 4000),  # cut at `max_length`
}
LARGE = ModelRef(name="unheard-of", kind="hub", id="o/n", revision="r", parameters=1_000_000_000)


def spec_of(role: Role, **changes: Any) -> TrialSpec:
    """A trial of a grid of the planning tests, its model a large one."""
    training = {"epochs": 2, "batch_size": 16, "max_length": 64}
    trials = plan_of(tasks=["t1"], seeds=[0], strategies=["naive"], training=training).trials.values()
    spec = next(spec for spec in trials if spec.role is role)
    return spec.model_copy(update={"model": LARGE, **changes})


def operations(spec: TrialSpec) -> float:
    """Of one trial, as its seconds on a core say."""
    seconds = work.seconds(spec, SIZES, gpus=0)
    assert seconds is not None
    return (seconds - OVERHEAD["core"]) * RATES["core"]


PREDICTED = 2e9 * (200 * 20 + 10 * 20 + 50 * 64)


@pytest.mark.parametrize(
    ("role", "changes", "expected"),
    [
        (Role.CEILING, {}, 6e9 * 2 * 200 * 20 - 2e9 * 200 * 20),  # nobody reads what it says of `transfer`
        (Role.WEAK, {}, 6e9 * 2 * 100 * 20),
        (Role.STUDENT, {"strategy": StrategyCall(name="naive", parameters={"finetune": "lora"})}, 4e9 * 2 * 200 * 20),
        (Role.STUDENT, {"strategy": StrategyCall(name="naive", parameters={"finetune": "linear_probe"})}, 2e9 * 4000),
    ],
)
def test_training_and_predicting(role: Role, changes: dict[str, Any], expected: float) -> None:
    """Six operations a weight, token and epoch, four with LoRA, two once for a probe; two to predict."""
    assert operations(spec_of(role, **changes)) == pytest.approx(expected + PREDICTED)


def test_embeddings_are_looked_up() -> None:
    """A classifier's tokens are multiplied by its layers alone, 12 L H^2 weights; who writes multiplies by all."""
    minilm = ModelRef(name="minilm", kind="hub", id="o/n", revision="r", parameters=22_700_000)
    layers, everything = 12 * 6 * 384**2, 22_713_216
    large, small = operations(spec_of(Role.CEILING)), operations(spec_of(Role.CEILING, model=minilm))
    assert small == pytest.approx(large * layers / 1e9)
    settings = GenerationSettings(samples=5, samples_transfer=2, samples_validation=1, max_new_tokens=10)
    large, small = (
        operations(spec_of(Role.CEILING, form="generation", generation=settings, model=model))
        for model in (LARGE, minilm)
    )
    assert small == pytest.approx(large * everything / 1e9)


def test_asking_and_writing() -> None:
    """An untrained model reads an item once for each answer; texts are learned, written and judged."""
    asked = StrategyCall(name="prior", parameters={"answers": {"a": "x", "b": "y", "c": "z"}})
    assert operations(spec_of(Role.WEAK, recipe=asked)) == pytest.approx(3 * PREDICTED)
    settings = GenerationSettings(
        samples=5, samples_transfer=2, samples_validation=1, max_new_tokens=10, reference="gpt2"
    )
    found = operations(spec_of(Role.STUDENT, form="generation", generation=settings))
    learned = 6e9 * 2 * 2 * (200 * 20 + 200 * 10)
    read = PREDICTED - 2e9 * 200 * 20  # nobody reads what it would write of `transfer`
    written = 2e9 * 2 * (1 * 10 * 10 + 5 * 50 * 10)
    assert found == pytest.approx(learned + read + written)


def test_seconds() -> None:
    """Operations at the device's rate and a trial's overhead; on a GPU a step takes its time however small it is."""
    ceiling = spec_of(Role.CEILING)
    expected = OVERHEAD["GPU"] + operations(ceiling) / RATES["GPU"]
    assert work.seconds(ceiling, SIZES, gpus=1) == pytest.approx(expected)
    small = ceiling.model_copy(update={"model": LARGE.model_copy(update={"parameters": 10})})
    assert work.seconds(small, SIZES, gpus=0.5) == pytest.approx(OVERHEAD["GPU"] + STEP * 2 * 13)
    other = ceiling.model_copy(update={"model": LARGE.model_copy(update={"parameters": None})})
    assert work.seconds(other, SIZES, gpus=0) is None
