"""The life of a server: lock the folder, listen, serve, and on a signal finish requests in progress and release it."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from wtsbench.errors import StoreError
from wtsbench.files import naming
from wtsbench.store.folder import BACKUPS, DATABASE, EXPORTS, SERVER, FolderStore
from wtsbench.store.lock import StoreBusy, locked
from wtsbench.store.owner import Owner, living_owner, noted_owner, remove_owner, write_owner
from wtsbench.store.server.actions import Core
from wtsbench.store.server.bounds import connections
from wtsbench.store.server.live import LiveStore
from wtsbench.store.server.metrics import Metrics, MetricsServer
from wtsbench.store.server.options import (
    ServeOptions,
    bracketed,
    host_port,
    metrics_on_loopback,
    parts_of,
    require_safe,
    tls_of,
)
from wtsbench.store.server.service import StoreService
from wtsbench.store.server.sql import SqlProcesses
from wtsbench.store.server.tls import Tls
from wtsbench.store.server.tokens import Tokens
from wtsbench.store.server.transport import Method, Transport
from wtsbench.store.upkeep.archive import Archive
from wtsbench.store.upkeep.backup import back_up_live
from wtsbench.store.upkeep.export import export
from wtsbench.store.upkeep.manifest import Form
from wtsbench.store.upkeep.merge import Merged, merge_into, opened
from wtsbench.store.upkeep.verify import verify_engine
from wtsbench.visible import first_line

_TICK = 0.2


@dataclass(kw_only=True)
class Running:
    """A running server."""

    listen: str
    """Its address, with its port."""
    ca: Path | None
    """Certificate of the authority that clients must trust, if it was generated."""
    metrics: str | None
    """Address of /metrics and /healthz, with its port."""
    tokens: Tokens
    core: Core
    notices: list[str]
    """Messages for the server's operator."""


def serve(folder: Path, options: ServeOptions, *, ready: Callable[[Running], None], stop: threading.Event) -> bool:
    """Serve a store until `stop` is set.

    Args:
        folder: the store's folder, made if missing.
        options: of the server.
        ready: called once clients can connect.
        stop: set it to stop; see `stop_on_signals`.

    Returns:
        Whether everything in progress was finished within `drain_seconds`.

    Raises:
        SpecError: the options are unsafe.
        StoreError: the folder is in use or no store, or the server cannot listen at the address.
    """
    require_safe(options)
    FolderStore(folder).open(create=True)
    with naming(folder), _owned(folder), ExitStack() as stack:
        tokens = Tokens(folder / SERVER)
        metrics = Metrics()
        live = LiveStore(folder / DATABASE, limits=options.limits, observe=metrics.commit)
        stack.callback(live.close)
        stack.callback(lambda: live.stop_writing(time.monotonic() + _TICK))  # if the start fails
        sql = SqlProcesses(live, options.limits)
        stack.callback(sql.stop)
        core = Core(
            live=live,
            sql=sql,
            metrics=metrics,
            limits=options.limits,
            backup=lambda name: back_up_live(live, folder / BACKUPS, name),
            export=_Exporter(live, folder / EXPORTS),
            merge=lambda source: _merged(live, source, folder),
            verify=lambda: _verified(live),
        )
        _watch(metrics, core)
        tls = tls_of(folder / SERVER, options)
        transport = Transport()
        stack.callback(transport.close, 0.0)
        scheme, host, port = parts_of(options.listen)
        listen = partial(_listen, transport, StoreService(core).methods, core, connections())
        port = listen(f"{bracketed(host)}:{port}", tokens, None if tls is None else tls.credentials)
        socket_folder = Path(tempfile.mkdtemp(prefix="wtsbench-store-"))  # mode 0700: only its owner has access
        stack.callback(shutil.rmtree, socket_folder, ignore_errors=True)
        local_path = socket_folder / "socket"
        listen(f"unix:{local_path}", None, None)
        metrics_at = None if options.metrics is None else _metrics_at(options, metrics, core, tls, stack)
        address = f"{scheme}://{bracketed(host)}:{port}"
        write_owner(folder, Owner(pid=os.getpid(), host=platform.node(), socket=str(local_path), listen=address))
        stack.callback(remove_owner, folder)
        ready(
            Running(
                listen=address,
                ca=None if tls is None else tls.ca,
                metrics=metrics_at,
                tokens=tokens,
                core=core,
                notices=[] if tls is None else tls.notices,
            )
        )
        while not stop.is_set():  # `stop.wait()` would hold the lock that a signal's handler needs to set it
            time.sleep(_TICK)
        return _drain(core, transport, options.drain_seconds)


