"""The plan of a grid: the trials that it needs, parents first, and the cells of the leaderboard that use them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from wtsbench.errors import SpecError
from wtsbench.planning import controls
from wtsbench.planning.abilities import impossible
from wtsbench.planning.points import Entries, Entry
from wtsbench.spec.cell import Cell, grid_digest
from wtsbench.spec.grid import Grid
from wtsbench.spec.identity import Alike
from wtsbench.spec.strategy_call import StrategyCall
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.training import Training, TrainingOverride
from wtsbench.spec.trial import ModelRef, Role, TrialSpec, id_within
from wtsbench.strategies import registry
from wtsbench.strategies.base import Strategy, Supervisor


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model of the grid, with the training settings of its manifest."""

    ref: ModelRef
    training: TrainingOverride
    writes: bool | None = None
    """Whether it continues texts; None if unknown."""


@dataclass(frozen=True, kw_only=True)
class ResolvedTask:
    """A task of the grid, whose name there may be the path of its manifest."""

    manifest: TaskManifest
    """With the grid's own settings for generation, where it has some."""
    draws: Mapping[int, str]
    """Digest of its prepared items by data seed; several if the grid draws training items several times."""
    scorer: str | None = None
    """For generation: digest of the scorer."""
    reference: ModelRef | None = None
    """For generation: the model for the perplexity of continuations."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a grid's names resolve to; the names are the keys."""

    tasks: Mapping[str, ResolvedTask]
    models: Mapping[str, ResolvedModel]
    environment: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A grid's trials and cells."""

    grid: Grid
    trials: Mapping[str, TrialSpec]
    """By id, parents before children."""
    cells: tuple[Cell, ...]
    uses: Mapping[str, int]
    """Number of cells that use a trial: as weak supervisor, ceiling, student or a stage between."""

    @cached_property
    def grid_digest(self) -> str:
        """Identity of the grid: its name and its cells."""
        return grid_digest(self.grid.name, (cell.record() for cell in self.cells))

    def baselines(self) -> dict[str, dict[str, str]]:
        """For each student, the weak and ceiling trials from which its PGR is computed."""
        return {
            cell.student_trial: {"weak": cell.weak_trial, "ceiling": cell.ceiling_trial}
            for cell in reversed(self.cells)
        }


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Whose finished trials a plan reuses; by default those that count for all grids."""

    grid: str | None = None
    """The only grid that the submitter's token allows, whose trials have ids of their own; None for any grid."""
    trusted: tuple[str, ...] = ()
    """Further grids, whose own trials are reused too."""
    done: frozenset[str] = frozenset()
    """Trials that are done in the store; they matter only with `grid` or `trusted`."""

    def chosen(self, shared_id: str) -> tuple[str, str | None]:
        """Id and grid of the trial to use: the first finished one of `grid`, all grids or trusted ones; else a new."""
        grids = (self.grid, None, *self.trusted)
        candidates = [(shared_id if grid is None else id_within(grid, shared_id), grid) for grid in grids]
        return next((candidate for candidate in candidates if candidate[0] in self.done), candidates[0])


def make_plan(entries: Entries, inputs: Inputs, reuse: Reuse) -> Plan:
    """The DAG of trials for a grid's entries. Equal trials are planned once, however many cells need them.

    Raises:
        SpecError: a model cannot do what a trial asks of it; all such cases at once.
    """
    return _Planner(entries, inputs, reuse).plan()


_DIFFER = ("parents", "seed")
"""The fields in which trials of a kind differ."""


class _Kind:
    """Trials that are equal except for seed and parents."""

    def __init__(self, spec: TrialSpec) -> None:
        # Without pydantic's set of given fields: it would make each copy three times as large.
        self._spec = TrialSpec.model_construct(_fields_set=set(), **dict(spec))
        identity = spec.identity()
        self._ids = Alike({name: value for name, value in identity.items() if name not in _DIFFER}, _DIFFER)

    def shared_id(self, seed: int, parents: tuple[str, ...]) -> str:
        """`TrialSpec.shared_id` of the trial."""
        return self._ids.digest(parents, seed)

    def spec(self, seed: int, parents: tuple[str, ...], grid: str | None) -> TrialSpec:
        """The trial."""
        return self._spec.model_copy(update={"seed": seed, "parents": parents, "grid": grid})


