"""A large store of fake trials, made quickly: for measuring how fast results are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.performance.store_writers import seal_row
from wtsbench.contract.schemas import TABLES
from wtsbench.store.engine.database import insert
from wtsbench.store.engine.tables import ATTEMPT, LEDGER
from wtsbench.store.engine.transaction import Engine
from wtsbench.store.folder import DATABASE, FolderStore
from wtsbench.store.lock import locked

SEEDS, STRATEGIES, PAIRS = 5, 8, 10
"""Of each task: 8 strategies on 10 pairs of models, 5 seeds each, which are 500 trials."""
TRIALS_OF_A_TASK = PAIRS * SEEDS * (STRATEGIES + 2)
_GRID = "fakes"


def fake_store(folder: Path, *, tasks: int, items: int) -> tuple[int, int]:
    """Make a store of a grid whose trials are all done.

    Args:
        folder: where there is nothing yet.
        tasks: of 500 trials each.
        items: of each task's test split, with two classes.

    Returns:
        Trials, and predictions in all.
    """
    store = FolderStore(folder)
    store.open(create=True)
    cells = []
    for task in range(tasks):
        digest = _name("data", task)
        ids = [f"{number:06d}" for number in range(items)]
        columns = {
            "data_digest": [digest] * items,
            "item_id": ids,
            "group_id": ids,
            "split": ["test"] * items,
            "text": ["x"] * items,
            "label": [number % 2 for number in range(items)],
            "target": [None] * items,
        }
        table = pa.table(columns, schema=TABLES["items"])
        store.put_dataset(
            data_digest=digest, task=f"task-{task}", labels=["no", "yes"], metric="accuracy", report={}, items=table
        )
        cells += list(_cells(task, digest))
    store.put_grid(name=_GRID, grid_digest=_GRID, yaml="", cells=cells)
    trials = {}
    for cell in cells:
        for role in ("weak", "ceiling", "student"):
            trials[cell[f"{role}_trial"]] = (role, cell)
    ended = {
        trial_id: {
            "role": role,
            "task": cell["task"],
            "model": cell["weak" if role == "weak" else "strong"],
            "strategy": cell["strategy"] if role == "student" else None,
            "seed": cell["seed"],
            "data_digest": cell["data_digest"],
        }
        for trial_id, (role, cell) in trials.items()
    }
    with locked(folder, shared=False), Engine.open(folder / DATABASE, read_only=False) as engine:
        put_done(engine, ended, items)
        for first in range(1, len(trials) + 1, 100):  # a trial at a time, as they come in life
            engine.connection.execute(
                "INSERT INTO predictions_rows BY NAME SELECT key, 'test' AS split, printf('%06d', item) AS item_id,"
                " CASE WHEN (item % 2 = 1) = (hash(key * 1000003 + item) % 100 < 60 + key % 30)"
                " THEN [0.25, 0.75] ELSE [0.75, 0.25] END::DOUBLE[] AS probabilities"
                " FROM range(?, ?) AS k(key), range(?) AS i(item) ORDER BY key, item",
                [first, min(first + 100, len(trials) + 1), items],
            )
    return len(trials), len(trials) * items


def put_done(engine: Engine, trials: Mapping[str, Mapping[str, Any]], items: int) -> None:
    """Add fake trials that are done, by id with what their rows say, as if each had predicted so many items."""
    keys = pa.table({"key": range(1, len(trials) + 1), "trial_id": list(trials), "attempt": [1] * len(trials)})
    insert(engine.connection, "attempt_keys", keys)
    insert(engine.connection, "done", keys.drop_columns(["attempt"]))
    numbers = keys["key"].to_pylist()
    insert(engine.connection, "ledger", pa.concat_tables(_ledger(numbers, record, items) for record in (1, 2)))
    ended = [
        seal_row(trial_id, **said, records=2, records_digest=_name("records", trial_id))
        for trial_id, said in trials.items()
    ]
    sealed = pa.Table.from_batches(ended).drop_columns(list(ATTEMPT)).append_column("key", keys["key"])
    insert(engine.connection, "trials_rows", sealed)


def _ledger(keys: list[int], sequence: int, items: int) -> pa.Table:
    """A record of each attempt: the first its predictions, the second its seal."""
    table, rows = ("predictions", items) if sequence == 1 else ("trials", 1)
    columns = {
        "key": keys,
        "sequence": [sequence] * len(keys),
        "table_name": [table] * len(keys),
        "row_count": [rows] * len(keys),
        "digest": [_name(table, key) for key in keys],
    }
    return pa.table(columns, schema=LEDGER)


def _cells(task: int, digest: str) -> Iterator[dict[str, Any]]:
    for pair in range(PAIRS):
        for seed in range(SEEDS):
            for strategy in range(STRATEGIES):
                yield {
                    "task": f"task-{task}",
                    "weak": f"weak-{pair}",
                    "strong": f"strong-{pair}",
                    "strategy": f"strategy-{strategy}",
                    "seed": seed,
                    "weak_trial": _name("weak", task, pair, seed),
                    "ceiling_trial": _name("ceiling", task, pair, seed),
                    "student_trial": _name("student", task, pair, seed, strategy),
                    "data_digest": digest,
                }


def _name(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
