"""`wtsbench logs`: what a trial printed and why it failed; without a trial, which ones failed."""

from __future__ import annotations

import time
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
_LOOK_SECONDS = 2.0


def logs(
    trial: Annotated[
        str | None,
        typer.Argument(
            metavar="[TRIAL]", help="A trial's id, or enough of its beginning. Default: list the trials that failed."
        ),
    ] = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", min=1, help="Which attempt. Default: the last.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="All that runs now of this run, in place of a trial.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the trial or the run has ended.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a trial printed and why it failed; list failures.

    What running trials print reaches the store within some ten seconds, from whatever node, and stays there.
    """
    from wtsbench.errors import SpecError
    from wtsbench.store.client import open_store

    place = store_of(store)
    opened = open_store(place)
    if follow and json:
        raise SpecError("--follow prints lines, and no JSON", remedy="leave out one of the two.")
    if run is not None:
        if trial is not None or attempt is not None or json:
            raise SpecError("--run goes with --follow and --store alone", remedy="leave the rest out.")
        _show_run(opened, run, follow=follow)
        return
    if trial is None:
        if attempt is not None or follow:
            option = "--follow" if follow else "--attempt"
            raise SpecError(f"{option} needs a trial", remedy="give the beginning of its id.")
        _show_failed(_failed(opened), place, json=json)
        return
    trial_id, attempts = _find(opened, trial)
    number = attempt if attempt is not None else max(attempts)
    if number not in attempts:
        listed = ", ".join(map(str, attempts))
        raise SpecError(
            f"trial {trial_id[:12]} has no attempt {number}", remedy=f"choose one of its attempts: {listed}."
        )
    if follow:
        _follow(opened, trial_id, number)
    record = _record_of(opened, trial_id, number)
    if follow:
        record["lines"] = None  # they have been printed
    _show_one(record, attempts=attempts, json=json)


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


def _record_of(store: Store, trial_id: str, attempt: int) -> dict[str, Any]:
    from wtsbench.execution.runs import printed_since

    rows = store.trials([trial_id]).select(_COLUMNS).to_pylist()
    sealed = next((row for row in rows if row["attempt"] == attempt), None)
    if sealed is None:
        superseded = store.sealed(trial_id, attempt)
        lines = [] if superseded else printed_since(store, trial_id, attempt, 0)[0]
        return {
            "trial_id": trial_id,
            "attempt": attempt,
            "status": "superseded" if superseded else "running",
            "lines": [{"line": number, "stream": "output", "text": text} for number, text in lines],
        }
    table = store.logs(trial_id, attempt).select(["line", "stream", "text"])
    return {**sealed, "lines": sorted(table.to_pylist(), key=lambda line: line["line"])}


def _follow(store: Store, trial_id: str, attempt: int) -> None:
    """Print what an attempt prints until it has ended."""
    from wtsbench.execution.runs import printed_since

    line, ended = 0, False
    while not ended:
        lines, ended = printed_since(store, trial_id, attempt, line)
        for line, text in lines:  # noqa: B007  # the last one's number is where to go on
            print(visible(text, keep="\t"), flush=True)
        if not ended:
            time.sleep(_LOOK_SECONDS)


def _show_run(store: Store, name: str, *, follow: bool) -> None:
    """What running trials of a run print, each line after the beginning of its trial's id; all until the run's end."""
    from wtsbench.execution.runs import attempts_of, printed_since, run_of

    run = run_of(store, name)
    shown: dict[tuple[str, int], int] = {}
    """Attempts that have not ended, and the last line of each that was printed."""
    while True:
        over = run_of(store, run.run).state not in ("queued", "running")
        for key in attempts_of(store, run.run):
            shown.setdefault(key, 0)
        for trial_id, number in list(shown):
            lines, ended = printed_since(store, trial_id, number, shown[trial_id, number])
            for line, text in lines:
                print(trial_id[:8], visible(text, keep="\t"), flush=True)
                shown[trial_id, number] = line
            if ended:
                del shown[trial_id, number]
        if not follow or over:
            return
        time.sleep(_LOOK_SECONDS)


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
        print(f"{title}: not ended yet; its output so far:")
    elif record["status"] == "superseded":
        print(f"{title}: superseded; another attempt of the trial was done first")
        return
    else:
        print(f"{visible(_name(record))}, {title}: {record['status']} after {duration(record['duration_s'])}")
    if record["status"] == "failed":
        print(visible(f"{record['failure_class']}: {record['failure_message']}"))
        if record["failure_detail"]:
            print(f"\n{record['failure_detail'].rstrip()}")
    if record["lines"] is None:
        return
    print()
    for line in record["lines"]:
        print(visible(line["text"], keep="\t"))
    if not record["lines"]:
        print("(no output)")
