"""Names of a grid to what they stand for: prepared items, exact weights, the environment that computes the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from wtsbench.data import Dataset
from wtsbench.data import prepare as prepare_data
from wtsbench.errors import SpecError
from wtsbench.execution.environment import environment_of
from wtsbench.execution.judging import ScorerPlace, scorer_at
from wtsbench.models.architecture import writes
from wtsbench.models.resolve import resolve as resolve_model
from wtsbench.planning.plan import Inputs, ResolvedModel, ResolvedTask
from wtsbench.planning.points import required_models
from wtsbench.sandbox.base import Sandbox
from wtsbench.spec import manifests
from wtsbench.spec.generation import GenerationSettings
from wtsbench.spec.grid import DataSettings, Grid, Pair
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.trial import Form


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Everything a plan is made of, and the prepared data itself."""

    inputs: Inputs
    datasets: Mapping[str, Dataset]
    """By the name in the task's manifest."""
    scorers: Mapping[str, ScorerPlace]
    """What judges generated texts, by the name in the task's manifest; generative tasks only."""
    asked: tuple[Asked, ...]
    """What the data was prepared of."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A task as the grid asks for it."""

    written: str
    """As the grid names it."""
    manifest: TaskManifest
    settings: DataSettings
    folder: Path
    """The manifest's."""


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """A grid's tasks alone, as in `Resolved`."""

    resolved: Mapping[str, ResolvedTask]
    """As the grid names them."""
    datasets: Mapping[str, Dataset]
    scorers: Mapping[str, ScorerPlace]
    asked: tuple[Asked, ...]


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
    found = resolve_tasks(grid, base, mirror=mirror, note=note)
    forms: dict[str, Form] = {written: task.form for written, task in found.resolved.items()}
    wordings = {written: task.wordings for written, task in found.resolved.items()}
    ladders = {pair: ladder(pair) for pair in grid.pairs}
    models: dict[str, ResolvedModel] = {}
    for name in required_models(grid, ladders, forms, wordings):
        note(f"resolving {name}")
        reference, training = resolve_model(name, base=base, mirror=mirror)
        if reference.name in {known.ref.name for known in models.values()}:  # tables know them by it
            raise SpecError(
                f"two models of the grid are called {reference.name}",
                remedy="rename one in its manifest; where they are one and the same, write it the same way everywhere.",
            )
        models[name] = ResolvedModel(ref=reference, training=training, writes=writes(reference))
    inputs = Inputs(
        tasks=found.resolved,
        models=models,
        ladders=ladders,
        environment=environment_of(sandbox, grid.resources),
    )
    return Resolved(inputs=inputs, datasets=found.datasets, scorers=found.scorers, asked=found.asked)


def resolve_tasks(grid: Grid, base: Path, *, mirror: Path | None, note: Callable[[str], None]) -> Tasks:
    """Prepare the data of every task, and what judges their texts. Arguments and errors are those of `resolve`."""
    found = {written: manifests.load_task(written, base=base) for written in grid.tasks}
    datasets: dict[str, Dataset] = {}
    scorers: dict[str, ScorerPlace] = {}
    asked = []
    tasks = {}
    for written, (manifest, folder) in found.items():
        note(f"preparing the items of {written}")
        if manifest.generation is not None:
            manifest = manifest.model_copy(update={"generation": grid.generation.over(manifest.generation)})
        if manifest.name in datasets:
            raise SpecError(f"two tasks of the grid are called {manifest.name}", remedy="rename one in its manifest.")
        settings = grid.data.of(written)
        asked.append(Asked(written=written, manifest=manifest, settings=settings, folder=folder))
        dataset = prepare_data(manifest, settings, mirror=mirror, folder=folder)
        datasets[manifest.name] = dataset
        tasks[written] = ResolvedTask(
            name=manifest.name,
            data_digest=dataset.data_digest,
            form=manifest.form,
            zero_shot=manifest.zero_shot,
            frames=manifest.frames,
        )
        if manifest.generation is not None:
            note(f"making the scorer {manifest.generation.scorer} ready")
            place = ScorerPlace(
                name=manifest.generation.scorer,
                base=str(folder if grid.generation.scorer is None else base),
                mirror=None if mirror is None else str(mirror),
            )
            scorers[manifest.name] = place
            tasks[written] = _judged(tasks[written], manifest.generation, place, base, mirror)
    return Tasks(resolved=tasks, datasets=datasets, scorers=scorers, asked=tuple(asked))


def _judged(
    task: ResolvedTask, generation: GenerationSettings, place: ScorerPlace, base: Path, mirror: Path | None
) -> ResolvedTask:
    """A generative task with what scores its texts, and the model that their perplexity is taken under."""
    reference = None
    if generation.reference is not None:
        reference, _ = resolve_model(generation.reference, base=base, mirror=mirror)
        if not reference.trained or writes(reference) is False:
            raise SpecError(
                f"generation.reference: {generation.reference} is no model that continues texts, so a text has no "
                "perplexity under it",
                remedy="name a language model, or none.",
            )
    return replace(task, generation=generation, scorer=scorer_at(place).digest, reference=reference)


def ladder(pair: Pair) -> tuple[str, ...]:
    """Names of the models of the pair's family strictly between weak and strong by size, smallest first.

    Empty where the two are not of one family, or are not both known by a manifest.
    """
    known = manifests.names("models")
    if pair.weak not in known or pair.strong not in known:
        return ()
    weak, strong = (manifests.load_model(name)[0] for name in (pair.weak, pair.strong))
    if weak.family is None or weak.family != strong.family or weak.parameters is None or strong.parameters is None:
        return ()
    between = []
    for name in known:
        model, _ = manifests.load_model(name)
        size = model.parameters
        if model.family == weak.family and size is not None and weak.parameters < size < strong.parameters:
            between.append((size, name))
    return tuple(name for _, name in sorted(between))
