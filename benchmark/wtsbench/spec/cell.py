"""A cell of a grid: what a plan asks for, the store keeps and tables are made of."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from wtsbench.json_text import parsed
from wtsbench.spec.identity import canonical_json

Run = tuple[int | None, int]
"""Data seed (None where the grid has one draw of the training items alone) and seed of a cell."""


def repeated(runs: Iterable[Run]) -> tuple[int, str]:
    """How often something was measured, and what was repeated: draws of the training items, else seeds."""
    every = set(runs)
    drawn = {data_seed for data_seed, _ in every if data_seed is not None}
    return (len(drawn), "draw") if drawn else (len(every), "seed")


def weight(runs: Iterable[Run]) -> float:
    """Effective number of seeds behind a mean over draws of the means over each draw's seeds.

    It is the number of runs, or less if draws have unequal numbers of seeds, as each draw has the same weight.
    """
    every = set(runs)
    sizes = Counter(data_seed for data_seed, _ in every)
    return len(sizes) ** 2 / sum(1 / size for size in sizes.values())


class Cell(NamedTuple):
    """One student or control of a grid and the two trials that its score is compared with."""

    task: str
    weak: str
    strong: str
    strategy: str
    """Label of the strategy, or name of the control."""
    seed: int
    weak_trial: str
    ceiling_trial: str
    student_trial: str
    data_digest: str
    kind: Literal["strategy", "control"] = "strategy"
    others: tuple[str, ...] = ()
    """Further trials that the student comes from, sorted: stages between, and supervisors beside the weak one."""
    data_seed: int | None = None
    """Which draw of the training items; None where the grid has one alone."""

    @property
    def trials(self) -> dict[str, str]:
        """Trial ids by role: weak, ceiling, student."""
        return {"weak": self.weak_trial, "ceiling": self.ceiling_trial, "student": self.student_trial}

    @property
    def every_trial(self) -> tuple[str, ...]:
        """Ids of all trials behind it, parents first."""
        return (self.weak_trial, self.ceiling_trial, *self.others, self.student_trial)

    @property
    def run(self) -> Run:
        """Data seed and seed: what cells of one row differ in, and cells of two rows are paired by."""
        return self.data_seed, self.seed

    def record(self) -> dict[str, Any]:
        """The cell as the store keeps it."""
        record = self._asdict()
        if self.data_seed is None:
            del record["data_seed"]
        return record

    @classmethod
    def listed(cls, text: str) -> tuple[Cell, ...]:
        """The cells of a submission, as the store has them; what only a later version of wtsbench knows is left out.

        Args:
            text: records in a JSON list. A store takes from its clients whatever they send.

        Raises:
            ValueError: it is no such list.
        """
        records = parsed(text)
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise ValueError("it is no list of cells")
        known = [{name: record[name] for name in cls._fields if name in record} for record in records]
        return _CELLS.validate_python(known)


_CELLS: TypeAdapter[tuple[Cell, ...]] = TypeAdapter(tuple[Cell, ...])


def grid_digest(name: str, cells: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of what was asked, in canonical JSON: the grid's name and its cells, as `Cell.record` gives them."""
    hasher = hashlib.sha256(b'{"cells":[')
    for number, cell in enumerate(cells):
        asked = {key: value for key, value in cell.items() if key != "others"}  # the student's id says them
        # Of texts and whole numbers under plain names this is canonical JSON, and there may be a million cells.
        text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        hasher.update((b"," if number else b"") + text.encode())
    hasher.update(b'],"name":' + canonical_json(name) + b"}")
    return hasher.hexdigest()
