"""Writes a bundle: everything that a cluster without a network needs to run grids."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import wtsbench
from wtsbench.data.hub import COMMIT, cache_of
from wtsbench.data.prepare import kept_file
from wtsbench.errors import SpecError
from wtsbench.execution.judging import ScorerPlace, scorer_at
from wtsbench.execution.resolution import Asked, Tasks, resolve
from wtsbench.images import bundle, oci
from wtsbench.images.bundle import Entry
from wtsbench.images.docker_engine import connect, find_image, probe
from wtsbench.images.pins import ImagePin, resolve_image
from wtsbench.images.registry import PULL_SECONDS
from wtsbench.images.wheelhouse import node_wheels
from wtsbench.models.fetch import fetch
from wtsbench.models.layout import check_folder
from wtsbench.models.resolve import HUB
from wtsbench.planning.check import load_checked_grid
from wtsbench.sandbox.base import Sandbox
from wtsbench.sandbox.docker import DockerSandbox
from wtsbench.sandbox.process import ProcessSandbox
from wtsbench.settings import cache_folder, shipped, user_manifests, user_path
from wtsbench.spec import manifests
from wtsbench.spec.scorer import HubClassifierSource, NgramSource
from wtsbench.spec.source import CodeSource, HubSource, PathSource
from wtsbench.spec.trial import ModelRef

CACHE, HUB_CACHE, MIRROR, MANIFESTS, WHEELS = (
    f"wtsbench/{name}/" for name in ("cache", "hub", "mirror", "manifests", "wheels")
)
"""Folders of a bundle; each stands for the folder that `load_bundle` puts its files into."""


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """The bundle that was written."""

    out: Path
    digest: str
    """Digest of its listing, which covers all its files; loading it reports the same."""
    files: int
    size: int
    left_out: tuple[str, ...]
    """What the grids need and the bundle does not have, as text."""


def write_bundle(
    out: Path,
    grids: Sequence[str | Path],
    *,
    image: bool = True,
    wheels: bool = True,
    mirror: Path | None = None,
    note: Callable[[str], None],
) -> Bundled:
    """Write a file with all that grids need to run on machines without a network.

    Data is prepared and models are fetched as for a submission.

    Args:
        out: the file; written whole or not at all.
        grids: names or paths; all must use the same image.
        image: whether the trial image goes in.
        wheels: whether wtsbench itself goes in, with the packages it needs.
        mirror: folder that is looked in before the sources of data and models.
        note: called with a line about what takes time.

    Raises:
        UserError: a grid is wrong, or something it needs cannot be fetched.
        OSError: the file cannot be written.
    """
    checked = [load_checked_grid(grid) for grid in grids]
    names = {grid.image for grid, _ in checked}
    if len(names) > 1:
        raise SpecError(
            f"the grids use several images ({', '.join(sorted(names))})", remedy="write a bundle for each image."
        )
    if not out.parent.is_dir():
        raise SpecError(f"there is no folder {out.parent}", remedy="create it first.")
    pin = resolve_image(names.pop()) if image else None
    gathered = _Gathered(mirror=mirror)
    with _scratch(out.with_name(f".{out.name}.layers")) as scratch:
        sandbox: Sandbox = ProcessSandbox()
        about: dict[str, Any] = {}
        if pin is not None:
            pin = _add_image(gathered, pin, scratch, note)
            sandbox = DockerSandbox(str(pin.id))
            about["image"] = {"name": checked[0][0].image, **pin.model_dump(mode="json", exclude_none=True)}
        for grid, path in checked:
            resolved = resolve(grid, path.parent, sandbox, mirror=mirror, note=note)
            gathered.add_grid(grid.name, path)
            gathered.add_tasks(resolved.tasks)
            for name, model in resolved.inputs.models.items():
                gathered.add_model(model.ref, _revision(name, path.parent))
                gathered.add_manifest("models", name)
            for task in resolved.inputs.tasks.values():
                generation = task.manifest.generation
                if task.reference is not None and generation is not None:
                    gathered.add_model(task.reference, _revision(str(generation.reference), path.parent))
                    gathered.add_manifest("models", str(generation.reference))
            for place in resolved.tasks.scorers.values():
                gathered.add_scorer(place)
        if wheels:
            for wheel in sorted(node_wheels(note=note).iterdir()):
                gathered.add_file(f"{WHEELS}{wheel.name}", wheel)
        note("writing the bundle")
        about |= {
            "wtsbench": wtsbench.__version__,
            "python": ".".join(platform.python_version_tuple()[:2]),
            "machine": platform.machine(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "grids": [grid.name for grid, _ in checked],
            "left_out": sorted(gathered.left_out),
        }
        digest = bundle.write(out, about, gathered.entries)
    return Bundled(
        out=out,
        digest=digest,
        files=len(gathered.entries),
        size=out.stat().st_size,
        left_out=tuple(sorted(gathered.left_out)),
    )


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder, deleted at the end; leftovers of an earlier process that was killed are deleted first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _add_image(gathered: _Gathered, pin: ImagePin, scratch: Path, note: Callable[[str], None]) -> ImagePin:
    """Add the image of a pin as an OCI layout; returns the pin with the image's id."""
    probe()
    note("exporting the trial image from the engine")
    with connect(seconds=PULL_SECONDS) as client:
        image = find_image(client, pin)
        image_id, layers = str(image.id), image.attrs["RootFS"]["Layers"]
        taken = oci.take_layers(client, image_id, {*layers, image_id}, scratch)
    for digest in layers:
        gathered.add_file(oci.blob_name(digest), taken[digest])
    sizes = {digest: taken[digest].stat().st_size for digest in layers}
    for file, content in oci.layout(taken[image_id].read_bytes(), sizes, oci.tag_of(image_id)).items():
        gathered.add_bytes(file, content)
    return pin.model_copy(update={"id": image_id})


