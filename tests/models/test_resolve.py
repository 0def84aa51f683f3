"""Names to exact weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.models.folders import write_model_folder
from wtsbench import files
from wtsbench.errors import ModelError
from wtsbench.models import embedded, layout
from wtsbench.models.fetch import fetch
from wtsbench.models.resolve import resolve
from wtsbench.spec import manifests
from wtsbench.spec.model import ModelManifest
from wtsbench.spec.training import TrainingOverride

COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"


def test_a_folder_by_path(tmp_path: Path) -> None:
    """A relative folder is found from the grid's folder, and can be fetched as what was resolved."""
    folder = write_model_folder(tmp_path / "grids" / "mine")
    model, training = resolve("./mine", base=tmp_path / "grids")
    assert (model.kind, model.id, model.path) == ("folder", "mine", str(folder.resolve()))
    assert training == TrainingOverride()
    assert fetch(model) == folder.resolve()


def test_a_folder_is_its_content(tmp_path: Path) -> None:
    """The revision follows the files a trial reads: neither the folder's name nor other files, but every weight."""
    one = write_model_folder(tmp_path / "one")
    two = write_model_folder(tmp_path / "two")
    (two / "README.md").write_text("something else")
    (two / "pytorch_model.bin").write_text("not read where there are safetensors")

    def revision(name: str) -> str:
        return resolve(f"./{name}", base=tmp_path)[0].revision

    assert revision("one") == revision("two")
    (two / "model.safetensors").write_bytes(b"WEIGHTS")
    assert revision("one") != revision("two")
    (one / "tokenizer_config.json").write_text('{"a": 1}')
    assert revision("one") not in (revision("two"), "")


def test_weights_of_the_same_size_and_time_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written over a file keeping its size and time is found by planning and by fetching, however old it is."""
    monkeypatch.setattr(layout, "_SETTLED_NS", 10**7)
    folder = write_model_folder(tmp_path / "m")
    time.sleep(0.05)  # so that its digest is remembered
    model = resolve("./m", base=tmp_path)[0]
    weights = folder / "model.safetensors"
    status = weights.stat()
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ModelError, match="changed since"):
        fetch(model)
    second = resolve("./m", base=tmp_path)[0].revision
    assert second != model.revision
    replaced = folder / "new"
    replaced.write_bytes(b"weights")
    os.utime(replaced, ns=(status.st_atime_ns, status.st_mtime_ns))
    replaced.rename(weights)
    assert resolve("./m", base=tmp_path)[0].revision == model.revision


def test_the_digest_of_unchanged_files_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are read once where nothing has changed; what was changed a moment ago is read again."""
    write_model_folder(tmp_path / "m")
    read: list[str] = []
    whole = files.sha256

    def counted(path: Path) -> str:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(layout, "sha256", counted)
    for _ in range(2):
        resolve("./m", base=tmp_path)
    assert read.count("model.safetensors") == 2
    monkeypatch.setattr(layout, "_SETTLED_NS", 0)
    first = resolve("./m", base=tmp_path)[0].revision
    read.clear()
    assert resolve("./m", base=tmp_path)[0].revision == first
    assert read == []


def test_an_unwritable_cache_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where digests cannot be remembered they are computed again."""
    write_model_folder(tmp_path / "m")
    (tmp_path / "file").touch()
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert resolve("./m", base=tmp_path) == resolve("./m", base=tmp_path)


def test_a_folder_that_changed_since_the_plan(tmp_path: Path) -> None:
    """Fetching refuses a folder whose files are not those that were planned."""
    folder = write_model_folder(tmp_path / "m")
    model, _ = resolve("./m", base=tmp_path)
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ModelError, match="changed since"):
        fetch(model)


@pytest.mark.parametrize(
    ("without", "lacks"),
    [
        (("config.json",), "config.json"),
        (("model.safetensors", "pytorch_model.bin"), "weights"),
        (("tokenizer.json",), "a tokenizer"),
    ],
)
def test_an_incomplete_folder(tmp_path: Path, without: tuple[str, ...], lacks: str) -> None:
    """A folder that lacks configuration, weights or tokenizer is refused with what it lacks."""
    write_model_folder(tmp_path / "m", without=without)
    with pytest.raises(ModelError, match=f"lacks {lacks}"):
        resolve("./m", base=tmp_path)


def test_a_folder_that_lacks_a_shard(tmp_path: Path) -> None:
    """Weights in several files, of which the index names one that is not there, are refused with its name."""
    folder = write_model_folder(tmp_path / "m", without=("model.safetensors", "pytorch_model.bin"))
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (folder / shards[0]).write_bytes(b"one")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}))
    with pytest.raises(ModelError, match=f"lacks {shards[1]}"):
        resolve("./m", base=tmp_path)
    (folder / shards[1]).write_bytes(b"two")
    assert resolve("./m", base=tmp_path)[0].kind == "folder"
    for wrong in ("[]", "[" * 100_000):
        index.write_text(wrong)
        with pytest.raises(ModelError, match="not an index of weights"):
            resolve("./m", base=tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": 1}}))
    with pytest.raises(ModelError, match="lacks 1"):
        resolve("./m", base=tmp_path)


def test_weights_in_torch_format_are_enough(tmp_path: Path) -> None:
    """A folder without safetensors is taken with torch's own format."""
    write_model_folder(tmp_path / "m", without=("model.safetensors",))
    assert resolve("./m", base=tmp_path)[0].kind == "folder"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A path to nothing, or to a file, is an error that says so."""
    with pytest.raises(ModelError, match="there is no folder"):
        resolve("./nothing", base=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="is a file"):
        resolve("./file", base=tmp_path)


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    """A typo in a model's name is an error that names the right one and the other ways to name a model."""
    with pytest.raises(ModelError, match="no model is called 'gpt2-mediun'") as caught:
        resolve("gpt2-mediun", base=tmp_path)
    assert caught.value.remedy is not None
    assert "did you mean 'gpt2-medium'?" in caught.value.remedy
    assert "hub:owner/name@revision" in caught.value.remedy


