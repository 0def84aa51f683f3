"""`wtsbench strategies`: lists and shows strategies, and checks that they keep the promises of every strategy."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from wtsbench_cli.describe import parameters_of, text_of
from wtsbench_cli.options import JsonOption, NameArgument
from wtsbench_cli.terminal import count, print_json, print_table, say

CHECK = "check"
"""`wtsbench strategies check TARGET`: a word in the place of a strategy's name."""

TargetArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[TARGET]",
        help="With `check` as NAME: the strategy, or the package that brings strategies in, to test for conformance.",
    ),
]


def strategies(name: NameArgument = None, target: TargetArgument = None, json: JsonOption = False) -> None:
    """List the strategies, show one, or `check` one.

    `wtsbench strategies check mypackage` tests a package's strategies for what every strategy promises: valid
    parameters, labels and losses of the right form, the same bits whenever the same trial runs. Exit code 1 if one
    fails.
    """
    from wtsbench.errors import SpecError
    from wtsbench.strategies import registry
    from wtsbench.strategies.base import Parameters

    if name == CHECK:
        if target is None:
            raise SpecError(
                "no strategy to check was named", remedy="name a strategy or a package: wtsbench strategies check NAME."
            )
        _check(registry.matching(target), json)
        return
    if target is not None:
        raise SpecError(f"one name at a time, not {name} and {target}", remedy="leave one out.")
    if name is not None:
        record = _record(name)
        print_json(record) if json else _show(record)
        return
    records = [_record(strategy) for strategy in registry.names()]
    if json:
        print_json(records)
        return
    rows = [(r["name"], ", ".join(r["forms"]), ", ".join(map(_call, _own(r))), r["summary"]) for r in records]
    print_table(("strategy", "for", "parameters", "summary"), rows)
    print(f"\nEvery strategy takes {', '.join(map(_call, parameters_of(Parameters)))} as well.")


def _check(names: tuple[str, ...], json: bool) -> None:
    from wtsbench.errors import ExitCode
    from wtsbench.execution.conformance import verdicts

    say(f"checking {', '.join(names)}")
    results = verdicts(names)
    failed = [line for line in results if line["verdict"] == "failed"]
    if json:
        print_json(results)
    else:
        columns = ("strategy", "check", "verdict", "detail")
        print_table(columns, [tuple(line[column] for column in columns) for line in results])
        outcome = f"{count(len(failed), 'check')} failed" if failed else "conforming"
        print(f"{count(len(names), 'strategy', 'strategies')}: {outcome}")
    if failed:
        raise typer.Exit(ExitCode.TRIALS_FAILED)


def _record(name: str) -> dict[str, Any]:
    from wtsbench.spec.strategy_call import StrategyCall
    from wtsbench.strategies import registry

    kind, call = registry.get(name), StrategyCall(name=name)
    defaults = kind.Parameters.model_construct().model_dump(mode="json")
    parameters = [{**p, "default": defaults.get(p["name"])} for p in parameters_of(kind.Parameters)]
    return {
        "name": kind.name,
        "summary": kind.summary,
        "source": kind.source,
        "version": kind.version,
        "forms": list(kind.forms),
        "control": kind.control,
        "matched": None if any(p["required"] for p in parameters) else registry.resolve(call).matched,
        "parameters": parameters,
    }


def _own(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters that differ from those of every strategy."""
    from wtsbench.strategies.base import Parameters

    common = {p["name"]: p["default"] for p in parameters_of(Parameters)}
    return [p for p in record["parameters"] if common.get(p["name"], ...) != p["default"]]


def _call(parameter: dict[str, Any]) -> str:
    return f"{parameter['name']}={text_of(parameter['default'])}" if not parameter["required"] else parameter["name"]


def _show(record: dict[str, Any]) -> None:
    print(f"{record['name']}: {record['summary']}")
    print(f"source: {record['source']}")
    print(f"for: {', '.join(record['forms'])}{' (a control)' if record['control'] else ''}")
    if record["matched"] is not None:
        print(f"matched control: {record['matched']}")
    print(f"version: {record['version']}\n")
    rows = [
        (p["name"], p["type"], "(required)" if p["required"] else text_of(p["default"]), p["description"])
        for p in record["parameters"]
    ]
    print_table(("parameter", "type", "default", "description"), rows)
    given = ", ".join(f"{p['name']}: {text_of(p['default'])}" for p in record["parameters"] if not p["required"])
    print(f"\nin a grid:\n  strategies:\n    - {{name: {record['name']}{', ' if given else ''}{given}}}")
