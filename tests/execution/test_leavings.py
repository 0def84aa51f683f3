"""Whatever a trial leaves in its folders can fail that trial and nothing else: it is swept, delivered and cleared away.

`make faults` tries more of it than CI does.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.execution.test_sweep import begun, predict, spec, store  # noqa: F401  # fixtures
from tests.execution.test_untrusted import in_time
from tests.leavings import EXAMPLES, LEAVINGS, Leaving, leave, nested
from wtsbench.execution.gc import clear, find
from wtsbench.execution.spool import AttemptFolder, attempt_folders, require_room, sandbox_folder
from wtsbench.execution.supervise import sweep
from wtsbench.sandbox import log
from wtsbench.sandbox.container import fit_user
from wtsbench.sandbox.staging import ContainerFolder, Staged
from wtsbench.settings import spool_folder
from wtsbench.spec.trial import TrialSpec
from wtsbench.store.client import Store

FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # what is found is small, and each try takes half a second
)


@pytest.fixture(autouse=True)
def _places_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine, and all folders that `gc` looks into are the test's, so that it sees what the test made alone."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WTSBENCH_MANIFESTS", str(tmp_path / "manifests"))
    monkeypatch.delenv("WTSBENCH_SPOOL", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A file that is nobody's leaving."""
    path = tmp_path / "precious"
    path.write_text("as it was")
    yield path
    assert path.read_text() == "as it was"


def ended(folder: AttemptFolder, store: Store, spool: Path) -> tuple[str, str | None]:  # noqa: F811
    """Status and class of failure of an attempt that a sweep ends; nothing of it is left then."""
    sealed = store.trials().num_rows
    ((note, _),) = in_time(lambda: sweep(spool, store))
    assert store.trials().num_rows == sealed + 1
    [row] = store.trials([note.job.trial_id]).to_pylist()[-1:]
    assert not folder.path.exists()
    assert attempt_folders(spool) == []
    assert [path for path in sandbox_folder(spool).iterdir() if path.is_dir()] == []
    return row["status"], row["failure_class"]


@pytest.mark.parametrize("what", ["name", "deep name", "depth", "replaced", "holes", "closed", "log"])
def test_a_leaving_fails_its_own_trial(
    what: str,
    spec: TrialSpec,  # noqa: F811
    store: Store,  # noqa: F811
    precious: Path,
    tmp_path: Path,
) -> None:
    """Names that are no text, thousands of folders, links and holes end an attempt, and the next one goes well."""
    spool = spool_folder(store.uri)
    folder, _, outbox = begun(spec, store, spool)
    predict(outbox, store, spec)
    folder.trial.result.write_text(json.dumps({"status": "done", "failure": None, "measurements": None}))
    expected: tuple[str, str | None] = ("failed", "trial_error")
    if what == "name":
        (folder.trial.outbox / os.fsdecode(b"\xff\xfe.arrow")).touch()
    elif what == "deep name":
        nested(b"\xff.arrow", 3000, 0)(folder.trial.outbox)
    elif what == "depth":
        nested(b"a" * 250, 1100, 0)(folder.trial.path / "scratch")
        nested(b"a", 1100, 0)(folder.trial.outbox)
        expected = ("done", None)
    elif what == "replaced":
        folder.trial.outbox.rename(folder.trial.path / "elsewhere")
        folder.trial.outbox.symlink_to(precious)
        expected = ("failed", "infrastructure")  # its supervisor is dead, and it left no result
    elif what == "holes":
        with (folder.trial.outbox / "big").open("wb") as file:
            file.truncate(2**42)
        require_room(spool)
        expected = ("done", None)
    elif what == "closed":
        folder.trial.outbox.chmod(0)
        folder.trial.path.chmod(0)
        expected = ("done", None)
    else:
        os.mkfifo(folder.trial.log)
        expected = ("done", None)
    assert in_time(lambda: find(store.uri)).leftovers[0].action == "deliver"
    assert ended(folder, store, spool) == expected


@pytest.mark.parametrize("what", ["pipe", "folder", "link", "nothing"])
def test_what_stands_in_the_place_of_a_log_is_no_log(what: str, precious: Path, tmp_path: Path) -> None:
    """While a trial runs its log is looked at again and again: nothing is waited for, followed or cut."""
    path = tmp_path / "log.txt"
    precious.write_bytes(bytes(log.LOG_BYTES + 1))
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to(precious)
    assert in_time(lambda: [log.bound(path), log.tail(path), log.lines(path)])[1:] == ["", []]  # type: ignore[func-returns-value]
    assert precious.stat().st_size == log.LOG_BYTES + 1
    precious.write_text("as it was")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.text("\0\ud800\x1b")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
