"""The Perspective API's client, against a server that speaks its protocol."""

from __future__ import annotations

import email.utils
import json
import os
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.scoring.perspective_server import KEY, Answer, Perspective, error, score_of, serve
from wtsbench.errors import ExitCode, ScorerError, ScorerUnavailable
from wtsbench.scoring.perspective import EMPTY_AS, PerspectiveScorer
from wtsbench.spec.scorer import PERSPECTIVE, PerspectiveSource

BUSY: Answer = error(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Analyze requests'.")
TEXTS = ["Some words", "MORE WORDS", "and More"]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Perspective]:
    """The server; its key is in the environment."""
    monkeypatch.delenv("WTSBENCH_PERSPECTIVE_KEY_FILE", raising=False)
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    with serve() as running:
        yield running


def scorer(api: Perspective, **settings: Any) -> PerspectiveScorer:
    """A scorer that asks the server, in a hurry."""
    hurried = {"queries_per_second": 500, "backoff_seconds": 0.01, "retries": 2, "timeout_seconds": 5}
    return PerspectiveScorer(name="remote", source=PerspectiveSource(endpoint=api.url, **{**hurried, **settings}))


def test_scores_are_those_of_the_server(api: Perspective) -> None:
    """Every text gets its own summary score, in order; each different text is asked for once, as the protocol says."""
    found = scorer(api).score([*TEXTS, *TEXTS])
    assert found.tolist() == [score_of(text) for text in TEXTS] * 2
    assert sorted(body["comment"]["text"] for body in api.asked) == sorted(TEXTS)
    (first, *_) = api.asked
    assert first["requestedAttributes"] == {"TOXICITY": {"scoreType": "PROBABILITY"}}
    assert first["languages"] == ["en"]
    assert first["doNotStore"] is True
    assert set(api.keys) == {KEY}


def test_answers_are_kept_for_the_next_process(api: Perspective) -> None:
    """What was asked once is not asked again, needs no key, and another attribute or language is another question."""
    scorer(api).score(TEXTS)
    asked = len(api.asked)
    del os.environ["PERSPECTIVE_API_KEY"]
    try:
        again = scorer(api).score(TEXTS[::-1])
    finally:
        os.environ["PERSPECTIVE_API_KEY"] = KEY
    assert again.tolist() == [score_of(text) for text in TEXTS[::-1]]
    assert len(api.asked) == asked
    scorer(api, attribute="INSULT").score(TEXTS[:1])
    assert len(api.asked) == asked + 1


def test_an_empty_text_is_scored_as_a_full_stop(api: Perspective) -> None:
    """The API refuses empty comments, so they are sent as the documented stand-in."""
    assert scorer(api).score(["", " \n\t", "YES"]).tolist() == [score_of(EMPTY_AS)] * 2 + [1.0]
    assert EMPTY_AS in [body["comment"]["text"] for body in api.asked]


def test_a_long_text_is_cut_at_a_whole_character(api: Perspective) -> None:
    """No more bytes are sent than the API takes, and no broken character."""
    assert scorer(api).score(["é" * 20000]).shape == (1,)
    assert api.asked[0]["comment"]["text"] == "é" * 10240


@pytest.mark.parametrize(
    "trouble", [BUSY, error(503, "UNAVAILABLE", "Try later."), (500, b"<html>", {}), (0, None, {})]
)
def test_it_asks_again_after_trouble(api: Perspective, trouble: Answer) -> None:
    """429, 5xx and a broken connection are asked again, with a growing pause, until there is a score."""
    api.first = [trouble, trouble]
    assert scorer(api, backoff_seconds=0.1).score(["Yes"]).tolist() == [score_of("Yes")]
    gaps = [later - sooner for sooner, later in pairwise(api.times)]
    assert len(gaps) == 2
    assert gaps[0] >= 0.1
    assert gaps[1] >= 0.2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(api: Perspective, as_date: bool) -> None:
    """The pause that the server asks for, in seconds or as a date, goes before our own."""

    def busy_at_first(_text: str) -> Answer | None:
        if len(api.asked) > 1:
            return None
        when = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "1"  # a date in whole seconds
        return (*BUSY[:2], {"Retry-After": when})

    api.instead = busy_at_first
    scorer(api).score(["Yes"])
    assert api.times[1] - api.times[0] >= 0.9


def test_what_was_answered_before_a_failure_is_kept(api: Perspective) -> None:
    """Out of retries is a failure that can be tried again later, with the exit code of what is not reachable."""
    api.instead = lambda text: BUSY if text == "BAD" else None
    with pytest.raises(ScorerUnavailable, match=r"in 3 tries: it answers 429: Quota exceeded") as caught:
        scorer(api, queries_per_second=1e3).score([*TEXTS, "BAD"])
    assert caught.value.exit_code == ExitCode.UNREACHABLE
    asked = len(api.asked)
    api.instead = lambda text: None
    assert scorer(api).score([*TEXTS, "BAD"]).tolist() == [*map(score_of, TEXTS), 1.0]
    assert [body["comment"]["text"] for body in api.asked[asked:]] == ["BAD"]


def test_nobody_listens(api: Perspective) -> None:
    """A server that is not there is unavailable, not wrong."""
    with pytest.raises(ScorerUnavailable, match="ConnectionError"):
        PerspectiveScorer(
            name="remote",
            source=PerspectiveSource(
                endpoint="http://127.0.0.1:9", retries=1, backoff_seconds=0, queries_per_second=99
            ),
        ).score(["Yes"])


