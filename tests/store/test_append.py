"""Records go in exactly once, and an attempt's rows appear all together."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter

import pyarrow as pa
import pytest

from tests.store.making import batch, predictions, seal, trial_id_of, whole_attempt
from tests.store.servers import any_store
from wtsbench.contract.digests import content_digest
from wtsbench.contract.schemas import LOGS, TABLES
from wtsbench.errors import ExitCode, StoreError
from wtsbench.store.arrival import StoreConflict
from wtsbench.store.client import Store

store = any_store
A, B = trial_id_of("a"), trial_id_of("b")


def _visible(store: Store, *trial_ids: str) -> dict[str, int]:
    tables = {
        "trials": store.trials(trial_ids),
        "predictions": store.predictions(trial_ids),
        "metrics": store.metrics(trial_ids),
        "logs": pa.concat_tables([store.logs(trial_id) for trial_id in trial_ids]),
    }
    return {name: table.num_rows for name, table in tables.items()}


NOTHING = {"trials": 0, "predictions": 0, "metrics": 0, "logs": 0}
WHOLE = {"trials": 1, "predictions": 2, "metrics": 1, "logs": 1}


def _outcomes(store: Store, *batches: object) -> list[str]:
    return [ack.outcome for ack in store.append(batches)]  # type: ignore[arg-type]


def test_nothing_of_an_attempt_shows_before_its_seal(store: Store) -> None:
    """Rows are stored as they come and become visible together with the trials row."""
    for record in whole_attempt(A, 1)[:-1]:
        assert _outcomes(store, record) == ["stored"]
        assert _visible(store, A) == NOTHING
        assert not store.sealed(A, 1)
    assert _outcomes(store, whole_attempt(A, 1)[-1]) == ["stored"]
    assert _visible(store, A) == WHOLE
    assert store.sealed(A, 1)


def test_what_goes_in_comes_out(store: Store) -> None:
    """Every column of every record table survives, nulls, times and lists included, in its schema."""
    filled = batch(
        "trials", A, 1, 3, [{"status": "failed", "failure_class": "timeout", "git_dirty": False, "threads": 2}]
    )
    metrics = batch("metrics", A, 1, 1, [{"name": "loss", "step": 3, "value": float("nan")}, {"name": "accuracy"}])
    logs = batch("logs", A, 1, 2, [{"line": 1, "text": "'; DROP TABLE trials; -- \u2603\0"}, {"line": 2, "text": ""}])
    store.append([metrics, logs, filled])
    (trial,) = store.trials().to_pylist()
    assert re.fullmatch("[0-9a-f]{64}", trial["records_digest"])
    assert [{**trial, "records_digest": None}] == filled.data.to_pylist()
    assert store.logs(A).to_pylist() == logs.data.to_pylist()
    read = store.metrics([A]).to_pylist()
    assert [(row["name"], row["step"]) for row in read] == [("accuracy", None), ("loss", 3)]
    assert read[0]["value"] is None
    assert read[1]["value"] != read[1]["value"]
    for name, table in {"trials": store.trials(), "metrics": store.metrics([A]), "logs": store.logs(A)}.items():
        assert table.schema.equals(TABLES[name])


@pytest.mark.parametrize("status", ["done", "failed"])
def test_a_seal_that_comes_first_shows_nothing_until_the_rest_is_there(store: Store, status: str) -> None:
    """A seal counts its attempt's records: all are taken in any order, and the last of them makes it visible."""
    records = whole_attempt(A, 1, status=status)
    for record in (records[3], records[1], records[0]):
        assert _outcomes(store, record) == ["stored"]
        assert _visible(store, A) == NOTHING
        assert not store.sealed(A, 1)
    assert _outcomes(store, records[3]) == ["duplicate"]
    with pytest.raises(StoreConflict, match="another record has ended"):
        store.append([seal(A, 1, 5)])
    assert _outcomes(store, records[2]) == ["stored"]
    assert _visible(store, A) == {**WHOLE, "predictions": 2 if status == "done" else 0}
    assert store.sealed(A, 1)
    with pytest.raises(StoreConflict, match="has ended"):
        store.append([predictions(A, 1, 5, "late")])


