"""A hub of few datasets on loopback: enough of the hub's HTTP interface for the real clients to load them."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

COMMIT = "1234567890abcdef1234567890abcdef12345678"
DATASET = "owner/policies"
BRANCHES = ("main", "refs/convert/parquet")
"""All of them at `COMMIT`."""


class _Hub(BaseHTTPRequestHandler):
    datasets: dict[str, dict[str, bytes]]
    requests: list[str]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self._answer(body=True, sent=sent)

    def _answer(self, *, body: bool, sent: str = "") -> None:
        path = unquote(urlsplit(self.path).path)
        self.requests.append(f"{self.command} {path}")
        name = next((name for name in self.datasets if f"/datasets/{name}/" in f"{path}/"), "none/none")
        files = self.datasets.get(name, {})
        api, resolve = f"/api/datasets/{name}", f"/datasets/{name}/resolve/"
        if name in self.datasets and path in (api, *(f"{api}/revision/{known}" for known in (*BRANCHES, COMMIT))):
            self._json(
                {
                    "id": name,
                    "sha": COMMIT,
                    "private": False,
                    "tags": [],
                    "downloads": 0,
                    "siblings": [{"rfilename": name} for name in files],
                },
                body,
            )
        elif path.startswith(f"{api}/revision/"):
            self._json({"error": "Invalid rev id"}, body, 404, {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith((f"{api}/tree/", f"{api}/paths-info/")):
            under = path.split(COMMIT, 1)[-1].strip("/")
            wanted = json.loads(sent)["paths"] if sent.startswith("{") else None
            self._json([entry for entry in _tree(files) if _wanted(entry["path"], under, wanted)], body)
        elif path.startswith(resolve) and path.removeprefix(resolve).partition("/")[2] in files:
            data = files[path.removeprefix(resolve).partition("/")[2]]
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            self._send(data, "application/octet-stream", body, 200, {"ETag": etag, "X-Repo-Commit": COMMIT})
        elif path.startswith(resolve):
            self._json(
                {"error": "Entry not found"}, body, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            )
        else:
            self._json({"error": "Repository not found"}, body, 404, {"X-Error-Code": "RepoNotFound"})

    def _json(self, value: object, body: bool, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), "application/json", body, status, headers or {})

    def _send(self, data: bytes, kind: str, body: bool, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


def _tree(files: dict[str, bytes]) -> list[dict[str, object]]:
    folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents} - {"."}
    listed: list[dict[str, object]] = [{"type": "directory", "path": name, "oid": "0" * 40} for name in sorted(folders)]
    for name, data in files.items():
        listed.append({"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()})
    return listed


def _wanted(path: object, under: str, paths: list[str] | None) -> bool:
    return path in paths if paths is not None else not under or str(path).startswith(under + "/")


@contextmanager
def hub(files: dict[str, bytes], others: dict[str, dict[str, bytes]] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve the files of `DATASET`, and those of others by name; gives the endpoint and the requests made."""
    requests: list[str] = []
    handler = type("Hub", (_Hub,), {"datasets": {DATASET: files, **(others or {})}, "requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
