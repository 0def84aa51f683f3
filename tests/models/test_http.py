"""What speaks to services over HTTP, against a server that means no good: bounded, in words, and nothing is kept."""

from __future__ import annotations

import gzip
import json
import logging
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_http import hostile, reply
from tests.models.endpoint_server import completion, serve
from tests.models.test_endpoint import ITEMS, LABELS, supervisor
from wtsbench.errors import ModelError, UserError
from wtsbench.models import http
from wtsbench.models.external import predict
from wtsbench.models.http import BadAnswer, NoAnswer, Service

ONE = ITEMS.slice(0, 1)


def asks_once(url: str, **more: Any) -> http.Answer:
    """A question that is asked once."""
    with Service(name="a service", timeout=1.0, retries=0, backoff=0.01, **more) as service:
        return service.post(url, {})


def drip(prefix: bytes) -> Callable[[socket.socket, int], None]:
    """Begins so, and then sends a byte now and then, for ever."""

    def behave(connection: socket.socket, number: int) -> None:
        connection.sendall(prefix)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    return behave


@pytest.mark.parametrize(
    "prefix",
    [b"", b"HTTP/1.1 200 OK\r\nA: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["status", "header", "body", "body without a length"],
)
def test_an_answer_that_drips_meets_the_timeout(prefix: bytes) -> None:
    """However little comes at a time, in whatever part of the answer, and though each byte is in time."""
    begun = time.monotonic()
    with hostile(drip(prefix)) as url, pytest.raises(NoAnswer, match="no complete answer within 1 s"):
        asks_once(url)
    assert time.monotonic() - begun < 10


def test_an_answer_without_an_end_is_cut_off() -> None:
    """No more than the largest answer is held, and the error says how much that is."""

    def behave(connection: socket.socket, number: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(1 << 20))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with hostile(behave) as url, pytest.raises(BadAnswer, match="larger than 8 MiB"):
        asks_once(url)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_an_answer_that_would_unpack_to_gigabytes_is_refused() -> None:
    """Nothing compressed is asked for, and nothing is unpacked."""
    packed = gzip.compress(bytes(50_000_000))
    whole = reply(packed, Content_Encoding="gzip")
    with hostile(lambda connection, _: connection.sendall(whole)) as url, pytest.raises(BadAnswer, match="compressed"):
        asks_once(url)


def test_a_long_retry_after_is_capped_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for a day without a word."""
    slept: list[float] = []

    def behave(connection: socket.socket, number: int) -> None:
        wait = ("86400", "1e999", "nan", "Fri, 31 Dec 9999 23:59:59 GMT", "soon", "-5")[number % 6]
        connection.sendall(reply(b"", "429 Too Many Requests", Retry_After=wait))

    with (
        hostile(behave) as url,
        caplog.at_level(logging.WARNING),
        pytest.raises(NoAnswer, match="429"),
        Service(
            name="model judge", timeout=5, retries=6, backoff=0.5, sleep=lambda pause: slept.append(pause)
        ) as service,
    ):
        service.post(url, {})
    assert slept == [120, 120, 2.0, 120, 8.0, 0.0]
    assert "model judge: waiting 120 s before asking again: it answers 429" in caplog.text


def _judged(tmp_path: Path, body: bytes) -> None:
    with hostile(lambda connection, _: connection.sendall(reply(body))) as url:
        predict(supervisor(tmp_path, url, logprobs=True, retries=0, timeout=5), ONE, LABELS)


def _with_logprob(value: str) -> bytes:
    return json.dumps(completion("No", [("No", 0.0)])).replace("0.0", value).encode()


@pytest.mark.parametrize("value", ["1e6", "Infinity", "-Infinity", "NaN", "1e999", "0.5", '"-1"', "true", "null"])
def test_log_probabilities_that_are_none(tmp_path: Path, value: str) -> None:
    """They end the question in words, and the answer is not kept: a right one counts when it comes."""
    with pytest.raises(ModelError, match="does not answer as a chat completion"):
        _judged(tmp_path, _with_logprob(value))
    with serve(lambda _: completion("No", [("No", 1e-7)])) as server:  # above 0 by rounding only
        table, statistics = predict(supervisor(tmp_path, server.url, logprobs=True), ONE, LABELS)
    assert table["probabilities"].to_pylist() == [[1, 0]]
    assert statistics["from_cache"] == 0


def test_a_kept_answer_that_is_none_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older version kept of a bad answer does not come back as labels."""
    monkeypatch.setenv("WTSBENCH_CACHE", str(tmp_path / "cache"))
    with serve(lambda _: completion("No", [("No", -0.5)])) as server:
        ref = supervisor(tmp_path, server.url, logprobs=True)
        predict(ref, ONE, LABELS)
        (kept,) = (tmp_path / "cache").rglob("*.json")
        for bad in ("Infinity", "1e6", '"x"', "[" * 5000):
            kept.write_text(f'{{"content": "No", "first": [["No", {bad}]]}}')
            _, statistics = predict(ref, ONE, LABELS)
            assert statistics["from_cache"] == 0


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 200_000, b"1" * 100_000, b"\xff\xfe", b""])
def test_bodies_that_no_parser_likes(tmp_path: Path, body: bytes) -> None:
    """Depth, numbers of any length and broken text are no completion, and no score."""
    with pytest.raises(ModelError, match="does not answer as a chat completion"):
        _judged(tmp_path, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TOKEN = st.fixed_dictionaries(
    {"token": JSON, "top_logprobs": st.lists(JSON | st.fixed_dictionaries({"token": JSON, "logprob": JSON}))}
)
COMPLETION = st.fixed_dictionaries(
    {
        "choices": JSON
        | st.lists(
            st.fixed_dictionaries(
                {
                    "message": JSON | st.fixed_dictionaries({"content": JSON}),
                    "logprobs": JSON | st.fixed_dictionaries({"content": st.lists(JSON | TOKEN, max_size=3)}),
                }
            ),
            max_size=2,
        )
    }
)


@settings(max_examples=100, deadline=None, database=None)
@given(
    body=COMPLETION.map(lambda found: json.dumps(found).encode())
    | JSON.map(lambda j: json.dumps(j).encode())
    | st.binary(max_size=200)
)
def test_whatever_a_supervisor_answers_is_a_distribution_or_an_error_in_words(
    body: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No answer ends in anything but finite probabilities that add up to 1, or a UserError."""
    folder = tmp_path_factory.mktemp("judge")
    with pytest.MonkeyPatch.context() as patch, hostile(lambda c, _: c.sendall(reply(body))) as url:
        patch.setenv("WTSBENCH_CACHE", str(folder / "cache"))
        ref = supervisor(folder, url, logprobs=True, retries=0, timeout=5)
        try:
            table, statistics = predict(ref, ONE, LABELS)
        except UserError:
            return
    (row,) = table["probabilities"].to_pylist()
    assert sum(row) == pytest.approx(1)
    json.dumps(statistics, allow_nan=False).encode()
