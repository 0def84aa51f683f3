"""`wtsbench validate`: is this grid file right?"""

from dataclasses import asdict
from typing import Annotated

import typer

from wtsbench_cli.options import JsonOption
from wtsbench_cli.terminal import count, print_json


def validate(
    grid: Annotated[
        str | None,
        typer.Argument(
            metavar="GRID",
            help="A grid file, or the name of a shipped grid: smoke, quickstart, laptop, alignment, paper, published.",
            show_default=False,
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of grid files instead.", show_default=False)
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check a grid file.

    Every fault at once, with its line, the path of its key and the nearest valid name.
    """
    if schema:
        from wtsbench.spec.manifests import grid_json_schema

        print_json(grid_json_schema())
        return
    if grid is None:
        raise typer.BadParameter("give a grid file, or --schema", param_hint="GRID")
    from wtsbench.errors import UserError
    from wtsbench.planning.check import load_checked_grid
    from wtsbench.spec.faults import SpecFaults

    try:
        checked, path = load_checked_grid(grid)
    except UserError as error:
        if not json:
            raise
        faults = [asdict(fault) for fault in error.faults] if isinstance(error, SpecFaults) else []
        print_json({"valid": False, "message": error.message, "remedy": error.remedy, "faults": faults})
        raise typer.Exit(error.exit_code) from None
    if json:
        whole = checked.model_dump(mode="json", by_alias=True)
        print_json({"valid": True, "path": str(path), "grid": whole, "faults": []})
        return
    parts = (
        count(len(checked.tasks), "task"),
        count(len(checked.pairs), "pair"),
        count(len(checked.strategies), "strategy", "strategies"),
        count(len(checked.seeds), "seed"),
    )
    print(f"{path}: valid; {checked.name} has {', '.join(parts)}")