@dataclass(kw_only=True)
class _Gathered:
    """Files by their name in the bundle, and what could not be included."""

    mirror: Path | None
    entries: dict[str, Entry] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def add_file(self, name: str, path: Path) -> None:
        if name not in self.entries:
            self.entries[name] = Entry.of_file(name, path)

    def add_bytes(self, name: str, content: bytes) -> None:
        self.entries[name] = Entry.of_bytes(name, content)

    def add_grid(self, name: str, path: Path) -> None:
        """The file of a grid that is not shipped."""
        if path.parent != shipped("manifests") / "grids":
            self.add_file(f"{MANIFESTS}grids/{name}.yaml", path)

    def add_manifest(self, kind: manifests.Kind, name: str) -> None:
        """A manifest of the user's, if it is found by name; files named by paths are not included."""
        if name.startswith(HUB):
            return
        if manifests.is_path(name) or name.startswith("."):
            self.left_out.add(f"{name}: named by its path; copy it separately, to the same place relative to the grid")
            return
        path = manifests.find(kind, name)
        if path.is_relative_to(user_manifests()):
            self.add_file(f"{MANIFESTS}{kind}/{path.name}", path)

    def add_tasks(self, tasks: Tasks) -> None:
        """The prepared items of all tasks, and what locating their sources needs."""
        for asked in tasks.asked:
            self.add_manifest("tasks", asked.written)
            kept = kept_file(asked.manifest, asked.settings, mirror=self.mirror, folder=asked.folder)
            self.add_file(f"{CACHE}{kept.relative_to(cache_folder()).as_posix()}", kept)
            if self.mirror is not None:
                for path in asked.manifest.mirror_paths:
                    self.add_file(f"{MIRROR}{path}", self.mirror / path)
            report = tasks.datasets[asked.data_digest].report
            self._add_source(asked, asked.manifest.source, report["source"])
            if asked.manifest.ood is not None:
                self._add_source(asked, asked.manifest.ood.source, report["ood"]["source"])

    def _add_source(self, asked: Asked, source: object, report: Mapping[str, Any]) -> None:
        if report["kind"] == "mirror":
            return
        if isinstance(source, HubSource) and not COMMIT.fullmatch(source.revision):
            folder = cache_of(source.id, "dataset").name
            self.add_bytes(f"{HUB_CACHE}{folder}/refs/{source.revision}", report["commit"].encode())
        if isinstance(source, PathSource):
            path = asked.folder / user_path(source.path)
            if path.is_relative_to(user_manifests()) and ".." not in Path(source.path).parts:
                self.add_file(f"{MANIFESTS}{path.relative_to(user_manifests()).as_posix()}", path)
            else:
                self.left_out.add(f"{path}: the rows of task {asked.manifest.name}; copy it to the same path there")
        if isinstance(source, CodeSource):
            self.left_out.add(f"the package of {source.entry_point}, which makes the rows of {asked.manifest.name}")

    def add_model(self, model: ModelRef, revision: str | None) -> None:
        """A model's files, and the commit that its branch stands for."""
        if not model.trained:
            self.left_out.add(f"{model.path or model.name}: the labels of {model.name}, which are made elsewhere")
            return
        folder = fetch(model)
        files = {name: folder / name for name in check_folder(folder, what=f"model {model.name}")}
        if model.kind == "hub":
            place = f"{HUB_CACHE}{cache_of(model.id, 'model').name}"
            for name, path in files.items():
                self.add_file(f"{place}/snapshots/{model.revision}/{name}", path)
            if revision is not None and not COMMIT.fullmatch(revision):
                self.add_bytes(f"{place}/refs/{revision}", model.revision.encode())
        elif folder.is_relative_to(cache_folder()):
            self._add_folder(CACHE, cache_folder(), folder)
        elif self.mirror is not None and folder.is_relative_to(self.mirror):
            for name, path in files.items():
                self.add_file(f"{MIRROR}{folder.relative_to(self.mirror).as_posix()}/{name}", path)
        else:
            self.left_out.add(f"{folder}: model {model.name}; take it along, and keep its place beside the grid")

    def add_scorer(self, place: ScorerPlace) -> None:
        """What a scorer needs: its manifest, weights and training data."""
        if manifests.is_path(place.name) and not place.name.endswith(manifests.SUFFIXES):
            self.left_out.add(f"{place.name}: a scorer named by its path; take it along, beside the grid")
            return
        self.add_manifest("scorers", place.name)
        manifest, folder = manifests.load_scorer(place.name, base=Path(place.base))
        match manifest.source:
            case HubClassifierSource():
                from wtsbench.scoring.hub import HubScorer

                scorer = scorer_at(place)
                assert isinstance(scorer, HubScorer), "the kind of a source decides the kind of its scorer"
                self.add_model(scorer.model, manifest.source.revision)
            case NgramSource(path=None):
                from wtsbench.scoring.labelled import data_files
                from wtsbench.scoring.training import kept_folder

                assert self.mirror is not None, "without a mirror there is no such scorer"
                self._add_folder(CACHE, cache_folder(), kept_folder(self.mirror))
                for name in data_files(self.mirror):
                    self.add_file(f"{MIRROR}{name}", self.mirror / name)
            case NgramSource(path=path):
                self.left_out.add(f"{folder / str(path)}: scorer {manifest.name}; copy it to the same path there")

    def _add_folder(self, place: str, root: Path, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.add_file(f"{place}{path.relative_to(root).as_posix()}", path)


def _revision(name: str, base: Path) -> str | None:
    """The hub's revision that a model's name in a grid asks for; None if the model is not from the hub."""
    if name.startswith(HUB):
        return name.removeprefix(HUB).partition("@")[2] or "main"
    if not name.endswith(manifests.SUFFIXES) and (manifests.is_path(name) or name.startswith(".")):
        return None
    source = manifests.load_model(name, base=base)[0].source
    return source.revision if source is not None and source.hub is not None else None
