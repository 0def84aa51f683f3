"""Models of the hub, from a hub on loopback. The client reads its settings when imported, so it runs in processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.hub_server import COMMIT, TOKEN, Hub, serve

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights" * 100,
    "tokenizer.json": b'{"a": 1}',
    "tokenizer_config.json": b'{"b": 2}',
    "vocab.json": b'{"c": 3}',
    "README.md": b"about",
    "pytorch_model.bin": b"the same weights",
    "tf_model.h5": b"other weights",
    "onnx/model.onnx": b"an export",
    "onnx/config.json": b"of the export",
}
NEEDED = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.json"]

_CLIENT = """
import json, sys
from pathlib import Path
from wtsbench.errors import ModelError
from wtsbench.models.fetch import fetch
from wtsbench.models.resolve import resolve
from wtsbench.spec.trial import ModelRef
try:
    if sys.argv[2] == "run":  # what a plan resolved earlier
        model = ModelRef.model_validate_json(sys.argv[1])
    else:
        model, _ = resolve(sys.argv[1], base=Path())
    folder = fetch(model) if sys.argv[2] != "resolve" else None
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) if folder else None
    print(json.dumps({"model": model.model_dump(), "files": found, "folder": str(folder)}))
except ModelError as error:
    print(json.dumps({"message": error.message, "remedy": error.remedy}))
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A hub with a model, one in torch's format only, and one that is no classifier's base."""
    torch_only = {name: content for name, content in FILES.items() if name != "model.safetensors"}
    no_tokenizer = {name: FILES[name] for name in ("config.json", "model.safetensors")}
    with serve({"owner/model": FILES, "owner/old": torch_only, "owner/bare": no_tokenizer}) as running:
        yield running


def client(hub_url: str, home: Path, name: str, *, do: str = "fetch", **more: str) -> dict[str, Any]:
    """Resolve and fetch a model in a process of its own."""
    ended = subprocess.run(**arguments(hub_url, home, name, do, more), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    loaded = json.loads(ended.stdout)
    assert isinstance(loaded, dict)
    return loaded


def arguments(hub_url: str, home: Path, name: str, do: str, more: dict[str, str]) -> dict[str, Any]:
    """The command and the environment of such a process; it is signed in only where `more` says so."""
    path = os.pathsep.join(str(Path(part).resolve()) for part in sys.path if part)
    environment = {**os.environ, "PYTHONPATH": path, "HF_ENDPOINT": hub_url, "HF_HOME": str(home), **more}
    if "HF_TOKEN" not in more:
        environment.pop("HF_TOKEN", None)
    return {"args": [sys.executable, "-c", _CLIENT, name, do], "env": environment}


def test_a_branch_is_pinned_and_only_what_is_needed_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    """A branch becomes the commit it stands for; other formats, exports and texts stay on the hub."""
    hub.downloads.clear()
    found = client(hub.url, tmp_path, "hub:owner/model")
    assert found["model"]["revision"] == COMMIT
    assert found["files"] == NEEDED
    assert sorted(hub.downloads) == NEEDED


def test_what_is_here_is_not_downloaded_again_and_serves_offline(hub: Hub, tmp_path: Path) -> None:
    """A second fetch sends no file; without the hub, the cache knows both branch and files."""
    client(hub.url, tmp_path, "hub:owner/model")
    hub.downloads.clear()
    assert client(hub.url, tmp_path, "hub:owner/model")["files"] == NEEDED
    assert hub.downloads == []
    offline = client(hub.url, tmp_path, f"hub:owner/model@{COMMIT}", HF_HUB_OFFLINE="1")
    assert offline["files"] == NEEDED
    unreachable = client("http://127.0.0.1:9", tmp_path, f"hub:owner/model@{COMMIT}")
    assert unreachable["files"] == NEEDED


def test_weights_that_were_changed_in_the_cache_are_not_used(hub: Hub, tmp_path: Path) -> None:
    """Also where size and time are the same; once the file is deleted, it is fetched again."""
    client(hub.url, tmp_path, "hub:owner/model")
    (link,) = tmp_path.rglob("snapshots/*/model.safetensors")
    kept = link.resolve()
    content, status = kept.read_bytes(), kept.stat()
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(kept, ns=(status.st_atime_ns, status.st_mtime_ns))
    command = arguments(hub.url, tmp_path, "hub:owner/model", "fetch", {})
    refused = subprocess.run(**command, capture_output=True, text=True, check=False)
    assert "its name is not its SHA-256" in json.loads(refused.stdout)["message"]
    kept.unlink()
    client(hub.url, tmp_path, "hub:owner/model")
    assert kept.read_bytes() == content


def test_a_branch_is_known_from_the_cache_where_the_hub_is_silent(hub: Hub, tmp_path: Path) -> None:
    """Offline, a branch stands for the commit it was last seen at."""
    refs = tmp_path / "hub" / "models--owner--model" / "refs"
    client(hub.url, tmp_path, f"hub:owner/model@{COMMIT}")
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(COMMIT)
    for more in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        assert client(hub.url, tmp_path, "hub:owner/model", do="resolve", **more)["model"]["revision"] == COMMIT


def test_torch_weights_where_there_are_no_safetensors(hub: Hub, tmp_path: Path) -> None:
    """A model in torch's own format only is downloaded in that."""
    files = client(hub.url, tmp_path, "hub:owner/old@main")["files"]
    assert "pytorch_model.bin" in files
    assert "tf_model.h5" not in files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hub:owner/nothing", "the hub has no model owner/nothing"),
        ("hub:owner/model@v9", "has no revision 'v9'"),
        ("hub:owner/bare", "lacks a tokenizer"),
        ("hub:not a name", "not a name on the hub"),
    ],
)
def test_what_the_hub_does_not_have(hub: Hub, tmp_path: Path, name: str, message: str) -> None:
    """A missing model, revision or file is an error in plain words, with what to do."""
    found = client(hub.url, tmp_path, name)
    assert message in found["message"]
    assert found["remedy"]


