"""What a container is allowed, told from the arguments for the engine; no engine is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from wtsbench.sandbox.container import FALLBACK_USER, Need, User, container_arguments, fit_user, model_mounts

IMAGE = "sha256:" + "a1" * 32
LABELS = {"run": "smoke-1", "trial": "f" * 64, "attempt": "2"}
HERE = User(uid=os.getuid(), gid=os.getgid())


def arguments(folder: Path, **changes: Any) -> dict[str, Any]:
    """For a trial on one thread, unless told otherwise."""
    settings: dict[str, Any] = {"image": IMAGE, "user": HERE, "threads": 1, "place": folder}
    inside, outside = folder / "in", folder / "out"
    need = Need(**(settings | changes))
    return container_arguments(need, inside=inside, outside=outside, lease=inside / "lease", labels=LABELS)


def test_only_the_containers_own_folder_is_writable(tmp_path: Path) -> None:
    """Everything else that is mounted is read-only, and nothing is mounted that is not asked for."""
    asked = (("/trial/model", tmp_path / "weights"),)

    found = {mount["Target"]: mount for mount in arguments(tmp_path, mounts=asked)["mounts"]}

    assert {target for target, mount in found.items() if not mount["ReadOnly"]} == {"/trial/out"}
    assert set(found) == {"/trial/in", "/trial/out", "/trial/model"}
    assert all(mount["Type"] == "bind" for mount in found.values())


def test_gpus_are_requested_by_their_uuid(tmp_path: Path) -> None:
    """A device request names the GPUs and no count; without GPUs there is no request and none is visible."""
    [request] = arguments(tmp_path, gpus=("GPU-1", "GPU-2"))["device_requests"]

    assert request["DeviceIDs"] == ["GPU-1", "GPU-2"]
    assert request["Count"] == 0
    assert request["Capabilities"] == [["gpu"]]
    assert "CUDA_VISIBLE_DEVICES" not in arguments(tmp_path, gpus=("GPU-1",))["environment"]
    assert "device_requests" not in arguments(tmp_path)
    assert arguments(tmp_path)["environment"]["CUDA_VISIBLE_DEVICES"] == ""


def test_memory_is_limited_without_swap(tmp_path: Path) -> None:
    """A trial over its memory is killed and does not begin to swap; no limit is no limit."""
    limited = arguments(tmp_path, memory=1 << 30)

    assert limited["mem_limit"] == limited["memswap_limit"] == 1 << 30
    assert "mem_limit" not in arguments(tmp_path)


def test_no_variable_of_the_user_enters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither tokens nor the proxies of the user's docker configuration."""
    monkeypatch.setenv("HF_TOKEN", "secret")

    assert "secret" not in arguments(tmp_path)["environment"].values()
    assert arguments(tmp_path)["use_config_proxy"] is False


def test_a_snapshot_of_links_is_mounted_file_by_file(tmp_path: Path, tiny_model: Path) -> None:
    """The hub's cache keeps links to files elsewhere: what they lead to is mounted under their names."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(tiny_model.iterdir())):
        (blobs / str(number)).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")

    found = model_mounts(snapshot, "/trial/model", HERE)

    assert "/trial/model" not in found
    assert found["/trial/model/config.json"].parent == blobs
    assert found["/trial/model/config.json"].read_bytes() == (tiny_model / "config.json").read_bytes()
    assert model_mounts(tiny_model, "/trial/model", HERE) == {"/trial/model": tiny_model}


def test_a_model_that_the_containers_user_may_not_read_is_named(tmp_path: Path) -> None:
    """The error says which file it is and what mends it, before a container is made."""
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "model.safetensors").chmod(0o600)
    tmp_path.chmod(0o755)

    with pytest.raises(PermissionError, match=r"model\.safetensors may not be read .* `chmod a\+rX` on it"):
        model_mounts(tmp_path, "/trial/model", User(uid=os.getuid() + 1, gid=os.getgid() + 1))


def test_a_container_never_runs_as_root(tmp_path: Path) -> None:
    """The user is the folder's owner; a folder of root's is given to a user without rights."""
    assert fit_user(tmp_path).uid == (tmp_path.stat().st_uid or FALLBACK_USER)
