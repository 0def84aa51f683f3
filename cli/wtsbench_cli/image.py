"""`wtsbench image`: the container image that trials run in."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from wtsbench.errors import ExitCode, UserError
from wtsbench_cli.options import JsonOption, MirrorOption, expanded
from wtsbench_cli.terminal import count, doing, duration, print_json, print_table, say

app = typer.Typer(help="The container image that trials run in.", rich_markup_mode=None, no_args_is_help=True)


@app.command("build")
def build(
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="REF",
            help="Image to build on, with Python 3.11 or newer. Default: the official slim Python image.",
        ),
    ] = None,
    cuda: Annotated[
        bool | None,
        typer.Option("--cuda/--cpu", help="Whether torch comes with CUDA. Default: as this machine has a GPU or not."),
    ] = None,
    packages: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="PACKAGE",
            help="A package that brings in strategies: NAME==VERSION, a wheel or a folder of sources. Repeatable.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name to pin it under. Default: trial.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build the trial image and record its digest.

    Grids name it `trial`, which is what they take unless they say otherwise. The same code, packages and base give the
    same image, on every engine.
    """
    from wtsbench.images.build import build as build_image
    from wtsbench.images.pins import DEFAULT_IMAGE, FILE
    from wtsbench.settings import user_manifests

    begun = time.monotonic()
    pinned = name or DEFAULT_IMAGE
    pin = build_image(base=base, name=pinned, gpu=cuda, strategies=packages or (), note=say)
    recorded = user_manifests() / FILE
    if json:
        print_json({"name": pinned, **pin.model_dump(mode="json"), "recorded_in": str(recorded)})
        return
    print(f"image {pinned} is {pin.digest}")
    print(f"recorded in {recorded}, after {duration(time.monotonic() - begun)}")