def test_no_hub_and_no_cache(tmp_path: Path) -> None:
    """Offline and without a cached copy, the error says which of the two to mend."""
    off = client("http://127.0.0.1:9", tmp_path, "hub:owner/model", HF_HUB_OFFLINE="1")
    assert "switched off" in off["message"]
    silent = client("http://127.0.0.1:9", tmp_path, "hub:owner/model")
    assert "cannot be reached" in silent["message"]
    fetched = client("http://127.0.0.1:9", tmp_path, f"hub:owner/model@{COMMIT}")
    assert "cannot be reached" in fetched["message"]


OTHER = "f" * 40


def test_a_branch_that_moves_between_plan_and_run(tmp_path: Path) -> None:
    """What was planned is what is fetched, though the branch has moved by then; a new plan sees the new commit."""
    with serve({"owner/model": FILES}) as moving:
        planned = client(moving.url, tmp_path / "driver", "hub:owner/model", do="resolve")["model"]
        moved = {**FILES, "model.safetensors": b"new weights"}
        repository = moving.repositories["owner/model"]
        repository.commits[OTHER] = moved
        repository.branches["main"] = OTHER
        for home in ("driver", "node"):
            fetched = client(moving.url, tmp_path / home, json.dumps(planned), do="run")
            assert (Path(fetched["folder"]) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        again = client(moving.url, tmp_path / "driver", "hub:owner/model")
        assert again["model"]["revision"] == OTHER
        assert (Path(again["folder"]) / "model.safetensors").read_bytes() == b"new weights"


@pytest.mark.parametrize("token", [None, "hf_of_somebody_else"])
def test_a_gated_model(tmp_path: Path, token: str | None) -> None:
    """A gated model can be planned by all; its files are for those who are let in, and others are told what to do."""
    signed_in = {} if token is None else {"HF_TOKEN": token}
    with serve({"owner/model": FILES}) as closed:
        closed.repositories["owner/model"].gated = True
        assert client(closed.url, tmp_path, "hub:owner/model", do="resolve", **signed_in)["model"]["revision"] == COMMIT
        refused = client(closed.url, tmp_path, "hub:owner/model", **signed_in)
        assert refused["message"] == "owner/model is gated"
        assert "accept its conditions" in refused["remedy"]
        fetched = client(closed.url, tmp_path, "hub:owner/model", HF_TOKEN=TOKEN)
        assert fetched["files"] == NEEDED
        assert TOKEN not in json.dumps(fetched)


def test_a_private_model(tmp_path: Path) -> None:
    """A private model is as good as none to others, and the error says that it may be one."""
    with serve({"owner/model": FILES}) as closed:
        closed.repositories["owner/model"].private = True
        refused = client(closed.url, tmp_path, "hub:owner/model")
        assert "or it is private" in refused["message"]
        assert "hf auth login" in refused["remedy"]
        assert client(closed.url, tmp_path, "hub:owner/model", HF_TOKEN=TOKEN)["files"] == NEEDED


def test_a_download_that_breaks_is_resumed(tmp_path: Path) -> None:
    """When the connection breaks in the middle of a file, the rest is asked for, and the file is whole."""
    weights = bytes(range(256)) * 4096 * 24  # the client writes in pieces of 10 MB
    with serve({"owner/model": {**FILES, "model.safetensors": weights}}) as shaky:
        shaky.cuts["model.safetensors"] = 1
        fetched = client(shaky.url, tmp_path, "hub:owner/model")
        assert [name for name, _ in shaky.ranges] == ["model.safetensors"]
        assert 0 < shaky.ranges[0][1] <= len(weights) // 2
        assert (Path(fetched["folder"]) / "model.safetensors").read_bytes() == weights


def test_a_download_that_is_killed_goes_on(tmp_path: Path) -> None:
    """After a kill in the middle of a file, the next process takes what is whole from the cache and gets the rest."""
    with serve({"owner/model": FILES}) as slow:
        slow.stalled.add("model.safetensors")
        process = subprocess.Popen(
            **arguments(slow.url, tmp_path, "hub:owner/model", "fetch", {}), stdout=subprocess.PIPE
        )
        try:
            assert slow.stalling.wait(timeout=60)
            deadline = time.monotonic() + 60
            while len(slow.downloads) < len(NEEDED) and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            process.kill()
            process.communicate()
        slow.stalled.clear()
        time.sleep(0.1)
        slow.downloads.clear()
        offline = client(slow.url, tmp_path, f"hub:owner/model@{COMMIT}", HF_HUB_OFFLINE="1")
        assert "not in the local cache" in offline["message"]
        fetched = client(slow.url, tmp_path, "hub:owner/model")
        assert fetched["files"] == NEEDED
        assert "model.safetensors" in slow.downloads
        assert (Path(fetched["folder"]) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_shard_that_is_missing(tmp_path: Path) -> None:
    """Weights in several files are there only when all of them are: offline that is an error, else it is mended."""
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    sharded = {name: content for name, content in FILES.items() if name != "model.safetensors"}
    sharded |= {"model.safetensors.index.json": json.dumps(index).encode(), names[0]: b"one", names[1]: b"two"}
    with serve({"owner/model": sharded}) as whole:
        fetched = client(whole.url, tmp_path, "hub:owner/model")
        assert set(names) < set(fetched["files"])
        (Path(fetched["folder"]) / names[1]).unlink()
        offline = client(whole.url, tmp_path, f"hub:owner/model@{COMMIT}", HF_HUB_OFFLINE="1")
        assert "not in the local cache" in offline["message"]
        assert client(whole.url, tmp_path, "hub:owner/model")["files"] == fetched["files"]
