"""`wtsbench validate`: is this file right?"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wtsbench_cli.accounts import account_record, show_accounts
from wtsbench_cli.options import JsonOption, MirrorOption
from wtsbench_cli.terminal import count, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from wtsbench.data.account import Account
    from wtsbench.planning.validation import Valid


class KindName(StrEnum):
    """What files there are."""

    GRID = "grid"
    TASK = "task"
    MODEL = "model"
    SCORER = "scorer"
    IMAGES = "images"


def validate(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="A grid, task, model or scorer: its file, or the name of a known one; or a file of images.",
        ),
    ] = None,
    kind: Annotated[
        KindName | None,
        typer.Option(
            "--kind",
            metavar="grid|task|model|scorer|images",
            help="What the file is. Default: what it says, and what its keys tell.",
        ),
    ] = None,
    data: Annotated[
        bool,
        typer.Option("--data", help="Read the rows of a task, or of a grid's tasks, and show what becomes of them."),
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of grids, or of files of --kind, instead.")
    ] = False,
    mirror: MirrorOption = None,
    json: JsonOption = False,
) -> None:
    """Check a file: a grid, a task, a model, a scorer or images.

    Every fault at once, with its line, the path of its key and the nearest valid name.
    """
    if schema:
        from wtsbench.planning.validation import json_schema

        print_json(json_schema((kind or KindName.GRID).value))
        return
    if file is None:
        raise typer.BadParameter("give a file, or --schema", param_hint="FILE")
    from wtsbench.errors import UserError
    from wtsbench.planning.validation import validated
    from wtsbench.spec.faults import SpecFaults

    try:
        valid = validated(file, None if kind is None else kind.value)
        accounts = _accounts(valid, file, mirror) if data else []
    except UserError as error:
        if not json:
            raise
        faults = [asdict(fault) for fault in error.faults] if isinstance(error, SpecFaults) else []
        print_json({"valid": False, "message": error.message, "remedy": error.remedy, "faults": faults})
        raise typer.Exit(error.exit_code) from None
    if json:
        told: dict[str, Any] = {"valid": True, "path": str(valid.path), "kind": valid.kind, valid.kind: valid.record()}
        more = {"data": [account_record(account) for account in accounts]} if data else {}
        print_json({**told, **more, "faults": []})
        return
    print(f"{valid.path}: valid; {_summary(valid)}")
    if accounts:
        print()
        show_accounts(accounts)
    elif valid.kind in ("grid", "task"):
        print("no row was read: --data reads them, and shows what becomes of them")


def _accounts(valid: Valid, source: str, mirror: Path | None) -> list[Account]:
    from wtsbench.data.account import account_of
    from wtsbench.data.looking import look, look_at_all
    from wtsbench.settings import data_mirror
    from wtsbench.spec.grid import Grid

    place = mirror or data_mirror()
    if isinstance(valid.content, Grid):
        return [account_of(dataset) for dataset in look_at_all(valid.content, valid.path.parent, mirror=place)]
    if valid.kind == "task":
        return [account_of(look(source, mirror=place))]
    raise typer.BadParameter(f"{source} has no rows: it is of the kind {valid.kind}", param_hint="--data")


def _summary(valid: Valid) -> str:
    from wtsbench.spec.grid import Grid
    from wtsbench.spec.task import TaskManifest

    content: Any = valid.content
    if isinstance(content, Grid):
        parts = (
            count(len(content.tasks), "task"),
            count(len(content.pairs), "pair"),
            count(len(content.strategies), "strategy", "strategies"),
            *([count(len(content.data.seeds), "draw")] if content.data.seeds else []),
            count(len(content.seeds), "seed"),
        )
        return f"{content.name} has {', '.join(parts)}"
    if isinstance(content, TaskManifest):
        classes = f"classes {', '.join(content.labels)}, balance {content.balance}, " if content.labels else ""
        return f"the task {content.name}, {content.form}: {classes}metric {content.metric}"
    if valid.kind == "images":
        return f"{count(len(content), 'image')}{''.join(f', {name}' for name in content)}"
    return f"the {valid.kind} {content.name}: {content.summary}"