def test_the_quota_is_kept(api: Perspective) -> None:
    """So many queries a second and no more, however many threads ask."""
    begun = time.monotonic()
    scorer(api, queries_per_second=20).score([f"text {i}" for i in range(7)])
    assert len(api.times) == 7
    assert [number for number, came in enumerate(sorted(api.times)) if came - begun < number / 20] == []


def test_a_bad_key_is_told_and_never_shown(api: Perspective, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused key is no matter for retries; the message does not hold it, though the server repeats it."""
    monkeypatch.setenv("PERSPECTIVE_API_KEY", "AIza-wrong")
    with pytest.raises(ScorerError, match="the key is not accepted") as caught:
        scorer(api).score(["Yes"])
    assert not isinstance(caught.value, ScorerUnavailable)
    assert "AIza-wrong" not in str(caught.value)
    assert "<key>" in str(caught.value)
    assert len(api.asked) == 1


def test_an_unsupported_language_is_told(api: Perspective) -> None:
    """LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE names attribute and language, and is asked once."""
    with pytest.raises(ScorerError, match="TOXICITY is not available for tlh"):
        scorer(api, languages=["tlh"]).score(["qapla"])
    assert len(api.asked) == 1


def test_a_comment_too_long_is_told(api: Perspective) -> None:
    """Should the API take less than it says, the remedy is in the error."""
    api.instead = lambda text: error(400, "INVALID_ARGUMENT", "Comment text too long.", kind="COMMENT_TOO_LONG")
    with pytest.raises(ScorerError, match="fewer max_new_tokens"):
        scorer(api).score(["Yes"])


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        {},
        {"attributeScores": {"INSULT": {"summaryScore": {"value": 0.5}}}},
        {"attributeScores": {"TOXICITY": {"summaryScore": {"value": "0.5"}}}},
        {"attributeScores": {"TOXICITY": {"summaryScore": {"value": True}}}},
        {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 1.5}}}},
        b'{"attributeScores": {"TOXICITY": {"summaryScore": {"value": NaN}}}}',
    ],
)
def test_a_malformed_reply_is_no_score(api: Perspective, body: Any) -> None:
    """An answer without a score in [0, 1] for the attribute asked for is refused, and never kept."""
    api.instead = lambda text: (200, body, {})
    with pytest.raises(ScorerError, match="without a TOXICITY score"):
        scorer(api).score(["Yes"])
    api.instead = lambda text: None
    assert scorer(api).score(["Yes"]).tolist() == [score_of("Yes")]


def test_a_redirect_is_not_followed(api: Perspective) -> None:
    """The key goes to the endpoint named in the manifest and nowhere else."""
    with serve() as elsewhere:
        api.first = [(307, {}, {"Location": f"{elsewhere.url}/v1alpha1/comments:analyze"})]
        with pytest.raises(ScorerError, match="check endpoint"):
            scorer(api).score(["Yes"])
        assert elsewhere.asked == []


def test_the_key_is_in_no_record(api: Perspective, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key from a file reaches the server's header; not an address, the identity, a representation or the cache."""
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    monkeypatch.setenv("WTSBENCH_PERSPECTIVE_KEY_FILE", str(file))
    monkeypatch.setenv("PERSPECTIVE_API_KEY", "AIza-of-the-environment")
    asking = scorer(api)
    asking.score(["Yes"])
    assert api.keys == [KEY]
    assert KEY not in api.paths[0]
    assert KEY not in json.dumps(asking.identity()) + repr(asking)
    for path in Path(os.environ["WTSBENCH_CACHE"]).rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot be read"), ("", "is empty"), ("two words", "holds no key")]
)
def test_a_key_file_that_is_none(
    api: Perspective, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, told: str
) -> None:
    """A key file that is missing, empty or no key is told before anything is asked."""
    if content is not None:
        (tmp_path / "key").write_text(content)
    monkeypatch.setenv("WTSBENCH_PERSPECTIVE_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ScorerError, match=told):
        scorer(api).score(["Yes"])
    assert api.asked == []


def test_no_key(api: Perspective, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the error names both ways to give one."""
    monkeypatch.delenv("PERSPECTIVE_API_KEY")
    with pytest.raises(ScorerError, match=re.compile("WTSBENCH_PERSPECTIVE_KEY_FILE.*PERSPECTIVE_API_KEY", re.DOTALL)):
        scorer(api).score(["Yes"])


def test_identity(api: Perspective) -> None:
    """Pace and patience are no part of the identity; endpoint, attribute and languages are."""
    assert scorer(api, retries=9, queries_per_second=1).digest == scorer(api).digest
    others = [scorer(api, attribute="INSULT"), scorer(api, languages=["de"])]
    others.append(PerspectiveScorer(name="remote", source=PerspectiveSource(endpoint=PERSPECTIVE)))
    assert len({scorer(api).digest, *(other.digest for other in others)}) == 4


def test_a_damaged_cache_is_named(api: Perspective) -> None:
    """A cache that is no database is told with what to do."""
    path = Path(os.environ["WTSBENCH_CACHE"]) / "scorers" / "perspective.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else" * 100)
    with pytest.raises(ScorerError, match=r"perspective\.sqlite cannot be used"):
        scorer(api).score(["Yes"])
