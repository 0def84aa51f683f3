"""Requests to a service over HTTP, with retries, and with limits on the size and time of answers.

Whatever the server does, an answer arrives completely within its time limit, has at most `ANSWER_BYTES`, and is not
compressed, so that a small answer cannot unpack to a large one. Redirects are not followed: a key is sent to no other
address than the one that the user named.
"""

from __future__ import annotations

import email.utils
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from requests import Response, Session
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.exceptions import RequestException
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from wtsbench.json_text import parsed

ANSWER_BYTES = 8 * 2**20
"""The largest answer that is read."""
LONGEST_PAUSE = 120.0
"""Upper limit in seconds of the pause between two tries, whatever a server asks for."""
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses after which a retry may help."""
_REPORTED_PAUSE = 2.0
"""Pauses of at least this many seconds are reported to the user."""
_log = logging.getLogger(__name__)


class NoAnswer(Exception):
    """No usable answer in all tries; a later one may succeed."""


class BadAnswer(Exception):
    """The answer is unusable, and asking again would not change it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of a service."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None if it is not JSON, or has numbers that are not finite or invalid text."""
        try:
            return parsed(self.body, finite=True)
        except ValueError:
            return None

    @property
    def text(self) -> str:
        """The body as text, on one line."""
        return " ".join(self.body.decode("utf-8", "replace").split())


@dataclass(kw_only=True)
class Service:
    """One service. Used by several threads; close it after use."""

    name: str
    """Its name in messages."""
    timeout: float
    """Seconds for a complete answer, from connecting to the last byte."""
    retries: int
    backoff: float
    """Seconds before the second try; doubled each time. A Retry-After header is obeyed. `LONGEST_PAUSE` bounds both."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    at_once: int = 8
    sleep: Callable[[float], Any] = time.sleep
    turn: Callable[[], None] = lambda: None
    """Returns when the next request may be sent."""

    def __post_init__(self) -> None:
        self._session = Session()
        self._session.auth = _Headers({"Accept-Encoding": "identity", **self.headers})
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(pool_maxsize=self.at_once))

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def post(self, url: str, body: Any) -> Answer:
        """The answer to a JSON body; retried if its status is one of `AGAIN`, or there is none.

        Raises:
            NoAnswer: there was no usable answer in all tries.
            BadAnswer: it is too large, or compressed.
        """
        for tried in range(self.retries + 1):
            self.turn()
            retry_after = None
            try:
                answer, header = self._once(url, body)
            except (RequestException, HTTPError, OSError) as error:
                trouble = str(error) if isinstance(error, _TooSlow) else type(error).__name__
            else:
                if answer.status not in AGAIN:
                    return answer
                trouble = f"it answers {answer.status}{_error_message(answer, self.headers)}"
                retry_after = seconds(header)
            if tried < self.retries:
                self._pause(self.backoff * 2 ** min(tried, 30) if retry_after is None else retry_after, trouble)
        raise NoAnswer(f"no answer in {self.retries + 1} tries: {trouble}")

    def _pause(self, requested: float, trouble: str) -> None:
        pause = min(requested, LONGEST_PAUSE)
        if pause >= _REPORTED_PAUSE:
            _log.warning("%s: waiting %.0f s before asking again: %s", self.name, pause, trouble)
        self.sleep(pause)

    def _once(self, url: str, body: Any) -> tuple[Answer, str | None]:
        with _deadline(self.timeout) as late:
            try:
                with self._session.post(
                    url, json=body, timeout=self.timeout, allow_redirects=False, stream=True
                ) as response:
                    content = _body(response, late)
                    return Answer(status=response.status_code, body=content), response.headers.get("Retry-After")
            except (RequestException, HTTPError, OSError, ValueError, AttributeError):
                if late.is_set():  # `_deadline` has cut the connection
                    raise _TooSlow(f"no complete answer within {self.timeout:g} s") from None
                raise


class _TooSlow(OSError):
    pass


def _body(response: Response, late: threading.Event) -> bytes:
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise BadAnswer("its answer is compressed, which was not asked for")
    parts, size = [], 0
    while part := response.raw.read1(65_536, decode_content=False):
        size += len(part)
        if size > ANSWER_BYTES:
            raise BadAnswer(f"its answer is larger than {ANSWER_BYTES // 2**20} MiB")
        parts.append(part)
    if late.is_set():  # a body without a length ends with the connection, here a cut one
        raise OSError
    return b"".join(parts)


def _error_message(answer: Answer, headers: dict[str, str]) -> str:
    """The service's error message, from which keys are removed if it repeats them."""
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return f": {without(' '.join(message.split())[:300], headers)}" if isinstance(message, str) else ""


def without(text: str, headers: dict[str, str]) -> str:
    """A text without the secrets that are in headers."""
    for value in headers.values():
        for secret in filter(None, (value, value.removeprefix("Bearer "))):
            text = text.replace(secret, "<key>")
    return text


def seconds(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which is a number or a date; None if it is neither."""
    if header is None:
        return None
    with suppress(ValueError):
        delay = float(header)
        return None if math.isnan(delay) else max(0.0, delay)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


class _Headers(AuthBase):
    """Headers with a key. Set as `auth`, so that no .netrc file replaces them."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: Any) -> Any:
        request.headers.update(self._headers)
        return request


# A socket's timeout starts again with every byte. To limit the time of a whole answer, the connection that each thread
# uses is noted here, and shut down at the deadline.
_used = threading.local()


@contextmanager
def _deadline(timeout: float) -> Iterator[threading.Event]:
    late = threading.Event()
    use: list[Any] = []
    _used.use = use

    def cut() -> None:
        late.set()
        for connection in use:
            sock = getattr(connection, "sock", connection)
            if isinstance(sock, socket.socket):
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(timeout, cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


class _Noted:
    """Notes the connection before it connects, and then its socket, which an answer may take over."""

    def request(self, *arguments: Any, **options: Any) -> None:
        use: list[Any] = _used.use
        use.append(self)
        super().request(*arguments, **options)  # type: ignore[misc]  # of the connection that this is mixed into
        use.append(self.sock)  # type: ignore[attr-defined]


class _Plain(_Noted, HTTPConnection):
    pass


class _Secure(_Noted, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS = {"http": _PlainPool, "https": _SecurePool}
