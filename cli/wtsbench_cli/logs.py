"""`wtsbench logs`: what a trial printed and why it failed; without a trial, which ones failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wtsbench.visible import visible
from wtsbench_cli.options import JsonOption, StoreOption, store_of
from wtsbench_cli.terminal import duration, print_json, print_table

if TYPE_CHECKING:
    from wtsbench.store.client import Store

_COLUMNS = [
    "trial_id",
    "attempt",
    "status",
    "failure_class",
    "failure_message",
    "failure_detail",
    "role",
    "task",
    "model",
    "strategy",
    "seed",
    "data_seed",
    "duration_s",
]


def logs(
    trial: Annotated[
        str | None,
        typer.Argument(
            metavar="[TRIAL]",
            help="A trial's id, or enough of its beginning. Default: list the trials that failed.",
            show_default=False,
        ),
    ] = None,
    attempt: Annotated[
        int | None,
        typer.Option("--attempt", metavar="N", min=1, help="Which attempt. Default: the last.", show_default=False),
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a trial printed and why it failed; list failures."""
    from wtsbench.errors import SpecError
    from wtsbench.store.client import open_store

    place = store_of(store)
    opened = open_store(place)
    if trial is None:
        if attempt is not None:
            raise SpecError("--attempt needs a trial", remedy="give the beginning of its id.")
        _show_failed(_failed(opened), place, json=json)
        return
    trial_id, attempts = _find(opened, trial)
    number = attempt if attempt is not None else max(attempts)
    if number not in attempts:
        listed = ", ".join(map(str, attempts))
        raise SpecError(
            f"trial {trial_id[:12]} has no attempt {number}", remedy=f"choose one of its attempts: {listed}."
        )
    _show_one(_record_of(opened, place, trial_id, number), attempts=attempts, json=json)


def _failed(store: Store) -> list[dict[str, Any]]:
    """The last failure of every trial that has no result."""
    rows = store.trials().select(_COLUMNS).to_pylist()
    done = {row["trial_id"] for row in rows if row["status"] == "done"}
    last: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["attempt"]):
        if row["trial_id"] not in done:
            last[row["trial_id"]] = row
    return sorted(last.values(), key=lambda row: (str(row["failure_class"]), row["trial_id"]))


def _find(store: Store, beginning: str) -> tuple[str, list[int]]:
    """The only trial whose id begins like this, and its attempts."""
    from wtsbench.errors import SpecError

    table = store.attempts().select(["trial_id", "attempt"])
    attempts_of: dict[str, list[int]] = {}
    for row in table.to_pylist():
        if row["trial_id"].startswith(beginning.strip().lower()):
            attempts_of.setdefault(row["trial_id"], []).append(row["attempt"])
    if not attempts_of:
        raise SpecError(
            f"the store holds no trial whose id begins with {beginning!r}",
            remedy="`wtsbench logs` lists those that failed, `wtsbench plan --verbose GRID` all trials of a grid.",
        )
    if len(attempts_of) > 1:
        several = ", ".join(trial_id[: len(beginning) + 6] for trial_id in sorted(attempts_of)[:5])
        raise SpecError(f"{len(attempts_of)} trials begin with {beginning!r}", remedy=f"give more of the id: {several}")
    ((trial_id, attempts),) = attempts_of.items()
    return trial_id, sorted(attempts)


def _record_of(store: Store, place: str, trial_id: str, attempt: int) -> dict[str, Any]:
    rows = store.trials([trial_id]).select(_COLUMNS).to_pylist()
    sealed = next((row for row in rows if row["attempt"] == attempt), None)
    if sealed is None:
        superseded = store.sealed(trial_id, attempt)
        return {
            "trial_id": trial_id,
            "attempt": attempt,
            "status": "superseded" if superseded else "running",
            "lines": [] if superseded else _so_far(place, trial_id, attempt),
        }
    table = store.logs(trial_id, attempt).select(["line", "stream", "text"])
    return {**sealed, "lines": sorted(table.to_pylist(), key=lambda line: line["line"])}


def _so_far(place: str, trial_id: str, attempt: int) -> list[dict[str, Any]]:
    """What an attempt on this machine has printed so far."""
    from wtsbench.execution.spool import printed
    from wtsbench.settings import spool_folder

    lines = printed(spool_folder(place), trial_id, attempt)
    return [{"line": number, "stream": "output", "text": text} for number, text in enumerate(lines, 1)]


def _name(row: dict[str, Any]) -> str:
    from wtsbench.planning.report import name_of

    return name_of(row["role"], row["task"], row["model"], row["strategy"], row["seed"], row["data_seed"])


def _show_failed(rows: list[dict[str, Any]], place: str, *, json: bool) -> None:
    if json:
        print_json(rows)
        return
    if not rows:
        print(f"no failed trials in {place}")
        return
    lines = [
        (
            row["trial_id"][:12],
            str(row["attempt"]),
            _name(row),
            f"{row['failure_class']}: {row['failure_message']}",
        )
        for row in rows
    ]
    print_table(("trial", "attempt", "what", "failed with"), lines, right=("attempt",))


def _show_one(record: dict[str, Any], *, attempts: list[int], json: bool) -> None:
    if json:
        print_json(record)
        return
    title = f"attempt {record['attempt']}" + (f" of {max(attempts)}" if len(attempts) > 1 else "")
    print(visible(f"trial {record['trial_id']}"))
    if record["status"] == "running":
        print(f"{title}: not ended yet; its output on this machine so far:")
    elif record["status"] == "superseded":
        print(f"{title}: superseded; another attempt of the trial was done first")
        return
    else:
        print(f"{visible(_name(record))}, {title}: {record['status']} after {duration(record['duration_s'])}")
    if record["status"] == "failed":
        print(visible(f"{record['failure_class']}: {record['failure_message']}"))
        if record["failure_detail"]:
            print(f"\n{record['failure_detail'].rstrip()}")
    print()
    for line in record["lines"]:
        print(visible(line["text"], keep="\t"))
    if not record["lines"]:
        print("(no output)")
