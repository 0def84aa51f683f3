"""`wtsbench store`: serve a store, and look after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wtsbench_cli import store_token
from wtsbench_cli.options import FolderArgument, JsonOption, StoreOption, expanded, store_of
from wtsbench_cli.terminal import print_json, say

app = typer.Typer(
    help="Serve a store to many machines, and look after it.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(store_token.app, name="token")


@app.command("serve")
def serve(
    folder: FolderArgument,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="grpc+tls://HOST:PORT",
            help="Where to listen. Default: grpc+tls://127.0.0.1:8815. Without TLS on this machine only.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="HOST", help="A further name in the generated certificate.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="PEM", help="Certificate. Default: one is generated.", exists=True),
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="PEM", help="Its private key.", exists=True)] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option("--client-ca", metavar="PEM", help="Demand client certificates of this authority.", exists=True),
    ] = None,
    client_certificates: Annotated[
        bool, typer.Option("--client-certificates", help="Demand client certificates that `store certificate` made.")
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="HOST:PORT",
            help="Serve /metrics and /healthz: on this machine, or to others over HTTPS.",
        ),
    ] = None,
    drain: Annotated[
        float | None,
        typer.Option("--drain", metavar="SECONDS", help="Time to finish when told to stop. Default: 20.", min=0),
    ] = None,
) -> None:
    """Serve a store's folder over Arrow Flight until stopped with Ctrl-C or SIGTERM.

    Commands on this machine go on to use the folder. Others need a token: `wtsbench store token create`.
    """
    import os
    import sys
    import threading

    from wtsbench.store.server.options import DEFAULT_LISTEN, DRAIN_SECONDS, ServeOptions
    from wtsbench.store.server.serving import Running, stop_on_signals
    from wtsbench.store.server.serving import serve as run

    def ready(running: Running) -> None:
        print(f"serving {folder} at {running.listen}", flush=True)
        if running.ca is not None:
            say(f"clients trust it with WTSBENCH_STORE_CA={running.ca.resolve()}")
        for notice in running.notices:
            say(notice)
        if running.metrics is not None:
            say(f"metrics at {running.metrics}/metrics")
        if not any(token.state == "valid" for token in running.tokens.all()):
            say(f"no client can connect yet: wtsbench store token create {folder} --scope append --out FILE")

    stop = threading.Event()
    stop_on_signals(stop)
    options = ServeOptions(
        listen=listen or DEFAULT_LISTEN,
        names=tuple(name or ()),
        certificate=certificate,
        key=key,
        client_ca=client_ca,
        own_client_ca=client_certificates,
        metrics=metrics,
        drain_seconds=DRAIN_SECONDS if drain is None else drain,
    )
    whole = run(folder.resolve(), options, ready=ready, stop=stop)
    say("stopped" if whole else "stopped; some requests were cut off, and their senders will send them again")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a client that hangs in the middle of a request must not keep the process


@app.command("certificate")
def certificate(
    folder: FolderArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose certificate it is.")],
    out: Annotated[Path, typer.Option("--out", callback=expanded, metavar="DIR", help="Folder for its two files.")],
) -> None:
    """Make a client's certificate for a server that demands one."""
    from wtsbench.store.folder import SERVER
    from wtsbench.store.server.certificates import client_certificate

    signed, key = client_certificate(folder / SERVER, name, out)
    print(f"WTSBENCH_STORE_CERTIFICATE={signed.resolve()}\nWTSBENCH_STORE_KEY={key.resolve()}")


@app.command("status")
def status(store: StoreOption = None, json: JsonOption = False) -> None:
    """Show rows by table, bytes, and what waits to be committed."""
    from wtsbench.store.upkeep.verbs import status as status_of

    found = status_of(store_of(store))
    if json:
        print_json(found)
        return
    for table, rows in found["tables"].items():
        print(f"{table:12} {rows:>14,} rows")
    print(f"{'on the disk':12} {found['bytes']:>14,} bytes")
    if found["waiting_requests"]:
        print(f"{found['waiting_requests']:,} requests wait to be committed")


@app.command("verify")
def verify(store: StoreOption = None, json: JsonOption = False) -> None:
    """Check every invariant of a store: keys, counts, references, and the digest of every record.

    Exit code 1 where something is wrong; what, is printed.
    """
    from wtsbench.store.upkeep.verbs import verify as verify_of

    found = verify_of(store_of(store))
    _verdict(found, json)


@app.command("compact")
def compact(store: StoreOption = None, json: JsonOption = False) -> None:
    """Write the engine's log into the database file, and give back free space."""
    from wtsbench.store.upkeep.verbs import compact as compact_of

    found = compact_of(store_of(store))
    if json:
        print_json(found)
    else:
        print(f"{found['bytes_before']:,} bytes before, {found['bytes_after']:,} after")


@app.command("backup")
def backup(
    out: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="The file to write; for a server a name, kept there.")
    ],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Copy a store while it is in use."""
    from wtsbench.store.upkeep.verbs import backup as backup_of

    found = backup_of(store_of(store), out)
    if json:
        print_json(found)
    else:
        print(f"{found['backup']}: {found['attempts']:,} attempts, {found['bytes']:,} bytes")


@app.command("restore")
def restore(
    backup: Annotated[
        Path, typer.Argument(callback=expanded, metavar="FILE", help="A file that `store backup` wrote.")
    ],
    folder: FolderArgument,
    json: JsonOption = False,
) -> None:
    """Make a store of a backup, after checking all that is in it."""
    from wtsbench.store.upkeep.backup import restore as restored

    _verdict(restored(backup, folder).record(), json)


@app.command("merge")
def merge(
    source: Annotated[
        Path,
        typer.Argument(callback=expanded, metavar="SOURCE", help="Another store's folder, a backup, or an export."),
    ],
    folder: FolderArgument,
    json: JsonOption = False,
) -> None:
    """Bring all of another store, a backup or an export into a store's folder.

    The same trial twice is one trial; where results contradict, nothing is brought. Doing it again changes nothing.
    """
    from wtsbench.store.upkeep.verbs import merge as merged

    found = merged(source, folder)
    if json:
        print_json(found)
        return
    print(
        f"{found['attempts']:,} attempts are new, {found['renumbered']:,} of them under another number;"
        f" {found['known']:,} were known; {found['datasets']:,} data sets and {found['grids']:,} submissions are new"
    )


def _verdict(found: dict[str, object], json: bool) -> None:
    if json:
        print_json(found)
    else:
        print(
            f"{found['attempts']:,} attempts, {found['records']:,} records, {found['rows']:,} rows,"
            f" {found['datasets']:,} data sets"
        )
        wrong = found["wrong"]
        assert isinstance(wrong, list | tuple)
        for one in wrong:
            print(f"{one['what']}: {one['count']:,}")
            for place in one["where"]:
                print(f"    {place}")
        print("nothing is wrong" if found["ok"] else "the store is not what it must be")
    if not found["ok"]:
        raise typer.Exit(1)