def test_a_folder_named_without_a_slash(tmp_path: Path) -> None:
    """A folder beside the grid that is named like a manifest is pointed out."""
    write_model_folder(tmp_path / "mine")
    with pytest.raises(ModelError) as caught:
        resolve("mine", base=tmp_path)
    assert "write './mine'" in (caught.value.remedy or "")


def test_a_manifest_of_a_folder(tmp_path: Path) -> None:
    """A user's manifest names a folder relative to itself, and brings its training settings along."""
    write_model_folder(tmp_path / "manifests" / "models" / "weights")
    (tmp_path / "manifests" / "models" / "mine.yaml").write_text(
        "apiVersion: wtsbench/v1\nkind: model\nname: mine\nsummary: my own\nfamily: f\nparameters: 12\n"
        "source: {path: weights}\ntraining: {learning_rate: 1.0e-3}\n"
    )
    model, training = resolve("mine", base=tmp_path)
    assert (model.name, model.kind, model.id, model.family, model.parameters) == ("mine", "folder", "weights", "f", 12)
    assert training.learning_rate == 1e-3


def test_the_mirror_stands_in_for_the_source(tmp_path: Path) -> None:
    """Where the mirror folder has a model it is taken from there; elsewhere from its canonical place."""
    (tmp_path / "m.yaml").write_text(
        f"name: m\nsummary: s\nsource: {{hub: owner/m, revision: {COMMIT!r}}}\nmirror: models/m\n"
    )
    write_model_folder(tmp_path / "mirror" / "models" / "m")
    model, _ = resolve("m.yaml", base=tmp_path, mirror=tmp_path / "mirror")
    assert model.kind == "folder"
    model, _ = resolve("m.yaml", base=tmp_path, mirror=tmp_path / "empty")
    assert (model.kind, model.id, model.revision) == ("hub", "owner/m", COMMIT)


def test_a_model_of_the_mirror_only(tmp_path: Path) -> None:
    """A model without a canonical place asks for the mirror folder."""
    with pytest.raises(ModelError, match="mirror folder only") as caught:
        resolve("stories260k", base=tmp_path)
    assert "WTSBENCH_DATA_MIRROR" in (caught.value.remedy or "")


def test_a_commit_of_the_hub_needs_no_network(tmp_path: Path) -> None:
    """A full commit is what it stands for."""
    model, _ = resolve(f"hub:openai-community/gpt2@{COMMIT}", base=tmp_path)
    assert (model.kind, model.id, model.revision) == ("hub", "openai-community/gpt2", COMMIT)


def test_an_embedded_model(tmp_path: Path) -> None:
    """An embedded model's revision is the digest of its recipe."""
    model, _ = resolve("nano-1", base=tmp_path)
    assert (model.kind, model.id, model.revision) == ("embedded", "nano-1", embedded.recipe_digest("nano-1"))
    assert model.parameters == embedded.recipe("nano-1").parameters
    with pytest.raises(ModelError, match="another nano-1 than the plan"):
        fetch(model.model_copy(update={"revision": "0" * 64}))


@pytest.mark.parametrize("name", manifests.names("models"))
def test_shipped_manifests_load(name: str) -> None:
    """Every shipped manifest is valid, and is in a family only with its size."""
    manifest, _ = manifests.load_model(name)
    assert manifest.family is None or manifest.parameters is not None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "say where the weights are"),
        ({"source": {}}, "exactly one of embedded, hub, path, labels and endpoint"),
        ({"source": {"hub": "a/b", "path": "c"}}, "exactly one of embedded, hub, path, labels and endpoint"),
        ({"source": {"path": "c", "revision": "main"}}, "revision goes with hub only"),
        ({"mirror": "../outside"}, "must be below the mirror folder"),
    ],
)
def test_wrong_manifests(fields: dict[str, object], message: str) -> None:
    """A manifest that names no place, or more than one, is refused."""
    with pytest.raises(ValueError, match=message):
        ModelManifest.model_validate({"name": "m", "summary": "s", **fields})


def test_resolving_imports_no_torch() -> None:
    """The room loads neither torch nor transformers, nor the hub's client before it is needed."""
    code = (
        "import sys, wtsbench.models.resolve, wtsbench.models.fetch\n"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'ray', 'duckdb'} & set(sys.modules)))"
    )
    path = os.pathsep.join(str(Path(part).resolve()) for part in sys.path if part)
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"
