"""Names of trials tell apart what is not the same."""

from __future__ import annotations

import pytest

from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.strategies import registry


@pytest.mark.parametrize("name", registry.names())
def test_defaults_are_left_out(name: str) -> None:
    """A strategy with its defaults is called by its name alone, though a trial's spec holds them all."""
    assert registry.short_label(registry.full_call(registry.resolve(StrategyCall(name=name)))) == name


def test_other_parameters_are_named() -> None:
    """Parameters that differ from the defaults are part of the name."""
    call = StrategyCall(name="logconf", parameters={"max_weight": 0.75, "labels": "soft"})
    assert registry.short_label(registry.full_call(registry.resolve(call))) == "logconf(max_weight=0.75)"


def test_unknown_strategy() -> None:
    """A strategy of a package that is gone keeps all its parameters in its name."""
    assert registry.short_label(StrategyCall(name="gone", parameters={"x": 1})) == "gone(x=1)"
