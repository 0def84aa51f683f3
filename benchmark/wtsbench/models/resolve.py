"""Resolves names of models to exact weights."""

from __future__ import annotations

from pathlib import Path

from wtsbench.errors import ModelError
from wtsbench.models import embedded, external
from wtsbench.models.hub import commit_of
from wtsbench.models.layout import folder_revision
from wtsbench.settings import user_path
from wtsbench.spec import manifests
from wtsbench.spec.faults import nearest
from wtsbench.spec.model import ModelManifest
from wtsbench.spec.training import TrainingOverride
from wtsbench.spec.trial import ModelRef

HUB = "hub:"


def resolve(name: str, *, base: Path, mirror: Path | None = None) -> tuple[ModelRef, TrainingOverride]:
    """A model as a grid names it, resolved to its exact weights, and the training settings its manifest asks for.

    Args:
        name: a name in manifests/models; a manifest's path, which ends in .yaml; a folder, written with a slash or a
            leading dot; or `hub:owner/name@revision`, where the revision may be left out.
        base: folder that relative paths start from.
        mirror: folder that is looked in before the model's own source.

    Raises:
        ModelError: the model cannot be found or is not usable.
        SpecError: its manifest is wrong.
    """
    if name.startswith(HUB):
        repository, _, revision = name.removeprefix(HUB).partition("@")
        return _hub(name, repository, revision or "main"), TrainingOverride()
    if name.endswith(manifests.SUFFIXES):
        manifest, folder = manifests.load_model(name, base=base)
        return _from_manifest(manifest, folder, mirror, Path(name).name), manifest.training
    if "/" in name or name.startswith("."):
        return _folder(name, base, Path(name)), TrainingOverride()
    if name not in manifests.names("models"):
        raise _unknown(name, base)
    manifest, folder = manifests.load_model(name)
    return _from_manifest(manifest, folder, mirror, f"{name}.yaml"), manifest.training


def _from_manifest(manifest: ModelManifest, folder: Path, mirror: Path | None, file: str) -> ModelRef:
    if mirror is not None and manifest.mirror is not None and (mirror / manifest.mirror).is_dir():
        return _known(manifest, _folder(manifest.name, mirror, Path(manifest.mirror)))
    source = manifest.source
    if source is None:
        raise ModelError(
            f"model {manifest.name} comes from a mirror folder only, as {manifest.mirror}",
            remedy="name the mirror folder with WTSBENCH_DATA_MIRROR.",
        )
    if source.labels is not None or source.endpoint is not None:
        path = folder / file
        return external.reference(manifest, path if path.is_file() else path.with_suffix(".yml"))
    if source.path is not None:
        return _known(manifest, _folder(manifest.name, folder, Path(source.path)))
    if source.hub is not None:
        return _known(manifest, _hub(manifest.name, source.hub, source.revision))
    assert source.embedded is not None, "a source is one of the five"
    return ModelRef(
        name=manifest.name,
        kind="embedded",
        id=source.embedded,
        revision=embedded.recipe_digest(source.embedded),
        family=manifest.family,
        parameters=embedded.recipe(source.embedded).parameters,
    )


def _known(manifest: ModelManifest, model: ModelRef) -> ModelRef:
    """The model with the family and size that its manifest says."""
    return model.model_copy(update={"family": manifest.family, "parameters": manifest.parameters})


def _folder(name: str, base: Path, path: Path) -> ModelRef:
    folder = (base / user_path(path)).resolve()
    return ModelRef(
        name=name,
        kind="folder",
        id=folder.name,
        revision=folder_revision(folder, what=f"model {name}"),
        path=str(folder),
    )


def _hub(name: str, repository: str, revision: str) -> ModelRef:
    try:
        commit = commit_of(repository, revision)
    except ModelError as error:
        raise ModelError(f"model {name}: {error.message}", remedy=error.remedy) from None
    return ModelRef(name=name, kind="hub", id=repository, revision=commit)


def _unknown(name: str, base: Path) -> ModelError:
    names = manifests.names("models")
    near = nearest(name, names)
    hint = f"did you mean {near!r}? " if near is not None else ""
    if (base / name).is_dir():
        hint = f"for the folder beside the grid, write './{name}'. "
    return ModelError(
        f"no model is called {name!r}",
        remedy=f"{hint}Known: {', '.join(names) or 'none'}. A folder is written with a slash, as ./{name}; "
        "a model of the hub as hub:owner/name@revision.",
    )
