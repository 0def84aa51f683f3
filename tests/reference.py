"""Makes docs/reference.md out of the code and the manifests: strategies, controls, tasks, models, figures, grid keys.

python -m tests.reference
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wtsbench.planning.controls import FORMS
from wtsbench.spec import manifests
from wtsbench.spec.generation import GenerationSettings
from wtsbench.spec.grid import Grid
from wtsbench.spec.grid import __file__ as grid_source
from wtsbench.spec.training import Training
from wtsbench.strategies import registry
from wtsbench.strategies.base import Parameters
from wtsbench_cli.describe import kind as type_of
from wtsbench_cli.describe import parameters_of, text_of

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
HEAD = """\
# Reference

Every strategy, control, task, model, published figure and key of a grid. Made by `python -m tests.reference`; a test
says whether it is as the code has it. `wtsbench strategies NAME`, `wtsbench tasks NAME` and `wtsbench models NAME` tell
the same, those of your own folders and packages included. How to write a strategy: [strategies.md](strategies.md); a
task: [tasks.md](tasks.md).
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, *strategies(), *controls(), *tasks(), *models(), *published(), *grid_keys()]
    return "\n".join(parts)


def strategies() -> Iterator[str]:
    """Each with its formula's source, its control and its parameters."""
    common = parameters_of(Parameters)
    yield "## Strategies\n\nEvery strategy takes these parameters beside its own:\n"
    yield table(("parameter", "type", "default", "meaning"), map(parameter, common))
    usual = {each["name"]: each["default"] for each in common}
    for name, strategy in registry.BUILT_IN.items():
        made = strategy(strategy.Parameters.model_construct())
        facts = [f"For {' and '.join(strategy.forms)}"]
        facts += [f"control: `{made.matched}`"] if made.matched is not None else []
        facts += [f"ground truth of {made.truth_budget()} items"] if made.truth_budget() else []
        facts += ["the strong model has to be a language model"] if made.language or made.asks else []
        source = strategy.source[0].upper() + strategy.source[1:]
        yield f"### {name}\n\n{sentence(strategy.summary)} {'; '.join(facts)}. Source: {source}.\n"
        own = [each for each in parameters_of(strategy.Parameters) if usual.get(each["name"], ...) != each["default"]]
        if own:
            yield table(("parameter", "type", "default", "meaning"), map(parameter, own))


def controls() -> Iterator[str]:
    """What the grid key `controls` takes."""
    told = Path(grid_source).read_text(encoding="utf-8").split("how each is planned):", 1)[1].split('"""', 1)[0]
    meanings = dict(line.split(None, 1) for line in told.strip().splitlines())
    yield "## Controls\n"
    yield table(
        ("control", "for", "what it is"),
        ((f"`{name}`", " and ".join(forms), meanings[name]) for name, forms in FORMS.items()),
    )


def tasks() -> Iterator[str]:
    """Those that are shipped."""
    yield "## Tasks\n"
    rows = []
    for name in shipped("tasks"):
        task, _ = manifests.load_task(name)
        rows.append((f"`{name}`", task.form, task.metric, ", ".join(task.labels or ()) or "-", task.summary))
    yield table(("task", "form", "metric", "classes", "what is asked"), rows)


def models() -> Iterator[str]:
    """Those that are shipped, by family and size."""
    yield "## Models\n"
    known = [manifests.load_model(name)[0] for name in shipped("models")]
    known.sort(key=lambda model: (model.family or "", model.parameters or 0, model.name))
    rows = [
        (f"`{each.name}`", each.family or "-", f"{each.parameters:,}" if each.parameters else "-", each.summary)
        for each in known
    ]
    yield table(("model", "family", "weights", "what it is"), rows)


def published() -> Iterator[str]:
    """What others published, as far as it is data."""
    yield (
        "## Published figures\n\nShown beside a row of the same task, pair, strategy and metric; those without a pair "
        "are shown beside none. PGR in brackets is from the three scores.\n"
    )
    rows = []
    for name in shipped("published"):
        for each in manifests.load_published(name).figures:
            scores = (each.weak_score, each.score, each.ceiling_score)
            pgr = "" if each.recovered is None else f"{each.recovered:.2f}"
            rows.append(
                (
                    f"`{name}`",
                    each.task,
                    f"{each.weak} → {each.strong}" if each.weak and each.strong else each.note or "",
                    each.strategy,
                    each.metric,
                    *("" if score is None else f"{score:.3f}" for score in scores),
                    f"({pgr})" if each.pgr is None and pgr else pgr,
                )
            )
    heading = ("source", "task", "pair", "strategy", "metric", "weak", "student", "ceiling", "PGR")
    yield table(heading, rows)


def shipped(kind: manifests.Kind) -> list[str]:
    """Names of the manifests of this checkout."""
    return sorted(path.stem for path in (Path(__file__).parents[1] / "manifests" / kind).glob("*.yaml"))


def grid_keys() -> Iterator[str]:
    """All keys, nested ones with a dot."""
    yield "## Keys of a grid\n"
    schema = Grid.model_json_schema(by_alias=True)
    settled = {
        f"`{above}.{each['name']}`": (told(each["default"]), each["description"])
        for above, settings in (("training", Training), ("generation", GenerationSettings))
        for each in parameters_of(settings)
    }
    rows = [
        (key, kind, *(settled.get(key, ("", "")) if not meaning else (default, meaning)))
        for key, kind, default, meaning in leaves(schema, schema["$defs"], "")
    ]
    yield (
        "Defaults under `training` and `generation` are those of wtsbench: a model's manifest, and a task's, may have "
        "others.\n"
    )
    yield table(("key", "type", "default", "meaning"), rows)


def leaves(schema: dict[str, Any], definitions: dict[str, Any], above: str) -> Iterator[tuple[str, ...]]:
    """The keys of an object of a JSON Schema, and of the objects in it."""
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        below = definitions.get(field.get("$ref", "").rsplit("/", 1)[-1], field)
        entry = definitions.get(field.get("items", {}).get("$ref", "").rsplit("/", 1)[-1], {})
        default = "required" if name in required else "" if "properties" in below else told(field.get("default"))
        kind = "mapping" if "properties" in below else type_of(field, definitions)
        yield f"`{above}{name}`", kind, default, field.get("description", below.get("description", ""))
        for inner, mark in ((below, ""), (entry, "[]")):
            if "properties" in inner:
                yield from leaves(inner, definitions, f"{above}{name}{mark}.")


def parameter(record: dict[str, Any]) -> tuple[str, ...]:
    """A line of a table of parameters."""
    default = "required" if record["required"] else told(record["default"])
    return f"`{record['name']}`", record["type"], default, record["description"]


def told(value: Any) -> str:
    """A default as a grid has it; none where it is left out."""
    return "" if value is None or value in ([], {}) else f"`{text_of(value)}`"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def table(heading: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    """A Markdown table, its cells on one line each."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(heading), "|" + "---|" * len(heading), *map(line, rows)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
