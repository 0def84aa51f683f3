"""`wtsbench tasks`: what can be measured."""

from __future__ import annotations

from typing import Any

from wtsbench_cli.describe import manifest_record, show_fields
from wtsbench_cli.options import JsonOption, NameArgument
from wtsbench_cli.terminal import print_json, print_table


def tasks(name: NameArgument = None, json: JsonOption = False) -> None:
    """List the tasks, or show one with its data and its splits."""
    from wtsbench.spec import manifests

    if name is not None:
        record = _record(name)
        print_json(record) if json else show_fields(record)
        return
    records = [_record(found) for found in manifests.names("tasks")]
    if json:
        print_json(records)
        return
    print_table(("task", "form", "data", "metric", "classes", "ood", "summary"), [_row(r) for r in records])


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    classes = str(len(record["labels"])) if record["labels"] else "-"
    other = record["ood"]["name"] if record["ood"] else "-"
    told = record["name"], record["form"], record["source"]["kind"], record["metric"]
    return (*told, classes, other, record["summary"])


def _record(name: str) -> dict[str, Any]:
    from wtsbench.spec import manifests

    task, _ = manifests.load_task(name)
    return manifest_record("tasks", name, task)
