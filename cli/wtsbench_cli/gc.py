"""`wtsbench gc`: list what dead runs have left behind, and clear it away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wtsbench.visible import visible
from wtsbench_cli.options import JsonOption, StoreOption, store_of
from wtsbench_cli.terminal import count, duration, print_json, print_table, say, size

if TYPE_CHECKING:
    from wtsbench.execution.gc import Cleared, Findings, Leftover


def gc(
    store: StoreOption = None,
    force: Annotated[
        bool,
        typer.Option("--force/--dry-run", help="Clear it away, or only list it. Default: list.", show_default=False),
    ] = False,
    images_budget: Annotated[
        str | None,
        typer.Option(
            "--images-budget",
            metavar="SIZE",
            help="What trial images without a name may hold, as 20GiB. Default: they all stay.",
            show_default=False,
        ),
    ] = None,
    cache_budget: Annotated[
        str | None,
        typer.Option(
            "--cache-budget",
            metavar="SIZE",
            help="What the cache may hold of what is made again. Default: 20GiB.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List or clear away what dead runs left on this machine.

    Containers, attempt folders, interrupted writes, and caches and images over their budgets. Finished work is never
    thrown away: --force delivers it to its store. Nothing of a living run is touched.
    """
    from wtsbench.errors import ExitCode
    from wtsbench.execution.gc import clear, find

    place = store_of(store)
    findings = find(place, images=_bytes(images_budget), cache=_bytes(cache_budget))
    cleared = clear(findings, (lambda one: None) if json else _tell) if force else []
    left = [one for one in cleared if one.problem is not None]
    if json:
        print_json(_record(findings, cleared, force=force))
    else:
        _show(findings, cleared, force=force)
    if left:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _bytes(text: str | None) -> int | None:
    from wtsbench.errors import SpecError
    from wtsbench.spec.grid import parse_size

    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise SpecError(f"{text} is no size", remedy=str(error)) from None


def _tell(one: Cleared) -> None:
    done = "delivered" if one.leftover.action == "deliver" else "removed"
    problem = "" if one.problem is None else f": {one.problem}"
    what = f"{done if one.problem is None else 'left'}: {one.leftover.kind} {one.leftover.name}"
    print(visible(what + problem), flush=True)


def _show(findings: Findings, cleared: list[Cleared], *, force: bool) -> None:
    found = findings.leftovers
    if found and not force:
        rows = [(one.kind, one.action, size(one.bytes), _age(one), one.name, one.why) for one in found]
        print_table(("what", "would", "size", "age", "name", "why"), rows, right=("size", "age"))
        print()
    for note in findings.notes:
        say(note)
    total = count(len(found), "leftover")
    if not found:
        print("nothing is left over")
    elif not force:
        print(f"{total}, {size(sum(one.bytes for one in found))}; `wtsbench gc --force` clears them away")
    else:
        gone = [one.leftover for one in cleared if one.problem is None]
        print(f"{len(gone):,} of {total} cleared away, {size(sum(one.bytes for one in gone))}")


def _age(one: Leftover) -> str:
    return "-" if one.age is None else duration(one.age)


def _record(findings: Findings, cleared: list[Cleared], *, force: bool) -> dict[str, Any]:
    problems = {id(one.leftover): one.problem for one in cleared}

    def row(one: Leftover) -> dict[str, Any]:
        known = {"kind": one.kind, "name": one.name, "bytes": one.bytes, "age_s": one.age, "why": one.why}
        outcome = {"cleared": id(one) in problems and problems[id(one)] is None, "problem": problems.get(id(one))}
        return {**known, "action": one.action, **outcome}

    return {"forced": force, "leftovers": [row(one) for one in findings.leftovers], "notes": findings.notes}
