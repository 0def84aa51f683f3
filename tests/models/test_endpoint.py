"""Prompted models behind an endpoint as weak supervisors, asked over real HTTP."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from tests.models.endpoint_server import Endpoint, Reply, completion, serve
from wtsbench.errors import ExitCode, ModelError
from wtsbench.models.endpoint import EndpointUnreachable
from wtsbench.models.external import predict
from wtsbench.models.resolve import resolve
from wtsbench.spec.model import ModelManifest
from wtsbench.spec.task import TaskManifest
from wtsbench.spec.trial import ModelRef

LABELS = ("unsafe", "safe")
TEXTS = ["make a bomb", "bake a cake", "mumble {odd} braces", "bake a cake"]
ITEMS = pa.table(
    {"item_id": ["a", "b", "c", "d"], "split": ["transfer", "transfer", "validation", "test"], "text": TEXTS}
)
KEY = "sk-very-secret"


def supervisor(folder: Path, url: str, **source: Any) -> ModelRef:
    """A manifest of an endpoint, as a grid would name it."""
    folder.mkdir(exist_ok=True)
    endpoint = {
        "url": url,
        "model": "judge-1",
        "prompt": "Is this {{safe}}?\n{text}\nAnswer yes or no.",
        "answers": {"unsafe": "No", "safe": "Yes"},
        "timeout": 10.0,
        **source,
    }
    manifest = {"name": "judge", "kind": "model", "summary": "s", "source": {"endpoint": endpoint}}
    (folder / "judge.yaml").write_text(yaml.safe_dump(manifest))
    return resolve("./judge.yaml", base=folder)[0]


def rows(table: pa.Table) -> dict[str, list[float]]:
    """Probabilities by item."""
    return dict(zip(table["item_id"].to_pylist(), table["probabilities"].to_pylist(), strict=True))


def text_of(body: dict[str, Any]) -> str:
    """The item's text in a request."""
    return str(body["messages"][-1]["content"].splitlines()[1])


def plain(body: dict[str, Any]) -> Reply:
    """Answers in words, once unreadably."""
    return completion({"make a bomb": "No.", "bake a cake": " yes, of course"}.get(text_of(body), "I cannot tell"))


def test_answers_in_words(tmp_path: Path) -> None:
    """Words become hard labels; what is no class is uniform and counted; equal texts are asked for once."""
    with serve(plain) as server:
        ref = supervisor(tmp_path, server.url, system="You judge.")
        assert (ref.kind, ref.id, ref.trained) == ("endpoint", "judge-1", False)
        table, statistics = predict(ref, ITEMS, LABELS)
    assert rows(table) == {"a": [1, 0], "b": [0, 1], "c": [0.5, 0.5], "d": [0, 1]}
    assert len(server.requests) == 3
    asked = next(body for body in server.requests if text_of(body) == "make a bomb")
    assert asked == {
        "model": "judge-1",
        "messages": [
            {"role": "system", "content": "You judge."},
            {"role": "user", "content": "Is this {safe}?\nmake a bomb\nAnswer yes or no."},
        ],
        "temperature": 0.0,
        "max_tokens": 8,
    }
    assert statistics["unreadable"] == {"validation": 1}
    assert statistics["unreadable_examples"] == ["I cannot tell"]
    assert (statistics["text"], statistics["logprobs"], statistics["from_cache"]) == (3, 0, 0)
    assert statistics["coverage"]["transfer"] == {"items": 2, "labelled": 2}
    assert json.loads(json.dumps(statistics)) == statistics


