"""Names of a grid to what they stand for: prepared items, exact weights, the environment that computes the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wtsbench.data import Dataset
from wtsbench.data import prepare as prepare_data
from wtsbench.errors import SpecError
from wtsbench.execution.judging import ScorerPlace, scorer_at
from wtsbench.models.architecture import writes
from wtsbench.models.resolve import resolve as resolve_model
from wtsbench.planning.plan import Inputs, ResolvedModel, ResolvedTask
from wtsbench.planning.points import Entries, expand
from wtsbench.sandbox.base import Sandbox, environment_of
from wtsbench.spec import manifests
from wtsbench.spec.generation import GenerationSettings
from wtsbench.spec.grid import DataSettings, Grid
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.trial import ModelRef


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A task as the grid asks for it, with one draw of its training items."""

    written: str
    """As the grid names it."""
    manifest: TaskManifest
    settings: DataSettings
    folder: Path
    """The manifest's."""
    data_digest: str
    """Of what was prepared."""


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """A grid's tasks with their prepared data."""

    resolved: Mapping[str, ResolvedTask]
    """As the grid names them."""
    datasets: Mapping[str, Dataset]
    """By digest."""
    scorers: Mapping[str, ScorerPlace]
    """What judges generated texts, by the name in the task's manifest; generative tasks only."""
    asked: tuple[Asked, ...]
    """What the data was prepared of."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Everything a plan is made of, and the prepared data itself."""

    entries: Entries
    inputs: Inputs
    tasks: Tasks


def resolve(grid: Grid, base: Path, sandbox: Sandbox, *, mirror: Path | None, note: Callable[[str], None]) -> Resolved:
    """Prepare the data of every task and resolve every model to its revision.

    Args:
        grid: a checked grid.
        base: folder that relative paths of the grid start from.
        sandbox: where trials will run; it decides the environment that is part of their identity.
        mirror: folder that stands in for the canonical places of data and models.
        note: told what is being done.

    Raises:
        DataError: a task's data cannot be had or is wrong.
        ScorerError: what is to judge generated texts cannot be had.
        ModelError: a model cannot be had.
        SpecError: a strategy does not fit a pair, or the model of reference is none that writes.
    """
    manifested = task_manifests(grid, base)
    shapes = {written: manifest for written, (manifest, _) in manifested.items()}
    entries = expand(grid, shapes, manifests.between(grid.pairs))
    tasks = resolve_tasks(grid, base, manifested, mirror=mirror, note=note)
    models: dict[str, ResolvedModel] = {}
    for name in entries.models():
        note(f"resolving {name}")
        reference, training = resolve_model(name, base=base, mirror=mirror)
        if reference.name in {known.ref.name for known in models.values()}:  # tables know them by it
            raise SpecError(
                f"two models of the grid are called {reference.name}",
                remedy="rename one in its manifest; where they are one and the same, write it the same way everywhere.",
            )
        models[name] = ResolvedModel(ref=reference, training=training, writes=writes(reference))
    inputs = Inputs(tasks=tasks.resolved, models=models, environment=environment_of(sandbox, grid.resources))
    return Resolved(entries=entries, inputs=inputs, tasks=tasks)


TaskManifests = Mapping[str, tuple[TaskManifest, Path]]
"""As the grid names them: each task's manifest, and the folder of its file."""


def task_manifests(grid: Grid, base: Path) -> TaskManifests:
    """The manifests of a grid's tasks. Arguments are those of `resolve`.

    Raises:
        SpecError: two tasks have one name.
    """
    found = {written: manifests.load_task(written, base=base) for written in grid.tasks}
    for name, times in Counter(manifest.name for manifest, _ in found.values()).items():
        if times > 1:
            raise SpecError(f"two tasks of the grid are called {name}", remedy="rename one in its manifest.")
    return found


def resolve_tasks(
    grid: Grid, base: Path, tasks: TaskManifests, *, mirror: Path | None, note: Callable[[str], None]
) -> Tasks:
    """Prepare the data of every task, and what judges their texts. Arguments and errors are those of `resolve`."""
    datasets: dict[str, Dataset] = {}
    scorers: dict[str, ScorerPlace] = {}
    asked = []
    resolved = {}
    for written, (manifest, folder) in tasks.items():
        note(f"preparing the items of {written}")
        if manifest.generation is not None:
            manifest = manifest.model_copy(update={"generation": grid.generation.over(manifest.generation)})
        draws = {}
        for data_seed in grid.data.draws:
            settings = grid.data.of(written, data_seed)
            dataset = prepare_data(manifest, settings, mirror=mirror, folder=folder)
            datasets[dataset.data_digest] = dataset
            draws[data_seed] = dataset.data_digest
            asked.append(
                Asked(
                    written=written,
                    manifest=manifest,
                    settings=settings,
                    folder=folder,
                    data_digest=dataset.data_digest,
                )
            )
        scorer = reference = None
        if manifest.generation is not None:
            note(f"making the scorer {manifest.generation.scorer} ready")
            place = ScorerPlace(
                name=manifest.generation.scorer,
                base=str(folder if grid.generation.scorer is None else base),
                mirror=None if mirror is None else str(mirror),
            )
            scorers[manifest.name] = place
            reference = _reference(manifest.generation, base, mirror)
            scorer = scorer_at(place).digest
        resolved[written] = ResolvedTask(manifest=manifest, draws=draws, scorer=scorer, reference=reference)
    return Tasks(resolved=resolved, datasets=datasets, scorers=scorers, asked=tuple(asked))


def _reference(generation: GenerationSettings, base: Path, mirror: Path | None) -> ModelRef | None:
    """The model that the perplexity of texts is taken under; None if the task names none."""
    if generation.reference is None:
        return None
    reference, _ = resolve_model(generation.reference, base=base, mirror=mirror)
    if not reference.trained or writes(reference) is False:
        raise SpecError(
            f"generation.reference: {generation.reference} is no model that continues texts, so a text has no "
            "perplexity under it",
            remedy="name a language model, or none.",
        )
    return reference
