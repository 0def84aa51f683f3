"""The state of a store: another with every record, the same whatever is being run meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from tests.store.making import item_rows, trial_id_of, whole_attempt
from tests.store.servers import asking_with, serving, token_in
from tests.store.supervising import RUN, A, renewed, report
from wtsbench.store.client import Store, open_store
from wtsbench.store.folder import DATABASE
from wtsbench.store.state import NOTE
from wtsbench.store.wire import Held

B = trial_id_of("b")


def state_in(store: Store) -> str:
    """The store's state, as another process would see it."""
    state = open_store(store.uri).state
    assert state is not None
    return state


def operate(store: Store) -> None:
    """Everything that supervisors write and that is no record."""
    store.report_run(report(yaml="name: toy"))
    renewed(store, A, store.begin_attempt(A, run=RUN, lease=True), "one", "two")
    with pytest.raises(Held):
        store.begin_attempt(A, run="another", lease=True)
    store.cancel(RUN, [B])
    renewed(store, A, 1, "three", first=3)
    store.report_run(report(done=1))


def test_what_is_being_run_leaves_the_state_as_it_is(store: Store) -> None:
    """Attempts, leases, lines, reports and cancellations are no records; an attempt that ends is."""
    store.append(whole_attempt(B, store.begin_attempt(B, run=RUN)))
    before = state_in(store)
    operate(store)
    assert state_in(store) == before
    assert store.running().num_rows == 1
    states = {before}
    for status in ("failed", "done"):
        attempt = 1 if status == "failed" else store.begin_attempt(A, run=RUN, lease=True)
        store.append(whole_attempt(A, attempt, status=status))
        states.add(after := state_in(store))
        renewed(store, A, attempt, "late")
        store.report_run(report(done=2))
        assert state_in(store) == after
    assert len(states) == 3


def test_data_sets_and_submissions_change_the_state(store: Store) -> None:
    """Both decide what a leaderboard shows; written again, they change nothing."""
    states = [state_in(store)]
    for _ in range(2):
        store.put_dataset(
            data_digest="d" * 64, task="toy", labels=["a"], metric="acc", report={}, items=item_rows("d" * 64, ["one"])
        )
        states.append(state_in(store))
        store.report_run(report())
    for _ in range(2):
        store.put_grid(name="toy", grid_digest="g", yaml="name: toy", cells=[])
        states.append(state_in(store))
        store.report_run(report())
    assert states[0] != states[1] == states[2] != states[3] == states[4]


def test_changes_by_other_programs_change_the_state(store: Store) -> None:
    """Also just after a write that left it as it was, and if the note of that write is put back."""
    store.append(whole_attempt(B, store.begin_attempt(B, run=RUN)))
    operate(store)
    folder, states = Path(store.uri), [state_in(store)]
    note = (folder / NOTE).read_bytes()
    for value in (0.1, 0.2, 0.3):
        with duckdb.connect(str(folder / DATABASE)) as database:
            database.execute("UPDATE metrics_rows SET value = ?", [value])
        (folder / NOTE).write_bytes(note)
        states.append(state_in(store))
    renewed(store, A, 1, "four", first=4)
    assert state_in(store) == states[-1]
    assert len(set(states)) == 4


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe\x00"])
def test_a_damaged_note_counts_as_none(store: Store, damage: bytes) -> None:
    """The state then has another name, and keeps that one."""
    operate(store)
    before = state_in(store)
    (Path(store.uri) / NOTE).write_bytes(damage)
    after = state_in(store)
    renewed(store, A, 1, "four", first=4)
    assert state_in(store) == after != before


def test_a_copy_has_a_state_of_its_own(store: Store, tmp_path: Path) -> None:
    """Copied with the note, and written to since."""
    operate(store)
    shutil.copytree(store.uri, tmp_path / "copy")
    copy = open_store(str(tmp_path / "copy"))
    assert state_in(copy) != state_in(store)


def test_a_log_and_a_server_leave_no_wrong_state(store: Store) -> None:
    """What the engine's log still holds is not told; a server that wrote records meanwhile leaves another state."""
    operate(store)
    before = state_in(store)
    log = (Path(store.uri) / DATABASE).with_name(f"{DATABASE}.wal")
    log.touch()
    assert open_store(store.uri).state is None
    log.unlink()
    assert state_in(store) == before
    with serving(Path(store.uri)) as running, asking_with(token_in(Path(store.uri), "append")):
        served = open_store(running.listen)
        assert served.state is open_store(store.uri).state is None
        served.append(whole_attempt(A, 1))
    assert state_in(store) != before
