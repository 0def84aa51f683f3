"""`wtsbench plan`: what would a submission run, and why?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wtsbench_cli.accounts import account_record, show_accounts
from wtsbench_cli.options import (
    GridArgument,
    JsonOption,
    MirrorOption,
    SandboxName,
    SandboxOption,
    StoreOption,
    TrustOption,
    store_of,
)
from wtsbench_cli.terminal import count, doing, print_json, print_table
from wtsbench_cli.views import accounts, warnings

if TYPE_CHECKING:
    from wtsbench.execution.session import Session
    from wtsbench.planning.report import PlannedTrial

MOST_LINES = 50
"""Of what is counted: a grid may have a million trials, thousands of models and tasks, and as many reasons."""
_PARENTS = re.compile(r"parents: \[.*?\] -> \[.*?\]")
_STORED_TRIAL = re.compile(r"stored trial [0-9a-f]+")


def plan(
    grid: GridArgument,
    store: StoreOption = None,
    sandbox: SandboxOption = None,
    mirror: MirrorOption = None,
    trust: TrustOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every trial with its state.")] = False,
    json: JsonOption = False,
) -> None:
    """Show what a submission would run, and why. Runs nothing.

    A trial that the store holds is not run again; of every other one it says in which field it differs, how it failed
    last time, or for which trial it waits.
    """
    from wtsbench.execution.session import Options, prepare

    place = store_of(store)
    options = Options(store=place, sandbox=sandbox or SandboxName.AUTO, mirror=mirror, trust=tuple(trust or ()))
    with doing() as note:
        session = prepare(grid, options, note=note)
    if json:
        print_json(_record(session, place))
    else:
        _show(session, place, verbose=verbose)


def _record(session: Session, store: str) -> dict[str, Any]:
    report = session.report
    return {
        "grid": session.grid.name,
        "grid_digest": session.plan.grid_digest,
        "source": session.source,
        "store": store,
        "sandbox": session.sandbox.name,
        "cells": len(session.plan.cells),
        "total": report.total,
        "shared": report.shared,
        "stored": report.stored,
        "to_run": report.to_run,
        "data": [account_record(account) for account in accounts(session)],
        "estimate": session.estimate.record(),
        "warnings": [text for _, text in warnings(session)],
        "trials": [
            {
                "trial_id": trial.trial_id,
                "role": trial.spec.role.value,
                "task": trial.spec.task,
                "model": trial.spec.model.name,
                "strategy": None if trial.spec.strategy is None else trial.spec.strategy.model_dump(mode="json"),
                "seed": trial.spec.seed,
                "data_seed": trial.spec.data_seed,
                "parents": list(trial.spec.parents),
                "uses": trial.uses,
                "state": trial.state,
                "reason": trial.reason,
            }
            for trial in report.trials
        ],
    }


def _show(session: Session, store: str, *, verbose: bool) -> None:
    report = session.report
    print(
        f"{session.grid.name}: {count(len(session.plan.cells), 'cell')} in {count(report.total, 'trial')}, "
        f"{report.shared:,} of them shared: {report.stored:,} stored, {report.to_run:,} to run"
    )
    print(f"store {store}, sandbox {session.sandbox.name}")
    if report.to_run:
        print(f"time: {session.estimate}")
    for subject, text in warnings(session):
        print(f"{subject}: {text}")
    print()
    show_accounts(accounts(session), warned=False)
    print()
    numbers = ("trials", "shared", "stored", "to run")
    print_table(("role", "task", "model", *numbers), list(_counted(report.trials)), right=numbers)
    if report.to_run:
        print("\nto run, and why")
        every = reasons(report.trials)
        for reason, number in every[:MOST_LINES]:
            print(f"{number:>6,}  {reason}")
        if len(every) > MOST_LINES:
            print(f"        and {count(len(every) - MOST_LINES, 'further reason')}: --verbose has each trial's")
    if verbose:
        from wtsbench.planning.report import title

        print()
        each = [(trial.trial_id[:12], trial.state, title(trial.spec), trial.reason) for trial in report.trials]
        print_table(("trial", "state", "what", "why"), each)


def _counted(trials: tuple[PlannedTrial, ...]) -> Iterator[tuple[str, ...]]:
    """Trials by role, task and model with their numbers; by role alone where that would be too many lines."""
    by_model = Counter((trial.spec.role.value, trial.spec.task, trial.spec.model.name) for trial in trials)
    few = len(by_model) <= MOST_LINES
    groups: dict[tuple[str, str, str], list[PlannedTrial]] = {}
    for trial in trials:
        spec = trial.spec
        kind = (spec.role.value, spec.task, spec.model.name) if few else (spec.role.value, "all", "all")
        groups.setdefault(kind, []).append(trial)
    for kind, some in groups.items():
        stored = sum(trial.state == "stored" for trial in some)
        shared = sum(trial.uses > 1 for trial in some)
        yield (*kind, *(f"{number:,}" for number in (len(some), shared, stored, len(some) - stored)))


def reasons(trials: tuple[PlannedTrial, ...]) -> list[tuple[str, int]]:
    """Why trials would run, alike reasons counted together, the most frequent first; then how many wait for others."""
    missing = {trial.trial_id for trial in trials if trial.state != "stored"}
    found: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for trial in trials:
        if trial.trial_id not in missing:
            continue
        found[_alike(trial.reason or trial.state)] += 1
        if missing.intersection(trial.spec.parents):
            waiting[trial.spec.role.value] += 1
    return found.most_common() + [
        (f"of them {'is a' if number == 1 else 'are'} {role}{'' if number == 1 else 's'} waiting for others", number)
        for role, number in waiting.most_common()
    ]


def _alike(reason: str) -> str:
    return _STORED_TRIAL.sub("the stored trial", _PARENTS.sub("parents (new as well)", reason))
