"""Several processes and threads share a store without losing, waiting for ever or falling over each other."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.making import seal, trial_id_of
from wtsbench.errors import SpecError
from wtsbench.store.client import Store, open_store
from wtsbench.store.lock import StoreBusy, locked

A = trial_id_of("a")
Child = Callable[..., subprocess.Popen[str]]


def _until_held(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_attempt_numbers_are_given_once_to_concurrent_processes(tmp_path: Path, child: Child) -> None:
    """Four processes make the store at once and take numbers of one trial: each number once, none left out."""
    processes = [child("begin", tmp_path / "store", A, 4) for _ in range(4)]
    numbers = [int(line) for process in processes for line in process.communicate()[0].split()]
    assert sorted(numbers) == list(range(1, 17))
    assert open_store(str(tmp_path / "store")).attempts([A]).num_rows == 16


def test_a_bounded_wait_ends_in_an_error_that_names_the_holder(
    store: Store, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers and writers wait for a writer only so long; when it is killed, the store is free at once."""
    holder = _until_held(child("hold", store.uri, "exclusive"))
    monkeypatch.setenv("WTSBENCH_STORE_LOCK_SECONDS", "0.1")
    for operation in (store.trials, lambda: store.begin_attempt(A, run="r")):
        with pytest.raises(StoreBusy, match=rf"for 0\.1 s by process {holder.pid} \(child\.py hold\) since") as error:
            operation()
        assert error.value.remedy
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert store.begin_attempt(A, run="r") == 1


def test_a_left_over_signature_is_not_taken_for_the_holder(
    store: Store, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a writer was killed, a writer that waits for a reader does not blame the dead."""
    dead = _until_held(child("hold", store.uri, "exclusive"))
    dead.kill()
    dead.wait()
    _until_held(child("hold", store.uri, "shared"))
    assert store.trials().num_rows == 0
    monkeypatch.setenv("WTSBENCH_STORE_LOCK_SECONDS", "0.1")
    with pytest.raises(StoreBusy, match="by other processes that read it"):
        store.begin_attempt(A, run="r")


def test_another_tool_that_holds_the_database_is_named(
    store: Store, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has the database open in DuckDB itself: the error says who, and it works again afterwards."""
    holder = _until_held(child("hold_database", store.uri))
    monkeypatch.setenv("WTSBENCH_STORE_LOCK_SECONDS", "0.1")
    with pytest.raises(StoreBusy, match=rf"PID {holder.pid}"):
        store.trials()
    holder.kill()
    holder.wait()
    assert store.trials().num_rows == 0


def test_readers_do_not_starve_a_writer(store: Store) -> None:
    """Readers whose turns overlap without a gap leave room for a writer all the same."""
    stop = threading.Event()
    reads = [0, 0, 0]

    def read(number: int) -> None:
        while not stop.is_set():
            with locked(Path(store.uri), shared=True):
                reads[number] += 1
                stop.wait(0.01)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(5):
            with locked(Path(store.uri), shared=False):
                before = list(reads)
                stop.wait(0.02)
                assert reads == before
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert min(reads) > 0


def test_threads_of_one_process_share_a_store(store: Store) -> None:
    """Writers and readers in threads see whole states only, and nothing is lost."""
    seen: list[int] = []
    faults: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for step in range(4):
                store.append([seal(trial_id_of(f"{number}-{step}"), 1, 1)])
                seen.append(store.trials().num_rows)
        except BaseException as fault:
            faults.append(fault)
            raise

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert store.trials().num_rows == 12
    assert all(1 <= count <= 12 for count in seen)


def test_who_gave_up_waiting_does_not_come_back_for_the_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting that ended leaves no lock behind, whoever waited and however often."""
    monkeypatch.setenv("WTSBENCH_STORE_LOCK_SECONDS", "0.05")
    with locked(Path(store.uri), shared=False):
        for shared in (True, False, True):
            with pytest.raises(StoreBusy), locked(Path(store.uri), shared=shared):
                raise AssertionError
    for waiting in [thread for thread in threading.enumerate() if thread.name == "wtsbench-store-lock"]:
        waiting.join()
    with locked(Path(store.uri), shared=False):
        pass


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_a_bad_limit_is_a_clear_error(store: Store, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The environment variable must be a number of seconds."""
    monkeypatch.setenv("WTSBENCH_STORE_LOCK_SECONDS", value)
    with pytest.raises(SpecError, match=f"WTSBENCH_STORE_LOCK_SECONDS is {value!r}"):
        store.trials()
