"""`wtsbench report`: a leaderboard that can be published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wtsbench_cli.options import StoredGridOption, StoreOption, expanded, store_of
from wtsbench_cli.terminal import count, size


def report(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder to write. Default: ./wtsbench-report.", callback=expanded),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(
            "--site",
            metavar="DIR",
            help="Site to add the report to, with an index of all its reports.",
            callback=expanded,
        ),
    ] = None,
    samples: Annotated[
        bool,
        typer.Option("--samples", help="Write each test item's output as well; raw texts, toxic ones too, are in it."),
    ] = False,
    grid: StoredGridOption = None,
    store: StoreOption = None,
) -> None:
    """Write the results as a page and as tables for papers.

    index.html opens from disk, without a server or a network. Behind every line it has the trials, seeds, digests,
    versions and hardware that its numbers come from. Beside it: Markdown, LaTeX, CSV, JSON, Parquet with Croissant,
    Every Eval Ever, Bencher, the hub's evaluation results and model-index, CITATION.cff. The same store gives the same
    bytes.

    A site keeps reports over time: its index.html says what changed since the last one, and leads to all of them.
    """
    from wtsbench.reports.kept import KeptTables
    from wtsbench.reports.leaderboard import leaderboard
    from wtsbench.reports.publish import publish
    from wtsbench.reports.site import add
    from wtsbench.store.client import open_store

    opened = open_store(store_of(store))
    board = leaderboard(opened, grid, kept=KeptTables.of_user())
    if site is not None:
        if out is not None:
            raise typer.BadParameter("a report goes into a folder of its own, or into a site", param_hint="--site")
        index, page = add(opened, board, site, samples=samples)
        print(f"{index}\n{page}")
        return
    files = publish(opened, board, out or Path("wtsbench-report"), samples=samples)
    whole = size(sum(path.stat().st_size for path in files))
    print(f"{files[0]}  {size(files[0].stat().st_size)}; {count(len(files), 'file')} in all, {whole}")
