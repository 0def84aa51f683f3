"""`wtsbench doctor`: checks that a submission can run here."""

from __future__ import annotations

from dataclasses import asdict

import typer

from wtsbench.errors import ExitCode
from wtsbench_cli.options import JsonOption, MirrorOption, RayOption, StoreOption, cluster_of, store_of
from wtsbench_cli.terminal import count, print_json, put


def doctor(
    store: StoreOption = None,
    ray: RayOption = None,
    mirror: MirrorOption = None,
    json: JsonOption = False,
) -> None:
    """Check that this machine has what a submission needs.

    Packages, cores, memory, disk, GPU, Docker, Ray, store, cache, data mirror, hub and git.

    Exit code 0 unless a check fails, then 5; warnings do not count.
    """
    from wtsbench.settings import data_mirror
    from wtsbench_cli.checks import Place, all_checks

    place = Place(store=store_of(store), ray=cluster_of(ray), mirror=mirror or data_mirror())
    checks = []
    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for check in all_checks(place):
        checks.append(check)
        if not json:
            from rich.table import Table
            from rich.text import Text

            line = Table.grid(padding=(0, 2, 0, 0))
            line.add_column(width=4)
            line.add_column(width=11)
            line.add_column(overflow="fold")
            line.add_row(Text(check.state, style=colours[check.state]), check.name, check.found)
            if check.remedy:
                line.add_row("", "", Text(check.remedy, style="dim"))
            put(line)
    failed = [check for check in checks if check.state == "fail"]
    if json:
        print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        warned = sum(check.state == "warn" for check in checks)
        print(f"\n{count(len(failed), 'check')} failed, {count(warned, 'warning')}")
    if failed:
        raise typer.Exit(ExitCode.UNREACHABLE)
