"""An endpoint on loopback: as much of OpenAI's chat completions as asking for one word takes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = dict[str, Any]
Behaviour = Callable[[dict[str, Any]], "Reply | tuple[int, dict[str, str], str]"]
"""A request's body to a completion, or to a status, headers and text."""


class Endpoint:
    """What it answers, and what it was asked."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.most_at_once = 0
        self.url = ""


def completion(content: str, first: list[tuple[str, float]] | None = None, *, blank_first: bool = False) -> Reply:
    """A chat completion with this text and, where given, the likeliest alternatives of its first token."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    if first is not None:
        token = {
            "token": first[0][0],
            "logprob": first[0][1],
            "top_logprobs": [{"token": text, "logprob": value} for text, value in first],
        }
        blank = {"token": "\n", "logprob": 0.0, "top_logprobs": [{"token": "\n", "logprob": 0.0}]}
        choice["logprobs"] = {"content": [blank, token] if blank_first else [token]}
    return {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]}


@contextmanager
def serve(behaviour: Behaviour) -> Iterator[Endpoint]:
    """An endpoint that behaves so."""
    endpoint = Endpoint(behaviour)
    lock = threading.Lock()
    active = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal active
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                active += 1
                endpoint.most_at_once = max(endpoint.most_at_once, active)
                endpoint.requests.append(body)
                endpoint.keys.add(self.headers.get("Authorization"))
            try:
                known = self.path == "/v1/chat/completions"
                answer = endpoint.behaviour(body) if known else (404, {}, "no such path")
            finally:
                with lock:
                    active -= 1
            status, headers, text = answer if isinstance(answer, tuple) else (200, {}, json.dumps(answer))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield endpoint
        finally:
            server.shutdown()
            thread.join()
