"""Arguments and options that several verbs share; None means that the default is defined elsewhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class SandboxName(StrEnum):
    """Values of `--sandbox`."""

    AUTO = "auto"
    PROCESS = "process"
    DOCKER = "docker"


class ExecutorName(StrEnum):
    """Values of `--executor`."""

    RAY = "ray"
    IN_PROCESS = "in-process"


GridArgument = Annotated[
    str,
    typer.Argument(
        metavar="GRID",
        help="A grid file, or the name of a shipped grid: "
        "smoke, quickstart, first-look, laptop, alignment, paper, published.",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="DIR|grpc+tls://…",
        help="Where results are kept. Default: $WTSBENCH_STORE, else ./wtsbench-store.",
    ),
]
SandboxOption = Annotated[
    SandboxName | None,
    typer.Option(
        "--sandbox",
        metavar="auto|process|docker",
        help="What each trial runs in. Default: auto, which is docker where its engine answers, else process.",
    ),
]
TrustOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="GRID",
        help="Take trials that were finished under a token for this grid only; may be repeated. Default: none.",
    ),
]
MirrorOption = Annotated[
    Path | None,
    typer.Option(
        "--mirror",
        metavar="DIR",
        help="Folder that holds data and models in place of their canonical source. Default: $WTSBENCH_DATA_MIRROR.",
        exists=True,
        file_okay=False,
        resolve_path=True,
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="A Ray cluster to run on. Default: $RAY_ADDRESS, else Ray is started on this machine.",
        envvar="RAY_ADDRESS",
        show_envvar=False,
    ),
]
StoredGridOption = Annotated[
    str | None, typer.Option("--grid", metavar="NAME", help="Only this grid of the store. Default: all.")
]
SubmissionOption = Annotated[
    int | None,
    typer.Option(
        "--submission",
        metavar="NUMBER",
        help="Only this submission of a grid; `wtsbench status` lists them. Default: each grid's newest.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
NameArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Show this one in detail. Default: list all.")
]


def expanded(path: Path | None) -> Path | None:
    """Callback of arguments that name a file or folder: expands `~`, and refuses invalid paths."""
    from wtsbench.settings import user_path

    return None if path is None else user_path(path)


def store_of(option: str | None) -> str:
    """The store to use: by option, else environment, else default."""
    from wtsbench.settings import default_store

    return option or default_store()


def cluster_of(option: str | None) -> str | None:
    """The cluster to use; None, also for `local`, starts Ray on this machine."""
    return None if option in (None, "", "local") else option


FolderArgument = Annotated[Path, typer.Argument(callback=expanded, metavar="DIR", help="The store's folder.")]
BaselineFolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Where baselines are. Default: ./baselines.", callback=expanded),
]


def path_of_baseline(name: str, folder: Path | None) -> Path:
    """The file of a baseline, given by name or path."""
    from wtsbench.reports.baseline import FOLDER, SUFFIX

    return Path(name) if name.endswith(SUFFIX) else (folder or FOLDER) / f"{name}{SUFFIX}"