def stop_on_signals(stop: threading.Event) -> None:
    """Have SIGTERM and SIGINT stop the server; a second one ends the process at once."""

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, handle)


def _drain(core: Core, transport: Transport, seconds: float) -> bool:
    """Refuse new requests, finish those in progress, and close the connections, those of stuck clients too."""
    deadline = time.monotonic() + seconds
    core.draining = True
    core.sql.stop()
    done = core.live.stop_writing(deadline)
    while core.busy and time.monotonic() < deadline:
        time.sleep(0.02)
    return transport.close(max(0.1, deadline - time.monotonic())) and done and not core.busy


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Hold the folder's lock like every writer, but for the server's lifetime."""
    other = living_owner(folder)
    if other is not None:
        raise StoreBusy(
            f"the store {folder} is served already, by process {other.pid} at {other.listen}",
            remedy="use that address, or stop that server first.",
        )
    with locked(folder, shared=False):
        left_over = noted_owner(folder)
        if left_over is not None and left_over.host == platform.node():
            parent = Path(left_over.socket).parent
            if parent.name.startswith("wtsbench-store-"):
                shutil.rmtree(parent, ignore_errors=True)
        remove_owner(folder)
        yield


def _listen(
    transport: Transport,
    methods: dict[str, Method],
    core: Core,
    connections: int,
    address: str,
    tokens: Tokens | None,
    credentials: grpc.ServerCredentials | None,
) -> int:
    try:
        return transport.listen(
            address,
            methods,
            tokens=tokens,
            credentials=credentials,
            connections=connections,
            receiving=core.receiving.one,
        )
    except (RuntimeError, ValueError) as error:
        raise StoreError(
            f"nothing can listen at {address}: {first_line(error)}",
            remedy="is another server there, or the certificate no PEM? Choose another --listen.",
        ) from None


def _metrics_at(options: ServeOptions, metrics: Metrics, core: Core, tls: Tls | None, stack: ExitStack) -> str:
    """Serve metrics and health until the stack ends; returns their address."""
    plain = metrics_on_loopback(options)
    host, port = host_port(f"http://{options.metrics}")
    context = None if plain or tls is None else tls.context
    try:
        page = MetricsServer(host, port, metrics, lambda: not core.draining, context)
    except OSError as error:
        raise StoreError(
            f"nothing can listen at {options.metrics}: {error.strerror or error}", remedy="choose another --metrics."
        ) from None
    stack.callback(page.close)
    return f"{'http' if plain else 'https'}://{bracketed(host)}:{page.port}"


def _watch(metrics: Metrics, core: Core) -> None:
    live = core.live
    metrics.watch("wtsbench_store_waiting_requests", "Requests in the queue", lambda: live.waiting[0])
    metrics.watch("wtsbench_store_waiting_bytes", "Bytes in the queue", lambda: live.waiting[1])
    metrics.watch("wtsbench_store_received_bytes", "Bytes of requests that are not answered", lambda: core.room.held)
    metrics.watch("wtsbench_store_requests_in_progress", "Requests in progress", lambda: core.busy)
    metrics.watch("wtsbench_store_bytes", "Bytes on the disk", lambda: live.size)


def _verified(live: LiveStore) -> dict[str, Any]:
    with live.snapshot() as engine:
        return verify_engine(engine).record()


def _merged(live: LiveStore, source: Path, folder: Path) -> dict[str, Any]:
    with opened(source, folder) as opened_source:
        merged: Merged = live.call(lambda engine: merge_into(opened_source, engine))
    return merged.record()


class _Exporter:
    """Exports of a store into its folder `exports`, one at a time, each of one snapshot."""

    def __init__(self, live: LiveStore, folder: Path) -> None:
        self._live = live
        self._folder = folder
        self._mutex = threading.Lock()

    def __call__(self, name: str, form: Form) -> dict[str, Any]:
        if not self._mutex.acquire(blocking=False):
            raise StoreBusy("the server writes another export", remedy="try again when it is done.")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with self._live.snapshot() as engine:
                return export(Archive(engine), self._folder / name, form)
        finally:
            self._mutex.release()
