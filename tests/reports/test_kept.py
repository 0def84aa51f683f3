"""Tables kept between runs: the same leaderboard with and without them, and never one of other trials or other code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tests.reports.worlds import MemoryStore, World, simple
from tests.store.making import whole_attempt
from tests.store.servers import asking_with, serving, token_in
from wtsbench.contract.operations import RunReport
from wtsbench.reports import kept as kept_module
from wtsbench.reports.kept import KeptTables
from wtsbench.reports.leaderboard import leaderboard
from wtsbench.reports.renderers import FORMS, render
from wtsbench.reports.rows import Leaderboard
from wtsbench.store.client import Store, open_store

QUICK = 200


def small() -> World:
    """One task and pair, two strategies, three seeds."""
    return simple({"naive": 0.7, "logconf": 0.8}, items=60)


class Watched(MemoryStore):
    """A store in memory, and how often its predictions were asked for."""

    reads = 0

    def predictions(self, trial_ids: Sequence[str], *, splits: Sequence[str] | None = None) -> pa.Table:
        """Predictions, counted."""
        self.reads += 1
        return super().predictions(trial_ids, splits=splits)


def board_of(world: World, kept: KeptTables, *, resamples: int = QUICK) -> tuple[Leaderboard, bool]:
    """A leaderboard, and whether predictions were read for it."""
    store = Watched(world, None)
    board = leaderboard(store, resamples=resamples, kept=kept)
    return board, store.reads > 0


@pytest.fixture
def kept(tmp_path: Path) -> KeptTables:
    """An empty cache."""
    return KeptTables(tmp_path / "reports")


def test_warm_is_cold_byte_for_byte_and_reads_no_prediction(kept: KeptTables) -> None:
    """What is kept gives the text that was computed, in every format, and needs no prediction."""
    plain = leaderboard(small().memory(), resamples=QUICK)
    cold, read = board_of(small(), kept)
    assert read
    warm, read = board_of(small(), kept)
    assert not read
    assert warm == cold == plain
    for form in FORMS:
        assert render(warm, form, details=True) == render(plain, form, details=True)


def test_records_are_those_of_dataclasses() -> None:
    """The quick ways to JSON give what `asdict` and `json.dumps` give, in the same order, and share nothing.

    A number may be written in another way, as 1e-6 and not 1e-06.
    """
    world = small()
    _fail_a_student(world)
    world.datasets[0]["labels"] = ['n\u00e9 "{"', "line\nbreak"]
    board = leaderboard(world.memory(), resamples=QUICK)
    assert json.dumps(board.records()) == json.dumps([asdict(row) for row in board.rows])
    whole = json.dumps(board.records(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    in_order = partial(json.loads, object_pairs_hook=list)
    assert in_order(render(board, "json")) == in_order(whole)
    assert render(Leaderboard(rows=()), "json") == "[]\n"
    board.records()[0]["metrics"].clear()
    assert board.rows[0].metrics


def test_a_failure_and_a_missing_seed_are_kept_too(kept: KeptTables) -> None:
    """Rows without numbers come back as they were, failures included."""
    world = small()
    _fail_a_student(world)
    cold, _ = board_of(world, kept)
    assert any(row.failures for row in cold.rows)
    warm, read = board_of(world, kept)
    assert not read
    assert warm == cold


def _fail_a_student(world: World) -> None:
    row = next(row for row in world.trials if row["role"] == "student")
    row |= {"status": "failed", "failure_class": "oom", "failure_message": "out of memory"}
    world.predictions = [line for line in world.predictions if line["trial_id"] != row["trial_id"]]


@pytest.mark.parametrize(
    "changed", ["ending", "attempt", "execution", "failure", "cells", "dataset", "resamples", "code"]
)
def test_whatever_decides_a_table_decides_its_key(
    changed: str, kept: KeptTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another ending, execution, cell, data set, number of resamples or code is another table."""
    world = small()
    if changed == "failure":
        _fail_a_student(world)
    board_of(world, kept)
    before = sorted(path.name for path in kept.folder.iterdir())
    student = next(row for row in world.trials if row["role"] == "student")
    resamples = QUICK
    if changed == "ending":
        _fail_a_student(world)
    elif changed == "attempt":
        for row in [student, *(line for line in world.predictions if line["trial_id"] == student["trial_id"])]:
            row["attempt"] = 2
    elif changed == "execution":
        student["records_digest"] = "another"
    elif changed == "failure":
        student["failure_message"] = "another reason"
    elif changed == "cells":
        cells = json.loads(world.grids[0]["cells"])
        world.grids[0]["cells"] = json.dumps(cells[:-1])
    elif changed == "dataset":
        world.datasets[0]["metric"] = "f1"
    elif changed == "resamples":
        resamples += 1
    else:
        monkeypatch.setattr(kept_module, "_code", lambda: "other code")
    board, _ = board_of(world, kept, resamples=resamples)
    assert board == leaderboard(world.memory(), resamples=resamples)
    assert len(list(kept.folder.iterdir())) > len(before)


