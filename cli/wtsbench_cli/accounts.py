"""What became of tasks' rows, as the verbs `plan`, `validate --data` and `tasks` show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wtsbench_cli.terminal import print_table

if TYPE_CHECKING:
    from wtsbench.data.account import Account


def show_accounts(accounts: Sequence[Account], *, warned: bool = True) -> None:
    """The way from rows to items, then the splits of all tasks, and what their test sets can show.

    Args:
        accounts: of each task.
        warned: whether the warnings are shown as well; else they have been.
    """
    from wtsbench.data.account import SHOWS

    for line in (line for account in accounts for line in account.lines):
        print(line)
    print()
    numbers = ("items", "groups")
    rows = [
        (account.task, split.split, f"{split.items:,}", f"{split.groups:,}", split.shares, split.gone, split.shown)
        for account in accounts
        for split in account.splits
    ]
    print_table(("task", "split", *numbers, "classes", "left out", "shows"), rows, right=numbers)
    if any(split.shows for account in accounts for split in account.splits):
        print(SHOWS)
    for text in (text for account in accounts for text in account.warnings if warned):
        print(f"warning: {text}")


def account_record(account: Account) -> dict[str, Any]:
    """An account as JSON, counts by name."""
    record = asdict(account)
    for part in (record["own"], record["ood"], *record["splits"]):
        for key in {"left_out", "classes"} & set(part or ()):
            part[key] = {count["name"]: count["number"] for count in part[key]}
    return {**record, "splits": {split.pop("split"): split for split in record["splits"]}}
