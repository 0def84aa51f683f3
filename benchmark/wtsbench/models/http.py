"""Questions to a service over HTTP, asked again where that may help, and answers that are bounded in size and time.

Whatever the other side does, an answer is whole within the time that it is given, has at most `ANSWER_BYTES`, and is
not compressed: an answer that is not asked for compressed may not be, so nothing small becomes large here. Redirects
are not followed, for a key goes to nobody but the address that the user named.
"""

from __future__ import annotations

import email.utils
import logging
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
"""Seconds between two tries, whatever a server asks for."""
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses that may be others a moment later."""
_TOLD = 2.0
"""Pauses of so many seconds are told to the user."""
_log = logging.getLogger(__name__)


class NoAnswer(Exception):
    """Nothing came that can be used, in all tries: it may later."""


class BadAnswer(Exception):
    """What came is no answer, and asking again would not change it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a service said."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None where it is none, or has a number that is not finite or text that is no text."""
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
    """How the user is told of it."""
    timeout: float
    """Seconds for a whole answer, from the connection to its last byte."""
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
        """The answer to a JSON body, after further tries where its status is one of `AGAIN`, or none came.

        Raises:
            NoAnswer: there was none in all tries.
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
                trouble = f"it answers {answer.status}{_said(answer, self.headers)}"
                retry_after = seconds(header)
            if tried < self.retries:
                self._pause(self.backoff * 2 ** min(tried, 30) if retry_after is None else retry_after, trouble)
        raise NoAnswer(f"no answer in {self.retries + 1} tries: {trouble}")

    def _pause(self, wanted: float, trouble: str) -> None:
        pause = min(wanted, LONGEST_PAUSE)
        if pause >= _TOLD:
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
                if late.is_set():  # the connection was taken away in the middle of whatever was done with it
                    raise _TooSlow(f"no whole answer within {self.timeout:g} s") from None
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
    if late.is_set():  # a body without a length ends where its connection does
        raise OSError
    return b"".join(parts)


def _said(answer: Answer, headers: dict[str, str]) -> str:
    """What a service says of a failure, without a key, should it repeat that."""
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    said = error.get("message") if isinstance(error, dict) else None
    return f": {without(' '.join(said.split())[:300], headers)}" if isinstance(said, str) else ""


def without(text: str, headers: dict[str, str]) -> str:
    """A text without the secrets that are in headers."""
    for value in headers.values():
        for secret in filter(None, (value, value.removeprefix("Bearer "))):
            text = text.replace(secret, "<key>")
    return text


def seconds(header: str | None) -> float | None:
    """Seconds to wait that a Retry-After header asks for, be it a number or a date; None where it has neither."""
    if header is None:
        return None
    with suppress(ValueError):
        wanted = float(header)
        return max(0.0, wanted) if wanted == wanted else None
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


class _Headers(AuthBase):
    """Headers with a key. As `auth`, so that no .netrc file takes their place."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: Any) -> Any:
        request.headers.update(self._headers)
        return request


# A socket's timeout begins anew with every byte. So that a whole answer has a time, each thread's connection is known
# while it is used, and taken away at the end of that.
_used = threading.local()


@contextmanager
def _deadline(timeout: float) -> Iterator[threading.Event]:
    late = threading.Event()
    use: list[Any] = []
    _used.use = use

    def cut() -> None:
        late.set()
        for one in use:
            found = getattr(one, "sock", one)
            if isinstance(found, socket.socket):
                with suppress(OSError):
                    socket.socket.shutdown(found, socket.SHUT_RDWR)

    timer = threading.Timer(timeout, cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


class _Known:
    """A connection that is noted before it connects, and its socket, which an answer may take from it."""

    def request(self, *arguments: Any, **options: Any) -> None:
        use: list[Any] = _used.use
        use.append(self)
        super().request(*arguments, **options)  # type: ignore[misc]  # of the connection that this is mixed into
        use.append(self.sock)  # type: ignore[attr-defined]


class _Plain(_Known, HTTPConnection):
    pass


class _Secure(_Known, HTTPSConnection):
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
