"""What a trial asks for and a node has, as people write it."""

from __future__ import annotations

from wtsbench.execution.ray_executor import _in_words


def test_memory_is_no_bare_number() -> None:
    """Bytes are told with their unit, beside cores and GPUs."""
    assert _in_words({"CPU": 2.0, "GPU": 0.5, "memory": 500.0 * 2**30}) == "2 CPU, 0.5 GPU, 500 GiB of memory"
