"""What the parts of the benchmark share: what is asked of them, the figures they give, processes of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")
Size = Literal["quick", "usual", "large"]
"""How much is measured: for a look, for a comparison, and as docs/performance.md has it."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a part."""

    size: Size
    scratch: Path
    """A folder for whatever it writes, which is deleted in the end."""
    mlflow: str | None = None
    """The interpreter of an environment that has MLflow, to be measured beside the store."""

    def pick(self, *, quick: _T, usual: _T, large: _T) -> _T:
        """Of three values, the one for this size."""
        return {"quick": quick, "usual": usual, "large": large}[self.size]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number: a ratio of two things that were measured in the same run, so that machines compare."""

    name: str
    """Unique within its part."""
    what: str
    """What is divided by what."""
    value: float
    better: Literal["higher", "lower"]
    details: Mapping[str, float] = field(default_factory=dict)
    """What the ratio was made of, each with its unit at the end of its name."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A figure that this machine cannot give."""

    name: str
    why: str


Part = Callable[[Asked], Iterator[Figure | Missing]]


def apart(measure: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What a function returns in a process of its own: peak memory never falls, and settings of torch stay."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, *args, **kwargs).result()


def embedded(name: str) -> Path:
    """Folder of an embedded model, which is built where it is not there yet."""
    from wtsbench.models.embedded import recipe_digest
    from wtsbench.models.fetch import fetch
    from wtsbench.spec.trial import ModelRef

    return fetch(ModelRef(name=name, kind="embedded", id=name, revision=recipe_digest(name)))


def described(values: Mapping[str, Any]) -> dict[str, float]:
    """Details, rounded to what can be told from noise."""
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def peak_of(process: int | str) -> int:
    """Most bytes of memory that a process had so far.

    `ru_maxrss` is no measure of that: it begins with what the process had that started this one.
    """
    return peak_in(Path(f"/proc/{process}/status").read_text())


def peak_in(status: str) -> int:
    """The same, of the content of a process's `status`."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
