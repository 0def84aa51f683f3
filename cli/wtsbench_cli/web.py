"""`wtsbench web`: the report of a store while it is written."""

from __future__ import annotations

from typing import Annotated

import typer

from wtsbench_cli.options import StoredGridOption, StoreOption, store_of
from wtsbench_cli.terminal import say


def web(
    port: Annotated[
        int, typer.Option("--port", metavar="NUMBER", min=0, max=65535, help="Of this machine; 0 takes a free one.")
    ] = 8816,
    grid: StoredGridOption = None,
    store: StoreOption = None,
) -> None:
    """Show a store in the browser while a grid runs.

    Progress, the report as it stands, and each trial with its log: pages that follow the store by themselves. They are
    served on this machine only, to who has the address that is printed; from elsewhere take
    `ssh -L 8816:127.0.0.1:8816`.
    A served store is read with your token, for which the scope `read` is enough. Ctrl-C ends it.
    """
    from wtsbench.reports.live import Live
    from wtsbench.reports.web import serve

    place = store_of(store)
    live = Live(uri=place, grid=grid)

    def ready(address: str) -> None:
        print(address, flush=True)
        say(f"shows the store {place}; Ctrl-C ends it")

    serve(live, port, ready=ready)
