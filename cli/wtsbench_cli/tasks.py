"""`wtsbench tasks`: what can be measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wtsbench_cli.accounts import account_record, show_accounts
from wtsbench_cli.describe import manifest_record, show_fields
from wtsbench_cli.options import JsonOption, MirrorOption, NameArgument
from wtsbench_cli.terminal import count, print_json, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from wtsbench.data.looking import Example, Examples

_SHOWN = 2_000
"""Characters of a text that a terminal gets."""


def tasks(
    name: NameArgument = None,
    data: Annotated[
        bool | None,
        typer.Option(
            "--data/--no-data",
            help="Read its rows and show what becomes of them. Default: for a file, and not for a name.",
        ),
    ] = None,
    items: Annotated[
        int,
        typer.Option(
            "--items",
            metavar="N",
            min=0,
            help="Show so many prepared items of each class, as models get them. Default: none.",
            show_default=False,
        ),
    ] = 0,
    mirror: MirrorOption = None,
    json: JsonOption = False,
) -> None:
    """List the tasks, or show one with its data and its splits."""
    from wtsbench.spec import manifests

    if name is not None:
        read = (manifests.is_path(name) or items > 0) if data is None else data
        _show(name, read=read, items=items, mirror=mirror, json=json)
        return
    if items or data:
        raise typer.BadParameter("name the task whose rows are to be read", param_hint="NAME")
    records = [manifest_record("tasks", found) for found in manifests.names("tasks")]
    if json:
        print_json(records)
        return
    print_table(("task", "form", "data", "metric", "classes", "ood", "summary"), [_row(r) for r in records])


def _show(name: str, *, read: bool, items: int, mirror: Path | None, json: bool) -> None:
    record = manifest_record("tasks", name)
    if not json:
        show_fields(record)
    if read:
        from wtsbench.data.account import account_of
        from wtsbench.data.looking import examples, look
        from wtsbench.settings import data_mirror

        dataset = look(name, mirror=mirror or data_mirror())
        account, found = account_of(dataset), [*examples(dataset, items)]
        record |= {"rows": account_record(account), "examples": [asdict(some) for some in found] if items else []}
        if not json:
            print()
            show_accounts([account])
            for some in found if items else ():
                _show_examples(some)
    if json:
        print_json(record)


def _show_examples(some: Examples) -> None:
    named = "" if some.label is None else f"{some.label}: "
    print(f"\n{named}{len(some.items)} of {count(some.whole, 'item')} of weak_train")
    for example in some.items:
        print(f"\n{example.item_id}")
        for line in _lines(example):
            print(f"    {line}")


def _lines(example: Example) -> list[str]:
    """An item's text, and behind it what is to be written; what steers a terminal is shown as its code by `print`."""
    left = len(example.text) - _SHOWN
    lines = [*example.text[:_SHOWN].split("\n"), *([f"… and {left:,} characters more"] if left > 0 else [])]
    return lines if example.target is None else [*lines, "-> continuation", *example.target.split("\n")]


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    classes = str(len(record["labels"])) if record["labels"] else "-"
    other = record["ood"]["name"] if record["ood"] else "-"
    told = record["name"], record["form"], record["source"]["kind"], record["metric"]
    return (*told, classes, other, record["summary"])
