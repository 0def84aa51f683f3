"""`wtsbench image`: the container image that trials run in."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from wtsbench_cli.options import JsonOption
from wtsbench_cli.terminal import duration, print_json, say

app = typer.Typer(
    name="image",
    help="The container image that trials run in.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """The container image that trials run in."""


@app.command("build")
def build(
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="REF",
            help="Image to build on, with Python 3.11 or newer. Default: the official slim Python image.",
            show_default=False,
        ),
    ] = None,
    cuda: Annotated[
        bool | None,
        typer.Option(
            "--cuda/--cpu",
            help="Whether torch comes with CUDA. Default: as this machine has a GPU or not.",
            show_default=False,
        ),
    ] = None,
    packages: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="PACKAGE",
            help="A package that brings in strategies: NAME==VERSION, a wheel or a folder of sources. Repeatable.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name to pin it under. Default: trial.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build the trial image and record its digest.

    Grids name it `trial`, which is what they take unless they say otherwise. The same code, packages and base give the
    same image, on every engine.
    """
    from wtsbench.sandbox.base import DEFAULT_IMAGE
    from wtsbench.sandbox.image import build as build_image
    from wtsbench.sandbox.pins import FILE
    from wtsbench.spec.paths import user_manifests

    begun = time.monotonic()
    pinned = name or DEFAULT_IMAGE
    pin = build_image(base=base, name=pinned, gpu=cuda, strategies=packages or (), note=say)
    recorded = user_manifests() / FILE
    if json:
        print_json({"name": pinned, **pin.model_dump(mode="json"), "recorded_in": str(recorded)})
        return
    print(f"image {pinned} is {pin.digest}")
    print(f"recorded in {recorded}, after {duration(time.monotonic() - begun)}")
