"""One query to the Perspective API: its form, its answers and its errors in words, and when to ask again."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wtsbench.errors import ScorerError, ScorerUnavailable
from wtsbench.spec.scorer import PerspectiveSource

MOST_BYTES = 20_480
"""Of UTF-8 in a comment; the API refuses longer ones."""
_LONGEST_PAUSE = 120.0
"""Seconds between two tries, whatever a server asks for."""
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True)
class Query:
    """Asks for the score of one text. Used by several threads."""

    name: str
    source: PerspectiveSource
    key: str = field(repr=False)
    sleep: Callable[[float], None] = time.sleep

    def ask(self, text: str, turn: Callable[[], None]) -> float:
        """The score of a text.

        Args:
            text: not empty, of at most `MOST_BYTES`.
            turn: returns when the quota lets the next query pass.

        Raises:
            ScorerUnavailable: no answer after all retries.
            ScorerError: see `PerspectiveScorer.score`.
        """
        for tried in range(self.source.retries + 1):
            turn()
            status, body, retry_after, trouble = self._post(text)
            if status == 200:
                return self._score_of(body)
            if status is not None and status not in _AGAIN:
                raise self._refusal(status, body)
            trouble = trouble or f"it answers {status}{_message(body, self.key)}"
            if tried < self.source.retries:
                pause = self.source.backoff_seconds * 2**tried if retry_after is None else retry_after
                self.sleep(min(pause, _LONGEST_PAUSE))
        raise ScorerUnavailable(
            f"scorer {self.name}: {self.source.endpoint} gave no score in {self.source.retries + 1} tries: {trouble}",
            remedy="run the same command later: what was answered is kept. Is queries_per_second within the quota?",
        )

    def _post(self, text: str) -> tuple[int | None, Any, float | None, str | None]:
        """Status, decoded body, seconds the server asks to wait, and what broke; status is None where nothing came."""
        import requests

        attribute = self.source.attribute
        asked: Any = {
            "comment": {"text": text, "type": "PLAIN_TEXT"},
            "requestedAttributes": {attribute: {"scoreType": "PROBABILITY"}},
            "languages": list(self.source.languages),
            "doNotStore": True,
        }
        try:
            answer = requests.post(
                f"{self.source.endpoint.rstrip('/')}/v1alpha1/comments:analyze",
                json=asked,
                headers={"X-Goog-Api-Key": self.key},  # not in the address, which ends up in logs and errors
                timeout=self.source.timeout_seconds,
                allow_redirects=False,  # the key goes to nobody else
            )
        except requests.RequestException as error:
            return None, None, None, type(error).__name__
        try:
            body = answer.json()
        except ValueError:
            body = None
        return answer.status_code, body, _seconds(answer.headers.get("Retry-After")), None

    def _score_of(self, body: Any) -> float:
        try:
            summary = body["attributeScores"][self.source.attribute]["summaryScore"]
            score = summary["value"]
        except (TypeError, KeyError):
            score = None
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise ScorerError(
                f"scorer {self.name}: {self.source.endpoint} answered without a {self.source.attribute} score",
                remedy="is it the Perspective API? Check endpoint and attribute in the scorer's manifest.",
            )
        return float(score)

    def _refusal(self, status: int, body: Any) -> ScorerError:
        kinds = _kinds(body)
        said = f"scorer {self.name}: {self.source.endpoint} answers {status}{_message(body, self.key)}"
        if "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE" in kinds:
            wanted = ", ".join(self.source.languages)
            return ScorerError(said, remedy=f"{self.source.attribute} is not to be had for {wanted}: change languages.")
        if kinds & {"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED"} or status in (401, 403):
            return ScorerError(said, remedy="the key is not accepted: check it, and that the API is enabled for it.")
        if "COMMENT_TOO_LONG" in kinds:
            return ScorerError(said, remedy="generate shorter texts: fewer max_new_tokens.")
        if status in (301, 302, 307, 308, 404):
            return ScorerError(said, remedy="check endpoint in the scorer's manifest; has the API closed?")
        return ScorerError(said)


def _kinds(body: Any) -> set[str]:
    """The machine-readable reasons in an error: the API's own (`errorType`) and those of its front door (`reason`)."""
    try:
        details = body["error"]["details"]
        return {str(detail[name]) for detail in details for name in ("errorType", "reason") if name in detail}
    except (TypeError, KeyError):
        return set()


def _message(body: Any, secret: str) -> str:
    """What the server says, without the key, should it repeat that."""
    try:
        text = " ".join(str(body["error"]["message"]).split())[:300]
    except (TypeError, KeyError):
        return ""
    return f": {text.replace(secret, '<key>')}"


def _seconds(header: str | None) -> float | None:
    """Seconds to wait that a Retry-After header asks for, be it a number or a date; None where it has neither."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