def test_a_seal_that_counts_too_few_records_is_refused(store: Store) -> None:
    """What it would leave out is there: somebody counts wrongly."""
    store.append(whole_attempt(A, 1)[:3])
    with pytest.raises(StoreConflict, match="3 records, and 4 are there"):
        store.append([seal(A, 1, 4, records=3)])
    assert _outcomes(store, seal(A, 1, 4)) == ["stored"]


def test_an_attempt_whose_seal_came_first_is_superseded_like_others(store: Store) -> None:
    """Where another attempt is done before the rest comes, nothing of it stays."""
    store.append(whole_attempt(A, 2)[3:])
    store.append(whole_attempt(A, 1))
    assert _outcomes(store, *whole_attempt(A, 2)[:3]) == ["superseded"] * 3
    assert store.sealed(A, 2)
    assert store.trials([A])["attempt"].to_pylist() == [1]
    assert _outcomes(store, *whole_attempt(A, 2)) == ["superseded"] * 4


def test_the_same_record_twice_is_one(store: Store) -> None:
    """A repeated record is acknowledged as a duplicate, in one call or in several, and stored once."""
    records = whole_attempt(A, 1)
    assert _outcomes(store, *records, *records) == ["stored"] * 4 + ["duplicate"] * 4
    assert _outcomes(store, *reversed(records)) == ["duplicate"] * 4
    assert _visible(store, A) == WHOLE


def test_the_order_within_a_call_does_not_matter(store: Store) -> None:
    """Records that arrive together may arrive in any order; acknowledgements keep it."""
    for number, order in enumerate(itertools.islice(itertools.permutations(range(4)), 3, None, 5)):
        trial_id = trial_id_of(str(number))
        records = [whole_attempt(trial_id, 1)[index] for index in order]
        assert [ack.sequence for ack in store.append(records)] == [record.sequence for record in records]
        assert _visible(store, trial_id) == WHOLE


def test_the_same_key_with_other_content_is_a_conflict_and_changes_nothing(store: Store) -> None:
    """A conflict refuses all of its call: what came with it is not stored either."""
    store.append(whole_attempt(A, 1)[:1])
    with pytest.raises(StoreConflict, match="other content") as error:
        store.append([*whole_attempt(B, 1), predictions(A, 1, 1, "z")])
    assert error.value.exit_code is ExitCode.UNREACHABLE
    assert _visible(store, A, B) == NOTHING
    assert (
        _outcomes(store, *whole_attempt(B, 1), *whole_attempt(A, 1)) == ["stored"] * 4 + ["duplicate"] + ["stored"] * 3
    )


def test_nothing_can_be_added_to_an_attempt_that_has_ended(store: Store) -> None:
    """A late record is refused, whether the attempt failed, was done or was superseded; repeats are not late."""
    store.append([*whole_attempt(A, 1), *whole_attempt(A, 2, status="failed"), *whole_attempt(A, 3)])
    for attempt in (1, 2, 3):
        with pytest.raises(StoreConflict, match="has ended"):
            store.append([predictions(A, attempt, 5, "late")])
        with pytest.raises(StoreConflict, match="has ended"):
            store.append([seal(A, attempt, 6)])
    assert _outcomes(store, whole_attempt(A, 2, status="failed")[0]) == ["duplicate"]


