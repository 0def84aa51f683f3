"""Trial folders on their way into a container's folder and back, and what a crash in between leaves."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sandbox.trials import short_trial
from tests.trial.processes import wait_for
from wtsbench.errors import SandboxError
from wtsbench.sandbox.contained import ContainerChannel
from wtsbench.sandbox.container import Need, User, fit_user
from wtsbench.sandbox.lease import Renewal
from wtsbench.sandbox.leftovers import sweep_folders
from wtsbench.sandbox.staging import ContainerFolder, Staged, locked, reclaim


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    """A trial folder."""
    short_trial(tmp_path / "trial", tiny_model)
    return tmp_path / "trial"


@pytest.fixture
def container(tmp_path: Path) -> ContainerFolder:
    """The folder of a container, beside it."""
    return ContainerFolder.create(tmp_path / "place")


def staged(folder: Path, place: Path) -> Staged:
    """The trial folder, laid out."""
    return Staged(folder, place, fit_user(folder))


def test_a_trial_reads_what_was_given_and_writes_where_it_is_found(
    folder: Path, container: ContainerFolder, tiny_model: Path
) -> None:
    """Inputs and weights are the very files, not copies; what is written there is in the trial folder at once."""
    trial = staged(folder, container.path.parent)
    trial.enter(container)
    inside = container.inside / trial.inside.name

    assert inside.joinpath("spec.json").samefile(folder / "spec.json")
    assert inside.joinpath("inputs", "items.arrow").samefile(folder / "inputs" / "items.arrow")
    assert inside.joinpath("model", "config.json").samefile(tiny_model / "config.json")
    assert trial.mounts == {}
    out = container.outside / trial.inside.name
    (out / "outbox" / "result.json").write_text("{}")
    (out / "scratch" / "progress.json").write_text("{}")
    with (out / "log.txt").open("a") as log:
        log.write("said\n")
    assert (folder / "outbox" / "result.json").exists()
    assert (folder / "scratch" / "progress.json").exists()
    assert (folder / "log.txt").read_text() == "said\n"

    trial.leave()

    assert not (folder / "outbox").is_symlink()
    assert (folder / "outbox" / "result.json").exists()
    assert (folder / "log.txt").read_text() == "said\n"
    assert {path.name for path in container.path.rglob("*")} == {"in", "out", "lease"}
    assert {path.name for path in container.path.parent.iterdir()} == {container.path.name}


def test_weights_that_cannot_be_linked_are_mounted(
    folder: Path, container: ContainerFolder, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights on another file system are shown through a mount, fixed when the container is made."""
    link = os.link

    def refuse(source: Path, target: Path) -> None:
        if "model" in target.parts:
            raise OSError(18, "Invalid cross-device link")
        link(source, target)

    monkeypatch.setattr(os, "link", refuse)

    trial = staged(folder, container.path.parent)
    trial.enter(container)

    assert trial.mounts == {"/trial/model": tiny_model}
    assert (container.inside / trial.inside.name / "model").readlink() == Path("/trial/model")


class _KilledError(BaseException):
    """The supervisor is killed here."""