@app.command("pin")
def pin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What grids will call it.")],
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="registry/repo:tag, repo@sha256:…, or an image of this engine.")
    ],
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="The images.yaml to write, as manifests/images.yaml of a checkout. Default: your own.",
            dir_okay=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Record which image a tag stands for now, by digest."""
    from wtsbench.images.pins import write_pin
    from wtsbench.images.registry import find_pin

    pinned = find_pin(reference, note=say)
    recorded = write_pin(name, pinned, file=file)
    if json:
        print_json({"name": name, **pinned.model_dump(mode="json"), "recorded_in": str(recorded)})
        return
    print(f"image {name} is {pinned.reference or pinned.id}")
    if pinned.built is None:
        print("it has no label of wtsbench, so which code is in it is not known")
    else:
        print(f"wtsbench {pinned.built.wtsbench}, code {pinned.built.code[:12]}, {pinned.platform}, id {pinned.id}")
    print(f"recorded in {recorded}")


@app.command("list")
def list_images(json: JsonOption = False) -> None:
    """List the pinned images. Asks no engine."""
    from wtsbench.images.code import code_digest
    from wtsbench.images.pins import pins

    by_name = pins()
    if json:
        print_json([{"name": name, **pin.model_dump(mode="json")} for name, pin in sorted(by_name.items())])
        return
    if not by_name:
        print("nothing is pinned yet; run `wtsbench image build`")
        return
    own_code = code_digest()
    rows = []
    for name, pin in sorted(by_name.items()):
        code = "not known" if pin.built is None else "this installation's" if pin.built.code == own_code else "other"
        torch = "" if pin.built is None else pin.built.torch or ""
        rows.append((name, code, torch, pin.platform or "", pin.reference or pin.digest))
    print_table(("image", "code", "torch", "platform", "digest"), rows)


@app.command("verify")
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Pinned images. Default: all.")] = None,
    pull: Annotated[bool, typer.Option("--pull", help="Fetch what this engine lacks, and check it too.")] = False,
    json: JsonOption = False,
) -> None:
    """Check that every pinned image exists, and is what its pin says.

    Exit code 0 if so, 1 if one is missing or another, 5 where engine or registry cannot be reached.
    """
    from wtsbench.images.pins import pins, resolve_image
    from wtsbench.images.verify import verify as verify_images

    wanted = {name: resolve_image(name) for name in names} if names else pins()
    if not wanted:
        error = UserError("nothing is pinned, so there is nothing to verify", remedy="run `wtsbench image build`.")
        error.exit_code = ExitCode.INCOMPLETE
        raise error
    findings = verify_images(wanted, pull=pull, note=say)
    if json:
        print_json([_record(finding) for finding in findings])
    else:
        for finding in findings:
            where = {"engine": ", on this engine", "registry": ", in its registry only", None: ""}[finding.where]
            print(f"{finding.name}: {finding.state}{where}")
            for line in (finding.pin.reference or finding.pin.digest, *finding.faults, *finding.notes):
                print(f"  {line}")
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(ExitCode.TRIALS_FAILED)
    if any(finding.state == "unreachable" for finding in findings):
        say("start the registry or sign in to it with `docker login`, then verify again")
        raise typer.Exit(ExitCode.UNREACHABLE)


@app.command("bundle")
def bundle(
    out: Annotated[Path, typer.Argument(callback=expanded, metavar="OUT", help="The file to write.")],
    grids: Annotated[list[str], typer.Option("--grid", metavar="GRID", help="A grid by name or path. Repeatable.")],
    mirror: MirrorOption = None,
    no_image: Annotated[bool, typer.Option("--no-image", help="Leave the trial image out.")] = False,
    no_wheels: Annotated[bool, typer.Option("--no-wheels", help="Leave wtsbench and its packages out.")] = False,
    json: JsonOption = False,
) -> None:
    """Write all that grids need on machines without a network into one file.

    The trial image, wtsbench and its packages, the models and the data. `wtsbench image load` loads it there.
    """
    from wtsbench.execution.bundling import write_bundle
    from wtsbench.settings import data_mirror

    begun = time.monotonic()
    with doing() as note:
        written = write_bundle(
            out, grids, image=not no_image, wheels=not no_wheels, mirror=mirror or data_mirror(), note=note
        )
    if json:
        print_json({**asdict(written), "out": str(written.out), "left_out": list(written.left_out)})
        return
    print(f"{written.out}: {count(written.files, 'file')}, {written.size / 2**20:,.0f} MiB")
    print(f"digest {written.digest}, after {duration(time.monotonic() - begun)}")
    for line in written.left_out:
        print(f"not in the bundle: {line}")
    print(f"load it there: wtsbench image load {written.out.name}")


@app.command("load")
def load(
    file: Annotated[
        Path, typer.Argument(callback=expanded, metavar="FILE", help="What `wtsbench image bundle` wrote.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Pin the image under another name.")
    ] = None,
    mirror: Annotated[
        Path | None,
        typer.Option(
            "--mirror",
            metavar="DIR",
            help="Where files of the data mirror go. Default: $WTSBENCH_DATA_MIRROR, else a folder in the cache.",
            file_okay=False,
            resolve_path=True,
        ),
    ] = None,
    no_image: Annotated[
        bool, typer.Option("--no-image", help="Put models and data in place only; needs no engine.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Put a bundle in place: image, models, data. Needs no network.

    Everything in the file is checked against its digest before anything is changed. Run it on every machine that runs
    trials.
    """
    from wtsbench.execution.unbundling import advice, load_bundle

    begun = time.monotonic()
    with doing() as note:
        loaded = load_bundle(file, image=not no_image, name=name, mirror=mirror, note=note)
    lines = advice(loaded, file)
    if json:
        image = None if loaded.image is None else loaded.image.model_dump(mode="json")
        record = {"digest": loaded.digest, "image": image, "placed": loaded.placed, "kept": loaded.kept}
        mirrored = None if loaded.mirror is None else str(loaded.mirror)
        print_json({**record, "mirror": mirrored, "grids": loaded.about.get("grids", []), "advice": lines})
        return
    print(f"digest {loaded.digest}, made {loaded.about.get('created', 'at an unknown time')}")
    if loaded.image is not None:
        print(f"image is {loaded.image.digest}")
    print(
        f"{count(loaded.placed, 'file')} put in place, {loaded.kept:,} were there, "
        f"after {duration(time.monotonic() - begun)}"
    )
    for line in lines:
        print(line)
    print(f"submit: {', '.join(loaded.about.get('grids', []))}")


def _record(finding: Any) -> dict[str, Any]:
    """A finding for `--json`."""
    return {
        "name": finding.name,
        "state": finding.state,
        "where": finding.where,
        "faults": list(finding.faults),
        "notes": list(finding.notes),
        "pin": finding.pin.model_dump(mode="json"),
    }