@dataclass(frozen=True)
class _Draw:
    """A task with one draw of its training items."""

    task: str
    """The grid's name for it."""
    data_digest: str
    data_seed: int
    several: bool
    """Whether the grid has other draws too."""


class _Planner:
    def __init__(self, entries: Entries, inputs: Inputs, reuse: Reuse) -> None:
        self._entries = entries
        self._grid = entries.grid
        self._reuse = reuse
        self._inputs = inputs
        self._trials: dict[str, TrialSpec] = {}
        self._kinds: dict[Hashable, _Kind] = {}
        self._roots: dict[tuple[_Kind, int], str] = {}
        """Ids of trials without parents, which most cells share."""
        self._refused: dict[str, str] = {}
        """Reasons why trials are impossible, each with its remedy."""

    def plan(self) -> Plan:
        cells: list[Cell] = []
        uses: Counter[str] = Counter()
        self._check_roles()
        for entry in self._entries.each:
            for draw in self._draws(entry.task):
                for seed, supervisors in entry.supervisors.items():
                    cell, used = self._cell(entry, draw, seed, supervisors)
                    cells.append(cell)
                    uses.update(used)
        if self._refused:
            raise SpecError("\n  ".join(self._refused), remedy="\n".join(dict.fromkeys(self._refused.values())))
        return Plan(grid=self._grid, trials=self._trials, cells=tuple(cells), uses=uses)

    def _cell(self, entry: Entry, draw: _Draw, seed: int, supervisors: tuple[Supervisor, ...]) -> tuple[Cell, set[str]]:
        """A cell, and all trials that it uses."""
        weak = self._add(Role.WEAK, draw, entry.pair.weak, seed)
        ceiling = self._add(Role.CEILING, draw, entry.pair.strong, seed)
        student = self._student_of(entry, draw, seed, supervisors, weak)
        ancestry = self._ancestry(student)
        cell = Cell(
            task=self._inputs.tasks[entry.task].manifest.name,
            weak=self._inputs.models[entry.pair.weak].ref.name,
            strong=self._inputs.models[entry.pair.strong].ref.name,
            strategy=entry.label,
            kind="strategy" if entry.control is None else "control",
            seed=seed,
            weak_trial=weak,
            ceiling_trial=ceiling,
            student_trial=student,
            data_digest=draw.data_digest,
            others=tuple(sorted(ancestry - {weak, ceiling, student})),
            data_seed=draw.data_seed if draw.several else None,
        )
        return cell, ancestry | {weak, ceiling}

    def _draws(self, task: str) -> Iterator[_Draw]:
        digests = self._inputs.tasks[task].draws
        for data_seed, data_digest in digests.items():
            yield _Draw(task, data_digest, data_seed, len(digests) > 1)

    def _check_roles(self) -> None:
        for pair in self._grid.pairs:
            if not self._inputs.models[pair.strong].ref.trained:
                raise SpecError(
                    f"pair {pair}: {pair.strong} is a source of labels, not a model that wtsbench trains",
                    remedy="take it as `weak`, and a model as `strong`.",
                )

    def _student_of(self, entry: Entry, draw: _Draw, seed: int, supervisors: tuple[Supervisor, ...], weak: str) -> str:
        """Id of the trial whose score a cell shows."""
        strong = entry.pair.strong
        if entry.strategy is not None:
            return self._student(draw, strong, seed, entry.strategy, supervisors)
        assert entry.control is not None, "an entry without a strategy is a control's"
        if entry.control == "strong_on_weak_train":
            return self._add(Role.WEAK, draw, strong, seed)
        # Asking an untrained classifier involves no randomness: one trial serves all seeds.
        seedless = entry.control == "zero_shot" and entry.form == "classification"
        parents = (weak,) if entry.control == "random_labels" else ()
        zero_shot = self._inputs.tasks[entry.task].manifest.zero_shot
        recipe = controls.recipe_of(entry.control, entry.form, zero_shot, entry.task)
        return self._add(Role.CONTROL, draw, strong, 0 if seedless else seed, recipe=recipe, parents=parents)

    def _supervisor(self, draw: _Draw, supervisor: Supervisor) -> str:
        if supervisor.role is Role.WEAK:
            parents = tuple(self._supervisor(draw, below) for below in supervisor.supervisors)
            return self._add(
                Role.WEAK, draw, supervisor.model, supervisor.seed, recipe=supervisor.recipe, parents=parents
            )
        assert supervisor.strategy is not None, "a student supervisor says how it learns"
        strategy = registry.resolve(supervisor.strategy)
        return self._student(draw, supervisor.model, supervisor.seed, strategy, supervisor.supervisors)

    def _student(
        self, draw: _Draw, model: str, seed: int, strategy: Strategy, supervisors: tuple[Supervisor, ...]
    ) -> str:
        parents = tuple(self._supervisor(draw, supervisor) for supervisor in supervisors)
        return self._add(Role.STUDENT, draw, model, seed, strategy=strategy, parents=parents)

    def _add(
        self,
        role: Role,
        draw: _Draw,
        model: str,
        seed: int,
        *,
        strategy: Strategy | None = None,
        recipe: StrategyCall | None = None,
        parents: tuple[str, ...] = (),
    ) -> str:
        """The id of a trial, which is added to the plan if it is new."""
        kind = self._kind(role, draw, model, strategy, recipe)
        seed = seed if self._inputs.models[model].ref.trained else 0
        if not parents and (kind, seed) in self._roots:
            return self._roots[kind, seed]
        trial_id, grid = self._reuse.chosen(kind.shared_id(seed, parents))
        if trial_id not in self._trials:
            self._trials[trial_id] = kind.spec(seed, parents, grid)
        if not parents:
            self._roots[kind, seed] = trial_id
        return trial_id

    def _kind(
        self, role: Role, draw: _Draw, model: str, strategy: Strategy | None, recipe: StrategyCall | None
    ) -> _Kind:
        taught = None if strategy is None else (strategy.name, strategy.parameters.model_dump_json())
        done = None if recipe is None else recipe.model_dump_json()
        key = (role, draw, model, taught, done)
        if key not in self._kinds:
            spec = self._template(role, draw, model, strategy, recipe)
            self._refused.update(impossible(spec, model, draw.task, self._inputs.models[model].writes))
            self._kinds[key] = _Kind(spec)
        return self._kinds[key]

    def _template(
        self, role: Role, draw: _Draw, model: str, strategy: Strategy | None, recipe: StrategyCall | None
    ) -> TrialSpec:
        """Spec of a kind of trials, without seed and parents."""
        resolved, about = self._inputs.models[model], self._inputs.tasks[draw.task]
        manifest = about.manifest
        trained = resolved.ref.trained
        return TrialSpec(
            role=role,
            task=manifest.name,
            data_digest=draw.data_digest,
            data_seed=draw.data_seed,
            model=resolved.ref,
            strategy=None if strategy is None else registry.full_call(strategy),
            strategy_version=None if strategy is None else strategy.revision(),
            strategy_package=None if strategy is None else registry.package_of(strategy.name),
            recipe=recipe,
            form=manifest.form,
            generation=manifest.generation,
            scorer=about.scorer,
            reference=about.reference,
            training=training_of(self._grid, model, resolved.training, draw.task) if trained else Training(),
            seed=0,
            environment=self._inputs.environment,
        )

    def _ancestry(self, trial_id: str) -> set[str]:
        return {trial_id}.union(*(self._ancestry(parent) for parent in self._trials[trial_id].parents))


def training_of(grid: Grid, model: str, manifest: TrainingOverride, task: str) -> Training:
    """Training settings of a model on a task, both named as in the grid.

    Each overrides the ones before: defaults, the model's manifest, the grid's, those for the task, those for the model.
    """
    settings = manifest.over(Training())
    for override in (grid.training, grid.training.tasks.get(task), grid.training.models.get(model)):
        settings = settings if override is None else override.over(settings)
    return settings