@pytest.mark.parametrize("step", range(1, 20))
def test_a_supervisor_may_be_killed_at_every_step(
    folder: Path, container: ContainerFolder, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whichever call of the system is its last, the outbox comes home whole, once, and a finished result with it."""
    calls = 0

    def counted(name: str) -> None:
        real: Callable[..., object] = getattr(Path, name)

        def call(self: Path, *arguments: object, **more: object) -> object:
            nonlocal calls
            calls += 1
            if calls == step:
                raise _KilledError
            return real(self, *arguments, **more)

        monkeypatch.setattr(Path, name, call)

    finished = False
    trial = staged(folder, container.path.parent)
    for name in ("rename", "symlink_to", "unlink"):
        counted(name)
    try:
        trial.enter(container)
        (folder / "outbox" / "result.json").write_text("done")
        finished = True
        trial.leave()
    except _KilledError:
        pass
    finally:
        monkeypatch.undo()

    sweep_folders(container.path.parent)
    for _ in range(2):
        reclaim(folder)
        assert not (folder / "outbox").is_symlink()
        assert not (folder / "scratch").is_symlink()
        assert [path.name for path in (folder / "outbox").iterdir()] == (["result.json"] if finished else [])
    sweep_folders(container.path.parent)
    assert not container.path.exists()


def test_a_running_trial_cannot_write_to_an_outbox_that_was_reclaimed(folder: Path, container: ContainerFolder) -> None:
    """After a sweep has brought the outbox home, the place where a late trial would write is gone."""
    trial = staged(folder, container.path.parent)
    trial.enter(container)

    reclaim(folder)

    with pytest.raises(FileNotFoundError):
        (container.outside / trial.inside.name / "outbox" / "late.arrow").write_bytes(b"late")


def test_a_link_of_the_trials_own_is_not_followed(folder: Path, container: ContainerFolder, tmp_path: Path) -> None:
    """A trial that puts a link in the place of its outbox does not have the supervisor take what it leads to."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    trial = staged(folder, container.path.parent)
    trial.enter(container)
    out = container.outside / trial.inside.name / "outbox"
    shutil.rmtree(out)
    out.symlink_to(precious)

    trial.leave()
    (folder / "outbox").rmdir()
    (folder / "outbox").symlink_to(precious)
    reclaim(folder)

    assert (precious / "file").exists()
    assert list((folder / "outbox").iterdir()) == []


def test_what_root_stages_belongs_to_the_containers_user(folder: Path, container: ContainerFolder) -> None:
    """Outbox, scratch and log are its own; folders around them, and the weights, stay whose they were."""
    if os.getuid() != 0:
        pytest.skip("only root gives files away")
    trial = Staged(folder, container.path.parent, User(uid=4711, gid=4711))
    trial.enter(container)
    out = container.outside / trial.inside.name

    assert {(out / name).stat().st_uid for name in ("outbox", "scratch", "log.txt")} == {4711}
    assert {path.stat().st_uid for path in (out, container.outside, container.lease)} == {0}
    assert (container.inside / trial.inside.name / "model" / "config.json").stat().st_uid == 0


def opened(what: str) -> list[str]:
    """What this process has open whose name begins so, but for what is only waiting to be collected."""
    gc.collect()
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found.append(str(link.readlink()))
    return [name for name in found if name.startswith(what)]


def test_a_container_that_cannot_be_made_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may fail a thousand attempts where the engine refuses them, and has as many open files as before."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    need = Need(image="sha256:0", user=fit_user(tmp_path), threads=1, place=tmp_path / "place")
    before = len(opened("socket:"))
    for _ in range(3):
        with pytest.raises(SandboxError):
            ContainerChannel(need, {})
    assert opened(str(tmp_path)) == []
    wait_for(lambda: len(opened("socket:")) <= before, seconds=10)  # other threads have some for a moment
    assert [path.name for path in need.place.iterdir()] == ["lock"]


def test_sweeps_beside_an_owner_who_ends(folder: Path, tmp_path: Path) -> None:
    """Neither fails, and the outbox comes home, whoever is first with whatever is next."""
    place, over = tmp_path / "place", threading.Event()
    faults: list[BaseException] = []

    def sweep() -> None:
        while not over.is_set():
            try:
                sweep_folders(place)
            except BaseException as fault:  # noqa: BLE001  # told below
                faults.append(fault)

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for one in sweepers:
        one.start()
    try:
        for number in range(200):
            with locked(place, sweeping=False):
                container = ContainerFolder.create(place)
                lease = Renewal(container.lease)
                lease.__enter__()
            trial = staged(folder, place)
            trial.enter(container)
            (folder / "outbox" / "result.json").write_text(str(number))
            lease.__exit__(None, None, None)
            container.remove()
            trial.leave()
            assert (folder / "outbox" / "result.json").read_text() == str(number)
            assert (folder / "scratch").is_dir()
            container.remove()
    finally:
        over.set()
        for one in sweepers:
            one.join()
    assert faults == []
    assert [path.name for path in place.iterdir()] == ["lock"]
