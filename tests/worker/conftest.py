"""Fixtures that the tests of this room share with those of trials."""

from tests.trial.conftest import arithmetic_as_before, tiny_llama

__all__ = ["arithmetic_as_before", "tiny_llama"]
