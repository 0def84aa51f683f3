"""A prompted model behind an endpoint that speaks OpenAI's chat completions, as a weak supervisor.

Each text is sent once: answers are kept in the cache folder under the digest of the request, so that a run after a
failure only sends the rest. The key is sent in the header and is in no digest, cache, record or message.

With `logprobs`, an item's distribution comes from the first token that is not blank: the probability of each of its
likeliest alternatives goes to the class whose word begins with it, if it is a single class, and the sums are scaled to
add up to 1. Without, or if no alternative fits, the answer's text decides: the class whose word it begins with, else
the only one whose word occurs in it. An answer without any class counts as the uniform distribution, and is counted.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wtsbench.errors import ExitCode, ModelError
from wtsbench.files import read_small, replace
from wtsbench.models.http import Answer as Said
from wtsbench.models.http import BadAnswer, NoAnswer, Service, without
from wtsbench.settings import cache_folder, user_path
from wtsbench.spec.control_tokens import as_message
from wtsbench.spec.identity import digest
from wtsbench.spec.model import Endpoint

Floats = NDArray[np.float64]
READING_VERSION = 1
"""Raised when a change of code reads answers differently; part of the revision."""
_BACKOFF = 0.5
_ROUNDING = 1e-3
"""How far above 0 a log-probability may be, for rounding in half precision."""


class EndpointUnreachable(ModelError):
    """The endpoint does not answer now; it may later."""

    exit_code: ExitCode = ExitCode.UNREACHABLE


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The endpoint's answer to one text."""

    content: str
    first: tuple[tuple[str, float], ...] | None
    """The likeliest alternatives of the first token that is not blank, with their log-probabilities in nats."""
    cached: bool


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An answer as a distribution."""

    probabilities: Floats
    """[C] in the order of the task's labels."""
    how: Literal["logprobs", "text", "unreadable"]


def revision(source: Endpoint) -> str:
    """Digest of everything that decides the labels: the address, the model's name there, and the prompt."""
    decisive = source.model_dump(mode="json", exclude={"key_env", "key_file", "concurrency", "retries", "timeout"})
    return digest({"version": READING_VERSION, **decisive})


def ask(source: Endpoint, folder: Path, texts: Sequence[str], *, what: str) -> dict[str, Answer]:
    """The endpoint's answer to each text.

    Args:
        source: the endpoint and the prompt.
        folder: the manifest's, which a relative `key_file` starts from.
        texts: equal ones are sent once.
        what: the model's name in messages.

    Raises:
        EndpointUnreachable: the endpoint does not answer, or is overloaded; it may answer later.
        ModelError: the key is missing or refused, or the endpoint does not speak the protocol. In both cases, earlier
            answers are in the cache.
    """
    key = read_key(source, folder, what=what)
    stop = Event()
    with Service(
        name=f"{what}: {source.url}",
        timeout=source.timeout,
        retries=source.retries,
        backoff=_BACKOFF,
        headers={} if key is None else {"Authorization": f"Bearer {key}"},
        at_once=source.concurrency,
        sleep=stop.wait,
    ) as service:
        distinct = list(dict.fromkeys(texts))

        def one(text: str) -> Answer | None:
            if stop.is_set():  # another request has failed, and its error is on its way
                return None
            try:
                return _answer(service, source, text, what)
            except ModelError:
                stop.set()
                raise

        pool = ThreadPoolExecutor(source.concurrency, thread_name_prefix="endpoint")
        try:
            found = list(pool.map(one, distinct))
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    answers = [answer for answer in found if answer is not None]
    return dict(zip(distinct, answers, strict=True))


def read(answer: Answer, source: Endpoint, labels: Sequence[str]) -> Reading:
    """An answer as a distribution over the labels."""
    words = [source.answers[label].strip().casefold() for label in labels]
    if answer.first is not None:
        mass = np.zeros(len(labels))
        for token, logprob in answer.first:
            start = token.strip().casefold()
            meant = [place for place, word in enumerate(words) if start and word.startswith(start)]
            if len(meant) == 1:
                mass[meant[0]] += math.exp(logprob)
        if mass.sum() > 0:
            return Reading(probabilities=mass / mass.sum(), how="logprobs")
    chosen = _class_in(answer.content, words)
    if chosen is None:
        return Reading(probabilities=np.full(len(labels), 1 / len(labels)), how="unreadable")
    return Reading(probabilities=np.eye(len(labels))[chosen], how="text")


def _class_in(content: str, words: Sequence[str]) -> int | None:
    said = content.strip().casefold()

    def has(word: str, *, start: bool) -> bool:
        pattern = rf"(?<!\w){re.escape(word)}(?!\w)"
        return (re.match(rf"\W*{pattern}", said) if start else re.search(pattern, said)) is not None

    for start in (True, False):
        meant = [place for place, word in enumerate(words) if has(word, start=start)]
        if len(meant) == 1:
            return meant[0]
        if start and meant:  # `yes` and `yes and no`: the longer word is meant
            return max(meant, key=lambda place: len(words[place]))
    return None