RESULTS = st.one_of(
    st.just({"status": "done", "failure": None, "measurements": {"threads": 1}}),
    st.fixed_dictionaries({"status": st.sampled_from(["done", "failed"]), "failure": JSON, "measurements": JSON}),
    st.fixed_dictionaries(
        {
            "status": st.just("failed"),
            "failure": st.fixed_dictionaries(
                {"failure_class": st.sampled_from(["diverged", "trial_error", 7]), "message": st.text(), "detail": JSON}
            ),
        }
    ),
    JSON,
)
PLACES = st.sampled_from(["outbox", "scratch", "."])


@FUZZ
@given(leavings=st.lists(st.tuples(PLACES, LEAVINGS), max_size=6), result=RESULTS, gone=st.sampled_from([0, 1, 2, 3]))
def test_any_leavings_are_swept(
    leavings: list[tuple[str, Leaving]],
    result: object,
    gone: int,
    spec: TrialSpec,  # noqa: F811
    store: Store,  # noqa: F811
    precious: Path,
) -> None:
    """The attempt is a row with a class, the folder is gone, and what was to be cleared away is."""
    spool = spool_folder(store.uri)
    spec = spec.model_copy(update={"seed": store.attempts().num_rows})
    folder, _, outbox = begun(spec, store, spool)
    predict(outbox, store, spec)
    folder.trial.result.write_bytes(json.dumps(result).encode())
    if gone == 1:
        folder.trial.outbox.rename(folder.trial.path / "elsewhere")
        folder.trial.outbox.symlink_to(precious.parent)
    elif gone == 2:
        folder.trial.outbox.rename(folder.trial.path / "elsewhere")
        os.mkfifo(folder.trial.outbox)
    elif gone == 3:
        os.mkfifo(folder.trial.log)
    leave([(folder.trial.path / place, one) for place, one in leavings if place != "outbox" or gone not in (1, 2)])
    require_room(spool)
    in_time(lambda: [find(store.uri)])
    ended(folder, store, spool)


@FUZZ
@given(leavings=st.lists(st.tuples(PLACES, LEAVINGS), max_size=6))
def test_any_leavings_in_a_container_come_home(leavings: list[tuple[str, Leaving]]) -> None:
    """What a trial did to its folders inside a container keeps nobody from taking back an outbox that is a folder."""
    with tempfile.TemporaryDirectory() as name:
        home, place = Path(name, "trial"), Path(name, "place")
        for part in ("inputs", "outbox", "scratch"):
            (home / part).mkdir(parents=True)
        (home / "spec.json").write_text("{}")
        container = ContainerFolder.create(place)
        staged = Staged(home, place, fit_user(home))
        staged.enter(container)
        inside = container.outside / staged.inside.name
        leave([(inside / where, one) for where, one in leavings])
        in_time(lambda: [staged.leave])[0]()
        container.remove()
        assert (home / "outbox").is_dir()
        assert not (home / "outbox").is_symlink()
        assert sorted(path.name for path in place.iterdir()) == []


def test_a_finished_trial_is_delivered_by_gc_whatever_it_left(
    spec: TrialSpec,  # noqa: F811
    store: Store,  # noqa: F811
) -> None:
    """`gc --force` clears all of it."""
    spool = spool_folder(store.uri)
    makers: list[Callable[[AttemptFolder], object]] = [
        lambda folder: nested(b"\xff", 1100, 0)(folder.trial.outbox),
        lambda folder: (folder.trial.outbox / os.fsdecode(b"\xff.arrow")).touch(),
        lambda folder: nested(b"x" * 255, 1100, 0)(folder.trial.path / "scratch"),
    ]
    for make in makers:
        folder, _, outbox = begun(spec, store, spool)
        predict(outbox, store, spec)
        make(folder)
    told = clear(in_time(lambda: find(store.uri)), lambda _: None)
    assert [one.problem for one in told] == [None] * len(makers)
    assert store.trials()["status"].to_pylist() == ["failed"] * len(makers)
