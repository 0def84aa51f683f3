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
        ),
    ] = None,
    cache_budget: Annotated[
        str | None,
        typer.Option(
            "--cache-budget", metavar="SIZE", help="What the cache may hold of what is made again. Default: 20GiB."
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
    cleared = clear(findings, (lambda cleared: None) if json else _tell) if force else []
    remaining = [outcome for outcome in cleared if outcome.problem is not None]
    if json:
        print_json(_record(findings, cleared, force=force))
    else:
        _show(findings, cleared, force=force)
    if remaining:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _bytes(text: str | None) -> int | None:
    from wtsbench.errors import SpecError
    from wtsbench.spec.grid import parse_size

    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise SpecError(f"{text} is not a size", remedy=str(error)) from None


def _tell(outcome: Cleared) -> None:
    done = "delivered" if outcome.leftover.action == "deliver" else "removed"
    problem = "" if outcome.problem is None else f": {outcome.problem}"
    line = f"{done if outcome.problem is None else 'left'}: {outcome.leftover.kind} {outcome.leftover.name}"
    print(visible(line + problem), flush=True)


def _show(findings: Findings, cleared: list[Cleared], *, force: bool) -> None:
    leftovers = findings.leftovers
    if leftovers and not force:
        rows = [(left.kind, left.action, size(left.bytes), _age(left), left.name, left.why) for left in leftovers]
        print_table(("what", "would", "size", "age", "name", "why"), rows, right=("size", "age"))
        print()
    for note in findings.notes:
        say(note)
    total = count(len(leftovers), "leftover")
    if not leftovers:
        print("nothing is left over")
    elif not force:
        print(f"{total}, {size(sum(left.bytes for left in leftovers))}; `wtsbench gc --force` clears them away")
    else:
        removed = [outcome.leftover for outcome in cleared if outcome.problem is None]
        print(f"{len(removed):,} of {total} cleared away, {size(sum(left.bytes for left in removed))}")


def _age(leftover: Leftover) -> str:
    return "-" if leftover.age is None else duration(leftover.age)


def _record(findings: Findings, cleared: list[Cleared], *, force: bool) -> dict[str, Any]:
    problems = {id(outcome.leftover): outcome.problem for outcome in cleared}

    def row(left: Leftover) -> dict[str, Any]:
        problem = problems.get(id(left))
        return {
            "kind": left.kind,
            "name": left.name,
            "bytes": left.bytes,
            "age_s": left.age,
            "why": left.why,
            "action": left.action,
            "cleared": id(left) in problems and problem is None,
            "problem": problem,
        }

    return {"forced": force, "leftovers": [row(leftover) for leftover in findings.leftovers], "notes": findings.notes}
