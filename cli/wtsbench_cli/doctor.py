"""`wtsbench doctor`: checks that a submission can run here, or on the nodes of a cluster."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wtsbench.errors import ExitCode
from wtsbench_cli.options import (
    JsonOption,
    MirrorOption,
    RayOption,
    SandboxName,
    SandboxOption,
    StoreOption,
    cluster_of,
    store_of,
)
from wtsbench_cli.terminal import count, doing, print_json, put

if TYPE_CHECKING:
    from wtsbench.execution.preflight import Survey
    from wtsbench_cli.checks import Check, Place

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    store: StoreOption = None,
    ray: RayOption = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            metavar="GRID",
            help="Ask whether the trials of this grid could run, its models and packages included.",
        ),
    ] = None,
    sandbox: SandboxOption = None,
    mirror: MirrorOption = None,
    json: JsonOption = False,
) -> None:
    """Check that a submission can run here, or on a cluster.

    Packages, cores, memory, disk, GPU, Docker, Ray, store, cache, data mirror, hub and git.
    With --ray, every node of the cluster as well: versions, image, GPUs, disk, memory, clock and its way to the store;
    with --grid, models too.

    Exit code 0 unless a check fails, then 5; warnings do not count.
    """
    from wtsbench.settings import data_mirror
    from wtsbench_cli.checks import Place, all_checks

    place = Place(store=store_of(store), ray=cluster_of(ray), mirror=mirror or data_mirror())
    checks = []
    for check in all_checks(place):
        checks.append(check)
        if not json:
            _show(check)
    survey = None
    answers = not any(check.name == "ray" and check.state == "fail" for check in checks)
    if answers and (grid is not None or _has_nodes(place.ray)):
        survey = _survey(place, grid, sandbox or SandboxName.AUTO, checks, quiet=json)
    _conclude(checks, survey, json=json)


def _has_nodes(address: str | None) -> bool:
    """Whether this process can become part of the cluster; by its dashboard or Ray's client it cannot."""
    return address is not None and "://" not in address


def _survey(place: Place, grid: str | None, sandbox: SandboxName, checks: list[Check], *, quiet: bool) -> Survey | None:
    """What the nodes say; if they cannot be asked, that is one more check that failed."""
    from wtsbench.errors import UserError
    from wtsbench.execution.cluster_doctor import examine
    from wtsbench.execution.session import Options
    from wtsbench_cli.checks import Check

    options = Options(store=place.store, sandbox=sandbox.value, ray=place.ray, mirror=place.mirror)
    try:
        with doing() as note:
            return examine(options, grid, note=(lambda _: None) if quiet else note)
    except UserError as error:
        checks.append(Check(name="nodes", state="fail", found=error.message, remedy=error.remedy))
        if not quiet:
            _show(checks[-1])
        return None


def _conclude(checks: list[Check], survey: Survey | None, *, json: bool) -> None:
    faults = () if survey is None else survey.faults
    failed = sum(check.state == "fail" for check in checks) + sum(fault.state == "fail" for fault in faults)
    if json:
        from wtsbench_cli.nodes import as_json

        said: dict[str, Any] = {"ok": not failed, "checks": [asdict(check) for check in checks]}
        print_json(said if survey is None else said | {"cluster": as_json(survey)})
    else:
        if survey is not None:
            from wtsbench_cli.nodes import show

            print()
            show(survey)
        warned = sum(check.state == "warn" for check in checks) + sum(fault.state == "warn" for fault in faults)
        print(f"\n{count(failed, 'check')} failed, {count(warned, 'warning')}")
    if failed:
        raise typer.Exit(ExitCode.UNREACHABLE)


def _show(check: Check) -> None:
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=4)
    line.add_column(width=11)
    line.add_column(overflow="fold")
    line.add_row(Text(check.state, style=_COLOURS[check.state]), check.name, check.found)
    if check.remedy:
        line.add_row("", "", Text(check.remedy, style="dim"))
    put(line)
