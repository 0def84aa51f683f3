"""The Perspective API as a scorer, or any server that speaks its protocol (`comments:analyze`, version v1alpha1).

The API is announced to close at the end of 2026, and its models change without a version, so that scores cannot be
reproduced later. Prefer a local scorer; use this one to compare with published tables.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from wtsbench.errors import ScorerError
from wtsbench.files import read_small
from wtsbench.http import Service
from wtsbench.scoring.base import Identified, Scores, checked, once_each
from wtsbench.scoring.perspective_cache import ScoreCache
from wtsbench.scoring.perspective_query import MOST_BYTES, Query
from wtsbench.settings import cache_folder, user_path
from wtsbench.spec.scorer import PerspectiveSource

KEY_FILE, KEY = "WTSBENCH_PERSPECTIVE_KEY_FILE", "PERSPECTIVE_API_KEY"
EMPTY_AS = "."
"""The API refuses empty comments; a text of only white space gets the score of this one."""
_AT_ONCE = 8
"""Limit of queries at the same time, however high the quota."""
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class PerspectiveScorer(Identified):
    """The summary score of one of Perspective's attributes: the probability that a reader perceives it in the text.

    The key comes from the file that `WTSBENCH_PERSPECTIVE_KEY_FILE` names, or from `PERSPECTIVE_API_KEY`; it is read
    when the first text must be sent, and goes into the request's header only. Answers are kept in the cache folder, so
    that no text is sent twice. An empty text is scored as `EMPTY_AS`; a text longer than the API accepts is cut at its
    last whole character below `MOST_BYTES`.
    """

    name: str
    source: PerspectiveSource

    def identity(self) -> dict[str, Any]:
        """Endpoint, attribute and languages, and the rules for texts that the API refuses."""
        return {
            "kind": "perspective",
            "endpoint": self.source.endpoint.rstrip("/"),
            "attribute": self.source.attribute,
            "languages": sorted(self.source.languages),
            "empty_as": EMPTY_AS,
            "most_bytes": MOST_BYTES,
        }

    def require_access(self) -> None:
        """Raises ScorerError if there is no key."""
        read_key(self.name)

    def score(self, texts: Sequence[str]) -> Scores:
        """[N] scores; see the class. Answers before a failure are kept, so that another call continues from there.

        Raises:
            ScorerUnavailable: the API does not answer, or the quota is used up, after all retries.
            ScorerError: there is no key, or it is refused; the API refuses the language or a text; or its answer does
                not follow the protocol.
        """
        sent, indices = once_each([_as_sent(text) for text in texts])
        with ScoreCache(cache_folder() / "scorers" / "perspective.sqlite", scorer=self.digest) as cache:
            score_of = cache.get(sent)
            missing = [text for text in sent if text not in score_of]
            if missing:
                score_of |= self._ask(missing, cache)
        return checked(np.array([score_of[text] for text in sent])[indices], name=self.name, texts=len(texts))

    def _ask(self, texts: list[str], cache: ScoreCache) -> dict[str, float]:
        scores: dict[str, float] = {}
        pace = Pace(self.source.queries_per_second)
        service = Service(
            name=f"scorer {self.name}",
            timeout=self.source.timeout_seconds,
            retries=self.source.retries,
            backoff=self.source.backoff_seconds,
            headers={"X-Goog-Api-Key": read_key(self.name)},  # not in the address, which ends up in logs and errors
            at_once=_AT_ONCE,
            turn=pace.wait,
        )
        query = Query(name=self.name, source=self.source, service=service)
        with service, _threads(self.source) as pool:
            for start in range(0, len(texts), _CHUNK):
                text_of = {pool.submit(query.ask, text): text for text in texts[start : start + _CHUNK]}
                finished = _settled(text_of)
                for answer in finished:
                    if answer.exception() is None:
                        scores[text_of[answer]] = answer.result()
                cache.put({text: scores[text] for text in text_of.values() if text in scores})
                for answer in finished:
                    answer.result()  # raises what went wrong, now that the others are kept
        return scores


def _settled(answers: dict[Future[float], str]) -> list[Future[float]]:
    """The finished answers: all of them, or after a failure those that had been given or begun."""
    wait(answers, return_when=FIRST_EXCEPTION)
    for answer in answers:
        answer.cancel()  # has an effect only on those that have not begun
    running = [answer for answer in answers if not answer.cancelled()]
    wait(running)
    return running


@contextmanager
def _threads(source: PerspectiveSource) -> Iterator[ThreadPoolExecutor]:
    """As many threads as the quota keeps busy, if an answer takes a second."""
    pool = ThreadPoolExecutor(max(1, min(_AT_ONCE, round(source.queries_per_second))))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class Pace:
    """Limits how often per second callers may pass, evenly spaced."""

    def __init__(self, per_second: float, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._interval = 1 / per_second
        self._next = 0.0
        self._lock = threading.Lock()
        self._sleep = sleep

    def wait(self) -> None:
        """Return when the caller may ask."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if turn > now:
            self._sleep(turn - now)


def read_key(name: str) -> str:
    """The API key.

    Raises:
        ScorerError: there is none, or its file cannot be read or is empty.
    """
    key_file = os.environ.get(KEY_FILE)
    if key_file:
        try:
            key = read_small(user_path(key_file)).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ScorerError(f"scorer {name}: the key file {key_file} cannot be read: {reason}") from None
        where = f"the key file {key_file}"
    else:
        key, where = os.environ.get(KEY, "").strip(), KEY
    if not key:
        raise ScorerError(
            f"scorer {name} needs a key, and there is none"
            if not key_file and KEY not in os.environ
            else f"scorer {name}: {where} is empty",
            remedy=f"put it into a file that only you can read and name it with {KEY_FILE}, or set {KEY}; or use a "
            "local scorer: see `wtsbench scorer list`.",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ScorerError(f"scorer {name}: {where} holds no key: a key is one word of ASCII characters")
    return key


def _as_sent(text: str) -> str:
    if not text.strip():
        return EMPTY_AS
    encoded = text.encode("utf-8", "replace")
    return encoded[:MOST_BYTES].decode("utf-8", "ignore")
