"""One query to the Perspective API: its request, its answer, and its errors explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wtsbench.errors import ScorerError, ScorerUnavailable
from wtsbench.http import BadAnswer, NoAnswer, Service, without
from wtsbench.spec.scorer import PerspectiveSource

MOST_BYTES = 20_480
"""Bytes of UTF-8 that a comment may have; the API refuses longer ones."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Asks for the score of one text. Used by several threads."""

    name: str
    source: PerspectiveSource
    service: Service

    def ask(self, text: str) -> float:
        """The score of a text.

        Args:
            text: not empty, of at most `MOST_BYTES`.

        Raises:
            ScorerUnavailable: no answer after all retries.
            ScorerError: see `PerspectiveScorer.score`.
        """
        request: Any = {
            "comment": {"text": text, "type": "PLAIN_TEXT"},
            "requestedAttributes": {self.source.attribute: {"scoreType": "PROBABILITY"}},
            "languages": list(self.source.languages),
            "doNotStore": True,
        }
        try:
            answer = self.service.post(f"{self.source.endpoint.rstrip('/')}/v1alpha1/comments:analyze", request)
        except NoAnswer as error:
            raise ScorerUnavailable(
                f"scorer {self.name}: {self.source.endpoint} gave {error}",
                remedy="run the same command later: answers so far are kept. Is queries_per_second within the quota?",
            ) from error
        except BadAnswer as error:
            raise ScorerError(
                f"scorer {self.name}: {self.source.endpoint}: {error}", remedy="check endpoint in its manifest."
            ) from error
        if answer.status == 200:
            return self._score_of(answer.json())
        raise self._refusal(answer.status, answer.json())

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
        message = f"scorer {self.name}: {self.source.endpoint} answers {status}{_message(body, self.service.headers)}"
        if "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE" in kinds:
            languages = ", ".join(self.source.languages)
            return ScorerError(
                message, remedy=f"{self.source.attribute} is not available for {languages}: change languages."
            )
        if kinds & {"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED"} or status in (401, 403):
            return ScorerError(message, remedy="the key is not accepted: check it, and that the API is enabled for it.")
        if "COMMENT_TOO_LONG" in kinds:
            return ScorerError(message, remedy="generate shorter texts: fewer max_new_tokens.")
        if status in (301, 302, 307, 308, 404):
            return ScorerError(message, remedy="check endpoint in the scorer's manifest; has the API closed?")
        return ScorerError(message)


def _kinds(body: Any) -> set[str]:
    """The machine-readable reasons in an error: the API's own (`errorType`) and its gateway's (`reason`)."""
    try:
        details = body["error"]["details"]
        return {str(detail[name]) for detail in details for name in ("errorType", "reason") if name in detail}
    except (TypeError, KeyError):
        return set()


def _message(body: Any, headers: dict[str, str]) -> str:
    """The server's error message, from which the key is removed if it is repeated there."""
    try:
        text = " ".join(str(body["error"]["message"]).split())[:300]
    except (TypeError, KeyError):
        return ""
    return f": {without(text, headers)}"
