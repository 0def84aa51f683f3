"""A server on loopback that speaks the Perspective API's protocol, and can be told to misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "AIza-test-key"
Answer = tuple[int, Any, dict[str, str]]


def score_of(text: str) -> float:
    """What the server says of a text: the share of its letters that are upper case."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter.isupper() for letter in letters) / len(letters) if letters else 0.0


def error(code: int, status: str, message: str, *, kind: str = "", reason: str = "") -> Answer:
    """An error in the form of Google's APIs; `kind` is the comment analyzer's, `reason` that of their front door."""
    details = []
    if kind:
        details.append({"@type": "type.googleapis.com/google.commentanalyzer.v1alpha1.Error", "errorType": kind})
    if reason:
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason})
    return code, {"error": {"code": code, "message": message, "status": status, "details": details}}, {}


@dataclass
class Perspective:
    """What was asked, and what is answered in place of a score."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the requests, in order."""
    keys: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    first: list[Answer] = field(default_factory=list)
    """Answers to give before all else, in order."""
    instead: Callable[[str], Answer | None] = lambda text: None
    """The answer to a text, where it is not to be a score."""

    def answer(self, path: str, key: str, body: dict[str, Any]) -> Answer:
        """One answer, as the API would give it."""
        self.asked.append(body)
        self.keys.append(key)
        self.paths.append(path)
        self.times.append(time.monotonic())
        if self.first:
            return self.first.pop(0)
        if path != "/v1alpha1/comments:analyze":
            return error(404, "NOT_FOUND", "Method not found.")
        if key != KEY:
            message = f"API key not valid: {key}. Please pass a valid API key."
            return error(400, "INVALID_ARGUMENT", message, reason="API_KEY_INVALID")
        text = body["comment"]["text"]
        if not text.strip():
            return error(400, "INVALID_ARGUMENT", "Comment must be non-empty.", kind="COMMENT_EMPTY")
        if len(text.encode()) > 20480:
            return error(400, "INVALID_ARGUMENT", "Comment text too long.", kind="COMMENT_TOO_LONG")
        if body["languages"] != ["en"]:
            (attribute,) = body["requestedAttributes"]
            message = f"Attribute {attribute} does not support request languages: {', '.join(body['languages'])}"
            return error(400, "INVALID_ARGUMENT", message, kind="LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE")
        other = self.instead(text)
        if other is not None:
            return other
        summary = {"value": score_of(text), "type": "PROBABILITY"}
        span = {"begin": 0, "end": len(text), "score": summary}
        scores = {name: {"spanScores": [span], "summaryScore": summary} for name in body["requestedAttributes"]}
        return 200, {"attributeScores": scores, "languages": ["en"], "detectedLanguages": ["en"]}, {}


@contextmanager
def serve() -> Iterator[Perspective]:
    """The server, on a free port."""
    api = Perspective()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, content, headers = api.answer(self.path, self.headers.get("X-Goog-Api-Key", ""), body)
            if status == 0:  # hang up in the middle
                self.close_connection = True
                return
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(sent))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        api.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