def read_key(source: Endpoint, folder: Path, *, what: str) -> str | None:
    """The key; None if the manifest names none.

    Raises:
        ModelError: the key that it names does not exist.
    """
    if source.key_env is not None:
        key = os.environ.get(source.key_env, "").strip()
        if not key:
            raise ModelError(f"{what}: the environment has no {source.key_env}", remedy="set it to the endpoint's key.")
        return key
    if source.key_file is not None:
        path = folder / user_path(source.key_file)
        try:
            key = read_small(path).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ModelError(
                f"{what}: the key file {path} cannot be read: {reason}", remedy="check `endpoint.key_file`."
            ) from None
        if not key:
            raise ModelError(f"{what}: the key file {path} is empty", remedy="write the endpoint's key into it.")
        return key
    return None


def _answer(service: Service, source: Endpoint, text: str, what: str) -> Answer:
    body = _body(source, text)
    path = _place(source, body)
    kept = _read_kept(path)
    if kept is not None:
        return kept
    try:
        said = service.post(f"{source.url}/chat/completions", body)
    except NoAnswer as error:
        raise EndpointUnreachable(
            f"{what}: {source.url} cannot be reached: {error}",
            remedy="check `endpoint.url`; if it is overloaded, lower `endpoint.concurrency`; submitting again"
            " asks only for what is missing.",
        ) from error
    except BadAnswer as error:
        raise _no_completion(source, what, str(error)) from error
    if said.status != 200:
        raise _refused(said, source, what, service.headers)
    answer = _parsed(said, source, what)
    _keep(path, answer)
    return answer


def _body(source: Endpoint, text: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": source.system}] if source.system is not None else []
    messages.append({"role": "user", "content": source.prompt.format(text=as_message(text))})
    body: dict[str, Any] = {
        "model": source.model,
        "messages": messages,
        "temperature": source.temperature,
        "max_tokens": source.max_tokens,
    }
    return body | {"logprobs": True, "top_logprobs": source.top_logprobs} if source.logprobs else body


def _refused(said: Said, source: Endpoint, what: str, headers: dict[str, str]) -> ModelError:
    if said.status in (401, 403):
        return ModelError(
            f"{what}: {source.url} refuses the key ({said.status})", remedy="check `endpoint.key_env` or `key_file`."
        )
    return ModelError(
        f"{what}: {source.url} refuses the request ({said.status}): {without(said.text, headers)[:200]}",
        remedy="check `endpoint.url` and `endpoint.model`; not every endpoint has `logprobs`.",
    )


def _no_completion(source: Endpoint, what: str, why: str) -> ModelError:
    return ModelError(
        f"{what}: {source.url} does not answer as a chat completion: {why}", remedy="check `endpoint.url`."
    )


def _parsed(said: Said, source: Endpoint, what: str) -> Answer:
    try:
        choice = said.json()["choices"][0]
        content = choice["message"]["content"] or ""
        tokens = (choice.get("logprobs") or {}).get("content") if source.logprobs else None
        if not isinstance(content, str):
            raise TypeError
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _no_completion(source, what, "its answer has no choice with a message") from error
    try:
        first = None
        for token in tokens or ():
            if str(token["token"]).strip():
                first = _alternatives([(each["token"], each["logprob"]) for each in token["top_logprobs"]])
                break
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise _no_completion(source, what, "its `logprobs` are not logarithms of probabilities") from error
    return Answer(content=content, first=first or None, cached=False)


def _alternatives(pairs: Sequence[Any]) -> tuple[tuple[str, float], ...]:
    """Tokens with their log-probabilities.

    Raises:
        ValueError: a log-probability is not finite or above 0, or a token is no text.
    """
    checked = []
    for token, logprob in pairs:
        number = isinstance(logprob, int | float) and not isinstance(logprob, bool)
        if not (isinstance(token, str) and number and -math.inf < logprob <= _ROUNDING):
            raise ValueError
        checked.append((token, min(float(logprob), 0.0)))
    return tuple(checked)


def _place(source: Endpoint, body: Mapping[str, Any]) -> Path:
    name = digest({"url": source.url, "body": body})
    return cache_folder() / "models" / "endpoint" / name[:2] / f"{name}.json"


def _read_kept(path: Path) -> Answer | None:
    try:
        kept = json.loads(path.read_text())
        first = kept["first"]
        return Answer(
            content=str(kept["content"]),
            first=None if first is None else _alternatives(first),
            cached=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _keep(path: Path, answer: Answer) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps({"content": answer.content, "first": answer.first}), durable=False)
    except OSError:
        return  # only a cache: the text is sent again next time
