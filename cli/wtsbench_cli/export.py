"""`wtsbench export`: a store as plain files, for other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from wtsbench_cli.options import JsonOption, StoreOption, expanded, store_of
from wtsbench_cli.terminal import print_json


class Form(StrEnum):
    """Values of `--format`."""

    PARQUET = "parquet"
    ARROW = "arrow"


def export(
    out: Annotated[
        Path, typer.Argument(callback=expanded, metavar="OUT", help="Folder to write; at the server a name.")
    ],
    store: StoreOption = None,
    form: Annotated[
        Form | None, typer.Option("--format", metavar="parquet|arrow", help="Files of which kind. Default: parquet.")
    ] = None,
    at_server: Annotated[
        bool, typer.Option("--at-server", help="Let the store's server write it beside the store, as exports/OUT.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write a store as Parquet or Arrow IPC files, for other tools.

    Doing it again writes only what has changed; `wtsbench store merge OUT DIR` takes it in again.
    """
    from wtsbench.store.upkeep.verbs import export as exported
    from wtsbench.store.upkeep.verbs import export_at_server

    chosen: Literal["arrow", "parquet"] = "arrow" if form is Form.ARROW else "parquet"
    uri = store_of(store)
    result = export_at_server(uri, str(out), chosen) if at_server else exported(uri, out, chosen)
    if json:
        print_json(result)
    else:
        print(
            f"{out}: {result['rows']:,} rows in {len(result['files']):,} files, {result['written']:,} of them written"
        )
