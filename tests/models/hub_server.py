"""A hub on loopback: as much of the Hugging Face hub's protocol as resolving and downloading a model takes."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_let_me_in"
LARGE = (".safetensors", ".bin")
"""Files that are kept by their SHA-256; others have one of git's digests."""


@dataclass
class Repository:
    """A model of the hub: its commits, and what its branches stand for."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    gated: bool = False
    """Its files are for signed-in users who accepted its conditions."""
    private: bool = False
    """To others, it is not there."""


class Hub:
    """Repositories of files, and what was asked of them."""

    def __init__(self, repositories: dict[str, Repository]) -> None:
        self.repositories = repositories
        self.downloads: list[str] = []
        """Paths of the files whose content was sent, from wherever on."""
        self.ranges: list[tuple[str, int]] = []
        """Files that were asked for from some byte on, and which."""
        self.cuts: dict[str, int] = {}
        """How often the connection breaks in the middle of a file."""
        self.stalled: set[str] = set()
        """Files of which the second half does not come until they are taken out."""
        self.stalling = threading.Event()
        """Set when a client waits for the rest of a file."""
        self.url = ""


@contextmanager
def serve(repositories: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """A hub with these repositories, each with branch `main` at `COMMIT`."""
    hub = Hub(
        {name: Repository(commits={COMMIT: files}, branches={"main": COMMIT}) for name, files in repositories.items()}
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            name = next((name for name in hub.repositories if f"/{name}/" in f"{path}/"), None)
            allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if name is None or (hub.repositories[name].private and not allowed):
                status = 404 if allowed else 401
                return self._send(status, b"{}", with_body, {"X-Error-Code": "RepoNotFound"})
            repository = hub.repositories[name]
            rest = f"{path}/".partition(f"/{name}/")[2].strip("/").split("/")
            commit = repository.branches.get(rest[1], rest[1]) if len(rest) > 1 else repository.branches["main"]
            if commit not in repository.commits:
                return self._send(404, b"{}", with_body, {"X-Error-Code": "RevisionNotFound"})
            files = repository.commits[commit]
            if rest[0] == "revision":
                siblings = [{"rfilename": file} for file in files]
                return self._json({"id": name, "sha": commit, "siblings": siblings}, with_body)
            if rest[0] == "tree":
                entries = [
                    {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for file, content in files.items()
                ]
                return self._json(entries, with_body)
            if repository.gated and not allowed:
                signed_in = "Authorization" in self.headers
                return self._send(403 if signed_in else 401, b"{}", with_body, {"X-Error-Code": "GatedRepo"})
            file = "/".join(rest[2:])
            if file not in files:
                return self._send(404, b"", with_body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return self._file(file, files[file], commit, with_body)

        def _file(self, file: str, content: bytes, commit: str, with_body: bool) -> None:
            kind = hashlib.sha256 if file.endswith(LARGE) else hashlib.sha1  # as the hub names what it keeps
            headers = {"ETag": f'"{kind(content).hexdigest()}"', "X-Repo-Commit": commit}
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            if start:
                hub.ranges.append((file, start))
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if with_body:
                hub.downloads.append(file)
            if with_body and (hub.cuts.get(file, 0) or file in hub.stalled):
                self._head(206 if start else 200, len(content) - start, headers)
                self.wfile.write(content[start : (start + len(content)) // 2])
                if file in hub.stalled:
                    hub.stalling.set()
                    while file in hub.stalled:
                        time.sleep(0.02)
                else:
                    hub.cuts[file] -= 1
                self.close_connection = True
                return None
            return self._send(206 if start else 200, content[start:], with_body, headers)

        def _json(self, value: object, with_body: bool) -> None:
            self._send(200, json.dumps(value).encode(), with_body, {"Content-Type": "application/json"})

        def _send(self, status: int, body: bytes, with_body: bool, headers: dict[str, str]) -> None:
            self._head(status, len(body), headers)
            if with_body:
                self.wfile.write(body)

        def _head(self, status: int, size: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(size)}.items():
                self.send_header(key, value)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            hub.stalled.clear()
            server.shutdown()
            thread.join()