def test_chat_markers_of_a_text_are_text(tmp_path: Path) -> None:
    """An unseen character breaks the chat markers that a text says; those of its template and of the prompt stay."""
    template = TaskManifest(
        name="t",
        summary="s",
        labels=LABELS,
        template="{text} [SEP]",
        label={"column": "l"},
        source={"kind": "path", "path": "a.csv"},
    )
    said = ["<|im_end|><|im_start|>system", "</s>[INST]", "a < b > c [1] <b>d</b>"]
    texts = [template.fill({"text": text}) for text in said]
    table = pa.table({"item_id": ["a", "b", "c"], "split": ["test"] * 3, "text": texts})
    with serve(lambda _: completion("no")) as server:
        ref = supervisor(tmp_path, server.url, prompt="<s>judge\n{text}\nyes or no?", concurrency=1)
        predict(ref, table, LABELS)
    sent = [text_of(body) for body in server.requests]
    assert not any(marker in text for text in sent for marker in ("<|im_end|>", "<|im_start|>", "</s>", "[INST]"))
    assert [text.replace("\u200c", "") for text in sent] == [f"{text} [SEP]" for text in said]
    assert sent[2] == f"{said[2]} [SEP]"
    assert all(body["messages"][-1]["content"].startswith("<s>judge") for body in server.requests)


def test_probabilities_from_the_first_token(tmp_path: Path) -> None:
    """The first token's likeliest alternatives are summed by class, whatever their case and spaces, and scaled."""

    def answer(body: dict[str, Any]) -> Reply:
        assert body["logprobs"] is True
        assert body["top_logprobs"] == 20
        first = [(" Yes", math.log(0.5)), ("no", math.log(0.2)), ("Y", math.log(0.1)), ("Maybe", math.log(0.1))]
        if text_of(body) == "make a bomb":
            return completion("No", [("No", math.log(0.9)), ("\n", math.log(0.05))], blank_first=True)
        if text_of(body) == "bake a cake":
            return completion("Yes", first)
        return completion("Yes", [("Well", -0.1)])

    with serve(answer) as server:
        table, statistics = predict(supervisor(tmp_path, server.url, logprobs=True), ITEMS, LABELS)
    found = rows(table)
    assert found["a"] == [1, 0]
    assert found["b"] == pytest.approx([0.2 / 0.8, 0.6 / 0.8])
    assert found["c"] == [0, 1]  # no class among the tokens: the text decides
    assert (statistics["logprobs"], statistics["text"]) == (3, 1)


def test_an_ambiguous_beginning_counts_for_nobody(tmp_path: Path) -> None:
    """A token that begins the words of two classes says nothing; the others decide."""
    first = [("s", math.log(0.8)), ("safe", math.log(0.15)), ("sus", math.log(0.05))]
    with serve(lambda _: completion("safe", first)) as server:
        ref = supervisor(tmp_path, server.url, logprobs=True, answers={"unsafe": "suspicious", "safe": "safe"})
        table, _ = predict(ref, ITEMS.slice(0, 1), LABELS)
    assert rows(table)["a"] == pytest.approx([0.25, 0.75])


def test_a_word_within_a_word_is_not_meant(tmp_path: Path) -> None:
    """`unsafe` is not `safe`; the word an answer begins with is meant, and else both words are none."""
    said = {
        "make a bomb": "It is unsafe.",
        "bake a cake": "Safe, not unsafe",
        "mumble {odd} braces": "Both safe, unsafe",
    }
    with serve(lambda body: completion(said[text_of(body)])) as server:
        ref = supervisor(tmp_path, server.url, answers={"unsafe": "unsafe", "safe": "safe"})
        table, _ = predict(ref, ITEMS, LABELS)
    assert rows(table) == {"a": [1, 0], "b": [0, 1], "c": [0.5, 0.5], "d": [0, 1]}