def test_one_attempt_of_a_trial_is_done_and_a_second_is_superseded(store: Store) -> None:
    """The attempt that is done first stays; the rows of the other are dropped, and its courier may forget them."""
    assert _outcomes(store, *whole_attempt(A, 2)) == ["stored"] * 4
    assert _outcomes(store, *whole_attempt(A, 1)[:2]) == ["stored"] * 2
    assert _outcomes(store, *whole_attempt(A, 1)[2:]) == ["superseded"] * 2
    assert _outcomes(store, *whole_attempt(A, 1)) == ["superseded"] * 4
    assert _visible(store, A) == WHOLE
    assert store.trials([A])["attempt"].to_pylist() == [2]
    assert store.sealed(A, 1)


def test_failed_attempts_stay_beside_the_one_that_is_done(store: Store) -> None:
    """A failure is a row, before and after success; predictions are those of the attempt that is done."""
    store.append([*whole_attempt(A, 1, status="failed"), *whole_attempt(A, 2), *whole_attempt(A, 3, status="failed")])
    assert store.trials([A])["status"].to_pylist() == ["failed", "done", "failed"]
    assert set(store.predictions([A])["attempt"].to_pylist()) == {2}
    assert store.metrics([A])["attempt"].to_pylist() == [1, 2, 3]
    assert store.logs(A, 3).num_rows == 1


def test_two_attempts_done_in_one_call_are_one(store: Store) -> None:
    """Within a transaction, too, one of them is superseded."""
    outcomes = _outcomes(store, seal(A, 1, 1), seal(A, 2, 1))
    assert Counter(outcomes) == {"stored": 1, "superseded": 1}
    assert store.trials([A]).num_rows == 1


def test_attempts_are_numbered_by_the_store_and_listed_when_begun(store: Store) -> None:
    """Numbers count from one by trial, and skip attempts whose records came from elsewhere."""
    assert [store.begin_attempt(A, run="r"), store.begin_attempt(A, run="r"), store.begin_attempt(B, run="s")] == [
        1,
        2,
        1,
    ]
    store.append([seal(B, 7, 1, "failed")])
    assert store.begin_attempt(B, run="s") == 8
    listed = store.attempts().select(["trial_id", "attempt", "run"]).to_pylist()
    assert [(row["trial_id"], row["attempt"], row["run"]) for row in listed] == sorted(
        [(A, 1, "r"), (A, 2, "r"), (B, 1, "s"), (B, 8, "s")]
    )
    assert store.attempts([B])["attempt"].to_pylist() == [1, 8]


def test_a_batch_that_is_no_record_is_refused(store: Store) -> None:
    """The store trusts nobody: unknown tables, newer versions, other columns and others' rows are errors."""
    good = batch("logs", A, 1, 1, [{"line": 1}])
    other = pa.RecordBatch.from_pylist([{"trial_id": A, "attempt": 1}])
    bad = [
        dataclasses.replace(good, table="items"),
        dataclasses.replace(good, schema_version=99),
        dataclasses.replace(good, data=other),
        dataclasses.replace(good, trial_id=B),
        dataclasses.replace(good, attempt=2),
        batch("trials", A, 1, 1, [{"status": "done"}, {"status": "done"}]),
        batch("trials", A, 1, 1, [{"status": "perhaps"}]),
        batch("trials", A, 1, 1, [{"status": "done", "records": None}]),
        dataclasses.replace(
            good, data=pa.RecordBatch.from_arrays([pa.nulls(1, field.type) for field in LOGS], schema=LOGS)
        ),
    ]
    for one in bad:
        with pytest.raises(StoreError):
            store.append([good, one])
    assert _outcomes(store, good) == ["stored"]


def test_records_without_rows_are_records(store: Store) -> None:
    """A record may be empty; it is in the ledger like others."""
    empty = batch("predictions", A, 1, 1, [])
    assert empty.digest == content_digest("predictions", empty.data)
    assert _outcomes(store, empty) == ["stored"]
    assert _outcomes(store, empty) == ["duplicate"]


def test_appending_nothing_asks_nothing_of_the_store(store: Store) -> None:
    """No records, no acknowledgements."""
    assert store.append([]) == []
