"""wtsbench: a benchmark suite for weak-to-strong generalization.

A grid is planned into content-addressed trials; an executor runs every trial that the store does not hold yet, each in
a sandbox; a courier delivers the records of its outbox exactly once to the store; a leaderboard is a pure function of
the store.

In Python, `open_store`, `leaderboard`, `compare`, `plan`, `submit` and `detach` do what the commands do; `wtsbench.api`
documents them. Importing the package imports nothing heavy: what a function needs is imported when it is called.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wtsbench.api import Comparisons, Leaderboard, Store, compare, detach, leaderboard, open_store, plan, submit

__version__ = "0.1.0.dev0"
__all__ = [
    "Comparisons",
    "Leaderboard",
    "Store",
    "__version__",
    "compare",
    "detach",
    "leaderboard",
    "open_store",
    "plan",
    "submit",
]


def __getattr__(name: str) -> Any:
    """A name of `wtsbench.api`, which is imported when the first of them is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("wtsbench.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