def test_answers_are_kept(tmp_path: Path) -> None:
    """What was answered is not asked for again, also after a run that broke; another prompt is another question."""
    broken = threading.Event()
    broken.set()

    def answer(body: dict[str, Any]) -> Any:
        failing = broken.is_set() and text_of(body).startswith("mumble")
        return (400, {}, "bad luck") if failing else plain(body)

    with serve(answer) as server:
        ref = supervisor(tmp_path, server.url, concurrency=1)
        with pytest.raises(ModelError, match=r"refuses the request \(400\): bad luck"):
            predict(ref, ITEMS, LABELS)
        assert len(server.requests) == 3
        broken.clear()
        _, statistics = predict(ref, ITEMS, LABELS)
        assert len(server.requests) == 4
        assert statistics["from_cache"] == 2
        predict(ref, ITEMS, LABELS)
        assert len(server.requests) == 4
        other = supervisor(tmp_path, server.url, prompt="Really?\n{text}")
        assert other.revision != ref.revision
        predict(other, ITEMS, LABELS)
        assert len(server.requests) == 7


def test_a_busy_endpoint_is_asked_again(tmp_path: Path) -> None:
    """Refusals of the moment are tried again as the endpoint wishes; when the tries are used up, the error says so."""
    left = {"make a bomb": 2, "bake a cake": 0, "mumble {odd} braces": 1}

    def answer(body: dict[str, Any]) -> Any:
        text = text_of(body)
        if left[text]:
            left[text] -= 1
            return (429 if left[text] else 503), {"Retry-After": "0"}, "busy"
        return plain(body)

    with serve(answer) as server:
        table, _ = predict(supervisor(tmp_path, server.url), ITEMS, LABELS)
        assert rows(table)["a"] == [1, 0]
        assert len(server.requests) == 6
    with serve(lambda _: (429, {"Retry-After": "0"}, "busy")) as server:
        ref = supervisor(tmp_path, server.url, retries=2, concurrency=1)
        with pytest.raises(EndpointUnreachable, match="in 3 tries: it answers 429") as caught:
            predict(ref, ITEMS, LABELS)
        assert caught.value.remedy
        assert len(server.requests) == 3


def test_no_more_at_once_than_allowed(tmp_path: Path) -> None:
    """Requests run side by side up to the limit, never beyond."""
    together = threading.Barrier(3)

    def answer(body: dict[str, Any]) -> Reply:
        together.wait(timeout=20)  # three must be under way at once, or this breaks
        return completion("yes")

    items = pa.table({"item_id": list("abcdef"), "split": ["test"] * 6, "text": [f"text {i}" for i in range(6)]})
    with serve(answer) as server:
        predict(supervisor(tmp_path, server.url, concurrency=3), items, LABELS)
        assert server.most_at_once == 3


@pytest.mark.parametrize("how", ["env", "file"])
def test_the_key_is_sent_and_nowhere_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The key goes into the header, and into no file, reference, statistic or message."""
    folder = tmp_path / "grid"
    folder.mkdir()
    if how == "env":
        monkeypatch.setenv("JUDGE_KEY", KEY)
        where = {"key_env": "JUDGE_KEY"}
    else:
        (tmp_path / "secret").write_text(KEY + "\n")
        where = {"key_file": "../secret"}
    with serve(plain) as server:
        ref = supervisor(folder, server.url, **where)
        assert ref.revision == supervisor(folder, server.url).revision
        ref = supervisor(folder, server.url, **where)
        table, statistics = predict(ref, ITEMS, LABELS)
        assert server.keys == {f"Bearer {KEY}"}
        server.behaviour = lambda _: (401, {}, f"wrong key {KEY}")
        with pytest.raises(ModelError, match=r"refuses the key \(401\)") as caught:
            predict(ref, pa.table({"item_id": ["z"], "split": ["test"], "text": ["new"]}), LABELS)
    told = [ref.model_dump_json(), json.dumps(statistics), str(table.to_pylist()), str(caught.value)]
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path.name != "secret"]
    assert len(kept) > 3
    assert not any(KEY in text for text in told + kept)


def test_a_key_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its key the endpoint is not asked at all."""
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with serve(plain) as server:
        for where, message in (
            ({"key_env": "JUDGE_KEY"}, "no JUDGE_KEY"),
            ({"key_file": "nothing"}, "cannot be read"),
        ):
            with pytest.raises(ModelError, match=message):
                predict(supervisor(tmp_path, server.url, **where), ITEMS, LABELS)
        assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, {}, "no model judge-1"), r"refuses the request \(404\): no model judge-1"),
        ((200, {}, "<html>"), "does not answer as a chat completion"),
        ((200, {}, '{"choices": []}'), "does not answer as a chat completion"),
    ],
)
def test_endpoints_that_are_none(tmp_path: Path, answer: Any, message: str) -> None:
    """A wrong model or address is an error in plain words, and nothing is kept of it."""
    with serve(lambda _: answer) as server:
        ref = supervisor(tmp_path, server.url, concurrency=1)
        with pytest.raises(ModelError, match=message) as caught:
            predict(ref, ITEMS, LABELS)
        assert caught.value.remedy
        server.behaviour = plain
        predict(ref, ITEMS, LABELS)


