"""The pages of `live` over HTTP, on this machine alone and for who has the key.

Whoever asks has to name this machine as the host, so that no page of another site can ask through a browser (DNS
rebinding), and has to have the key, so that no other user of the machine can. Nothing is changed by any request.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from wtsbench.errors import ExitCode, UserError
from wtsbench.reports.live import Live

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the page itself has the rest, with its script's digest
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PortTaken(UserError):
    """Somebody listens there already, or may not."""

    exit_code = ExitCode.UNREACHABLE


def application(live: Live, key: str) -> Starlette:
    """The application over the pages of a store.

    Args:
        live: the pages.
        key: what a request has to bring: as `?key=` once, then as a cookie.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
    from starlette.routing import Route

    def show(request: Request) -> Response:
        cookie = f"wtsbench-{request.url.port}"  # cookies of one host are shared by all of its ports
        brought = request.query_params.get("key", request.cookies.get(cookie, ""))
        if not secrets.compare_digest(brought.encode(), key.encode()):
            return PlainTextResponse("Open the address that `wtsbench web` printed: it holds the key.", 403, _HEADERS)
        if "key" in request.query_params:  # out of the address, which a browser keeps
            answer: Response = RedirectResponse(request.url.path, status_code=303, headers=_HEADERS)
            answer.set_cookie(cookie, key, httponly=True, samesite="strict")
            return answer
        found = live.page(request.path_params.get("trial", ""))
        if found is None:
            return PlainTextResponse("The store has no such trial.", 404, _HEADERS)
        headers = {**_HEADERS, "ETag": found.tag, "Vary": "Accept"}
        if request.headers.get("accept") != "application/json":
            return HTMLResponse(found.page.whole, headers=headers)
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        return JSONResponse([found.title, found.page.inner, found.page.sources], headers=headers)

    only_here = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)
    return Starlette(routes=[Route("/", show), Route("/trial/{trial}", show)], middleware=[only_here])


def serve(live: Live, port: int, *, ready: Callable[[str], None]) -> None:
    """Serve the pages until SIGINT or SIGTERM.

    Args:
        live: the pages.
        port: of this machine, which no other can reach; 0 takes a free one.
        ready: told the address, key included, once it answers.

    Raises:
        PortTaken: nothing can listen there.
    """
    import uvicorn

    key = secrets.token_urlsafe(24)
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise PortTaken(
            f"nothing can listen at {HOST}:{port}: {error.strerror or error}", remedy="choose another with --port."
        ) from error
    config = uvicorn.Config(
        application(live, key), http="h11", ws="none", lifespan="off", log_level="error", access_log=False,
        server_header=False, limit_concurrency=64, timeout_graceful_shutdown=2,
    )  # fmt: skip
    with listener:
        ready(f"http://{HOST}:{listener.getsockname()[1]}/?key={key}")
        uvicorn.Server(config).run(sockets=[listener])
