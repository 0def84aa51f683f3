"""The nodes of a cluster as `wtsbench doctor` shows them: a table with a row for each, and below it what is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wtsbench.visible import visible
from wtsbench_cli.terminal import console, put

if TYPE_CHECKING:
    from wtsbench.execution.node_faults import Node
    from wtsbench.execution.preflight import Survey

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red", "-": "dim"}
_WIDE = 100
"""Columns from which a table has room between its own."""
_NOTHING = "-"


def show(survey: Survey) -> None:
    """Print the table and the faults with their remedies."""
    from rich.table import Table
    from rich.text import Text

    from wtsbench.execution.node_faults import told

    docker, models = survey.question.image is not None, bool(survey.question.models)
    shown = {"engine": docker, "models": models}
    rows = [_row(node, survey) for node in survey.nodes]
    table = Table(box=None, pad_edge=False, padding=(0, 2 if console().width >= _WIDE else 1, 0, 0))
    names = [name for name in rows[0] if shown.get(name, True)] if rows else []
    for name in names:
        table.add_column("image" if docker and name == "lock" else name, overflow="fold")
    for row in rows:
        state = Text(row[""], style=COLOURS[row[""]])
        table.add_row(state, *(visible(row[name]) for name in names if name))
    put(table)
    for fault in survey.faults:
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_column(width=4)
        line.add_column(overflow="fold")
        line.add_row(Text(fault.state, style=COLOURS[fault.state]), Text(visible(told(fault))))
        line.add_row("", Text(visible(fault.remedy), style="dim"))
        put(line)


def as_json(survey: Survey) -> dict[str, Any]:
    """Everything that was asked and answered."""
    nodes = []
    for node in survey.nodes:
        facts = None if node.facts is None else node.facts.model_dump(mode="json")
        nodes.append({**asdict(node), "facts": facts, "offers": dict(node.offers), "state": survey.state(node)})
    asked = survey.question
    return {
        "environment": asked.environment,
        "store": asked.store,
        "grid": asked.grid,
        "nodes": nodes,
        "faults": [asdict(fault) for fault in survey.faults],
    }


def _row(node: Node, survey: Survey) -> dict[str, str]:
    """Cells by heading."""
    row = {"": survey.state(node), "node": node.name, "python": node.python or _NOTHING}
    facts = node.facts
    if facts is None:
        rest = ("lock", "engine", "gpu", "disk", "memory", "clock", "store", "models")
        return row | dict.fromkeys(rest, _NOTHING)
    environment = (facts.environment or "").partition(":")[2].removeprefix("sha256:")
    return row | {
        "lock": environment.partition(":")[0][:8] or _NOTHING,
        "engine": facts.engine or _NOTHING,
        "gpu": _gpus(facts.gpus),
        "disk": _size(facts.spool.free),
        "memory": _size(facts.memory_free),
        "clock": _NOTHING if node.clock is None else f"{node.clock.ahead:+.1f} s",
        "store": "no" if facts.store is None else facts.store.scope or "folder",
        "models": f"{len(facts.models)}/{len(survey.question.models)}",
    }


def _gpus(gpus: Any) -> str:
    """Counts of kinds, and the driver: `8 H100, 580.95`."""
    kinds = Counter(gpu.name.removeprefix("NVIDIA ").partition(" ")[0] for gpu in gpus)
    drivers = sorted({gpu.driver for gpu in gpus})
    return ", ".join([*(f"{number} {name}" for name, number in kinds.items()), *drivers]) or "none"


def _size(number: int) -> str:
    """Bytes in five characters at most: `812 G`."""
    amount = number / 2**20
    for unit in ("M", "G"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "M" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} T"