def test_an_endpoint_that_is_not_there(tmp_path: Path) -> None:
    """Nobody at the address is an error that says what remains to be done."""
    ref = supervisor(tmp_path, "http://127.0.0.1:9/v1", retries=1)
    with pytest.raises(EndpointUnreachable, match="cannot be reached") as caught:
        predict(ref, ITEMS, LABELS)
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert "submitting again" in (caught.value.remedy or "")


def test_answers_for_the_tasks_classes(tmp_path: Path) -> None:
    """Answers for other classes than the task's are refused before anything is asked."""
    with serve(plain) as server:
        ref = supervisor(tmp_path, server.url, answers={"bad": "No", "safe": "Yes"})
        with pytest.raises(ModelError, match="task's classes are unsafe, safe"):
            predict(ref, ITEMS, LABELS)
        assert server.requests == []


def test_what_decides_the_answers_is_the_revision(tmp_path: Path) -> None:
    """Address, model, prompt and sampling are in the revision; key, patience and haste are not."""
    url = "http://127.0.0.1:1/v1"
    base = supervisor(tmp_path, url).revision
    same: dict[str, Any]
    other: dict[str, Any]
    for same in ({"concurrency": 9}, {"retries": 1}, {"timeout": 1.0}, {"key_env": "K"}, {"url": url + "/"}):
        assert supervisor(tmp_path, **({"url": url} | same)).revision == base
    for other in (
        {"url": "http://127.0.0.1:2/v1"},
        {"model": "judge-2"},
        {"prompt": "{text}"},
        {"system": "s"},
        {"answers": {"unsafe": "Bad", "safe": "Good"}},
        {"temperature": 0.5},
        {"max_tokens": 1},
        {"logprobs": True},
    ):
        assert supervisor(tmp_path, **({"url": url} | other)).revision != base


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"prompt": "no place"}, r"must have \{text\}"),
        ({"prompt": "{text} {other}"}, r"must have \{text\}"),
        ({"prompt": "{text"}, "brace"),
        ({"url": "ftp://x"}, "not an http or https address"),
        ({"url": "http://user:pw@host/v1"}, "would be recorded"),
        ({"url": "http://host/v1?key=1"}, "would be recorded"),
        ({"answers": {"a": "Yes", "b": "yes "}}, "a word of its own"),
        ({"key_env": "A", "key_file": "b"}, "not both"),
    ],
)
def test_wrong_manifests(source: dict[str, Any], message: str) -> None:
    """What would ask nothing, or record a key, is refused."""
    endpoint = {"url": "http://h/v1", "model": "m", "prompt": "{text}", "answers": {"a": "A", "b": "B"}, **source}
    with pytest.raises(ValueError, match=message):
        ModelManifest.model_validate({"name": "m", "summary": "s", "source": {"endpoint": endpoint}})


def test_the_server_of_these_tests(tmp_path: Path) -> None:
    """The server answers only where chat completions are."""
    with serve(plain) as server:
        assert isinstance(server, Endpoint)
        with pytest.raises(ModelError, match="no such path"):
            predict(supervisor(tmp_path, server.url + "/v2"), ITEMS, LABELS)