def test_a_table_is_not_kept_where_the_store_does_not_say_what_its_trials_recorded(kept: KeptTables) -> None:
    """Without the digest of an attempt's records, the same key might be another's."""
    world = small()
    world.trials[0]["records_digest"] = None
    for _ in range(2):
        board, read = board_of(world, kept)
        assert read
        assert board == leaderboard(world.memory(), resamples=QUICK)
    assert not kept.folder.exists()


def test_other_predictions_under_the_same_names_and_times_are_another_table(kept: KeptTables, tmp_path: Path) -> None:
    """Two stores with an attempt of the same trial, number, host and time, and other predictions in it."""
    one, two = small(), small()
    for line in two.predictions:
        if line["trial_id"] == next(row["trial_id"] for row in two.trials if row["role"] == "student"):
            line["probabilities"] = [0.8, 0.2]
    first, second = (
        leaderboard(world.folder(tmp_path / name), resamples=QUICK, kept=kept)
        for name, world in (("one", one), ("two", two))
    )
    assert second.rows == leaderboard(two.memory(), resamples=QUICK).rows
    assert second != first


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", "renamed"])
def test_a_damaged_or_foreign_file_counts_as_none(damage: str, kept: KeptTables) -> None:
    """A file that is not what was written under its name is not read, and is replaced."""
    cold, _ = board_of(small(), kept)
    other = small()
    other.trials[0]["records_digest"] = "another"
    board_of(other, kept)
    paths = sorted(kept.folder.iterdir())
    wholes = [path.read_bytes() for path in paths]
    for path, whole, next_one in zip(paths, wholes, [*wholes[1:], wholes[0]], strict=True):
        path.write_bytes(
            {
                "empty": b"",
                "cut": whole[:-10],
                "flipped": whole[:-10] + b"0" + whole[-9:],
                "foreign": b'{"rows": []}',
                "renamed": next_one,
            }[damage]
        )
    again, _ = board_of(small(), kept)
    assert again == cold
    warm, read = board_of(small(), kept)
    assert warm == cold
    assert not read


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """Where a file stands in the folder's place, the leaderboard is computed as without it."""
    (tmp_path / "reports").write_text("a file")
    board, read = board_of(small(), KeptTables(tmp_path / "reports"))
    assert read
    assert board == leaderboard(small().memory(), resamples=QUICK)


def test_what_nobody_uses_is_removed(kept: KeptTables) -> None:
    """A file that was not read for a month goes when a new one comes."""
    kept.folder.mkdir()
    old = kept.folder / "old.json"
    old.write_text("x")
    os.utime(old, (0, 0))
    board_of(small(), kept)
    assert not old.exists()
    assert any(kept.folder.iterdir())


@contextmanager
def reading(folder: Path, *, served: bool) -> Iterator[Store]:
    """The store in a folder, by the folder or through a server that serves it meanwhile."""
    if not served:
        yield open_store(str(folder))
        return
    with serving(folder) as running, asking_with(token_in(folder, "read")):
        yield open_store(running.listen)


@pytest.mark.parametrize("served", [False, True])
def test_rows_that_were_changed_behind_the_stores_back_are_another_table(
    served: bool, kept: KeptTables, tmp_path: Path
) -> None:
    """Two readers, with and without kept tables, see the same: what is in the store, and not what was in it before."""
    folder = Path(small().folder(tmp_path).uri)
    with reading(folder, served=served) as store:
        first = leaderboard(store, resamples=QUICK, kept=kept)
        assert leaderboard(store, resamples=QUICK, kept=kept) == first
    path = folder / "store.duckdb"
    for change in ("predictions_rows SET probabilities = [0.8, 0.2]", "items SET label = 1 - label"):
        status = path.stat()
        with duckdb.connect(str(path)) as database:
            database.execute(f"UPDATE {change}")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        with reading(folder, served=served) as store:
            changed = leaderboard(store, resamples=QUICK, kept=kept)
            assert changed == leaderboard(store, resamples=QUICK) != first


def test_stored_rows_are_read_once_where_nothing_was_written(
    kept: KeptTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warm leaderboard reads no row of predictions while no record is written; of a served store it does."""
    asked: list[int] = []
    contents = Store.contents

    def counted(store: Store, trial_ids: Any) -> dict[str, str]:
        asked.append(len(trial_ids))
        return contents(store, trial_ids)

    monkeypatch.setattr(Store, "contents", counted)
    store = small().folder(tmp_path)
    boards = [leaderboard(store, resamples=QUICK, kept=kept)]
    attempt = store.begin_attempt("0" * 64, run="other", lease=True)
    store.renew("0" * 64, attempt, share=0.5, lines=["a line"], first=1)
    store.report_run(RunReport(run="other", grid="other"))
    boards.append(leaderboard(store, resamples=QUICK, kept=kept))
    assert len(asked) == 1
    assert boards[0] == boards[1]
    store.append(whole_attempt("0" * 64, attempt))
    assert leaderboard(store, resamples=QUICK, kept=kept) == boards[0]
    assert len(asked) == 2
    with serving(Path(store.uri)) as running, asking_with(token_in(Path(store.uri), "read")):
        asked.clear()
        assert leaderboard(open_store(running.listen), resamples=QUICK, kept=kept) == boards[0]
        assert len(asked) == 1
