"""`wtsbench store token`: who may do what at a server."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from wtsbench_cli.options import FolderArgument, JsonOption, expanded
from wtsbench_cli.terminal import print_json, print_table

app = typer.Typer(
    help="Tokens of a served store. They are kept hashed, in the store's folder.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
_LONGEST_HOURS = 36525 * 24
_SPAN = re.compile(r"(\d+)(h|d)")


@app.command("create")
def create(
    folder: FolderArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            callback=expanded,
            metavar="FILE",
            help="File to write the token to, for its owner only; - prints it.",
        ),
    ],
    scope: Annotated[
        str,
        typer.Option(
            "--scope",
            metavar="read|append:GRID|append|admin",
            help="What it allows: to read; to submit one grid, or any; or everything.",
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", help="Whose it is. Default: its scope.")] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="90d|12h|never", help="How long it is valid. Default: 90d.")
    ] = None,
) -> None:
    """Make a token and write it to a file, which WTSBENCH_TOKEN_FILE then names."""
    from wtsbench.errors import SpecError
    from wtsbench.files import replace
    from wtsbench.store.server.tokens import Tokens

    printed = str(out) == "-"
    if not printed and out.exists():
        raise SpecError(f"{out} is there already", remedy="remove it, or choose another file.")
    if not printed and not out.parent.is_dir():
        raise SpecError(f"there is no folder {out.parent}", remedy="make it, or choose another file.")
    tokens = Tokens(_server(folder))
    kept, token = tokens.create(name=name or scope, scope=scope, valid=_span(expires or "90d"))
    if printed:
        print(token)
    else:
        replace(out.absolute(), f"{token}\n", mode=0o600)
        print(f"token {kept.id} ({kept.scope}) is in {out}")


@app.command("list")
def list_tokens(folder: FolderArgument, json: JsonOption = False) -> None:
    """List the tokens; the secrets themselves are kept nowhere."""
    from wtsbench.store.server.tokens import Tokens

    tokens = Tokens(_server(folder)).all()
    if json:
        print_json([{**token.model_dump(mode="json", exclude={"hash"}), "state": token.state} for token in tokens])
        return
    rows = [
        (
            token.id,
            token.name,
            token.scope,
            token.state,
            f"{token.expires_at:%Y-%m-%d}" if token.expires_at else "never",
        )
        for token in tokens
    ]
    print_table(("id", "name", "scope", "state", "expires"), rows)


@app.command("revoke")
def revoke(
    folder: FolderArgument,
    token: Annotated[str, typer.Argument(metavar="ID|NAME", help="Which; of a name, all.")],
) -> None:
    """End a token at once."""
    from wtsbench.store.server.tokens import Tokens

    for ended in Tokens(_server(folder)).revoke(token):
        print(f"token {ended.id} ({ended.name}) is revoked")


def _server(folder: Path) -> Path:
    from wtsbench.errors import NoStore
    from wtsbench.store.folder import SERVER

    if not folder.is_dir():
        raise NoStore(f"there is no store in {folder}", remedy="`wtsbench store serve` makes one.")
    return folder / SERVER


def _span(text: str) -> timedelta | None:
    from wtsbench.errors import SpecError
    from wtsbench.visible import shortened

    if text == "never":
        return None
    match = _SPAN.fullmatch(text)
    if match is None:
        raise SpecError(f"{shortened(text)!r} is no time", remedy="90d is 90 days, 12h are 12 hours; or never.")
    hours = float(match[1]) * {"h": 1, "d": 24}[match[2]]
    if not 1 <= hours <= _LONGEST_HOURS:
        raise SpecError(f"--expires {shortened(text)}: from 1h to 36525d", remedy="give 90d, 12h, or never.")
    return timedelta(hours=hours)
