"""Whatever a client sends, the server answers in its own words, and goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.making import item_rows, trial_id_of, whole_attempt
from tests.store.servers import asking_with, serving
from wtsbench.contract.operations import Renewal, RunReport
from wtsbench.contract.schemas import TABLES
from wtsbench.store import wire
from wtsbench.store.remote import RemoteEngine
from wtsbench.store.server.actions import ACTIONS
from wtsbench.store.server.messages import batch_messages, encoded, schema_message
from wtsbench.store.server.serving import Running
from wtsbench.store.server.transport import SERVICE

METHODS = ["DoGet", "DoPut", "DoAction", "GetFlightInfo", "ListFlights", "GetSchema", "DoExchange", "ListActions"]
NAMES = ["append", "archive", "attempt", "cells", "conditions", "data_digest", "form", "grid_digest", "name", "only"]
NAMES += ["op", "parameters", "protocol", "records", "request", "row", "rows", "run", "schema_version", "shard", "sql"]
NAMES += ["source", "table", "trial_id", "yaml", "labels", "task", "metric", "report", "look"]
WORDS = [
    *TABLES,
    "dataset",
    "SELECT 1",
    "SELECT * FROM trials",
    "seed = ?",
    "step IS NULL",
    trial_id_of("a"),
    "parquet",
]
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
QUESTION = st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=6).map(lambda asked: json.dumps(asked).encode())
BODY = st.binary(max_size=60) | QUESTION
ACTION = st.sampled_from([*sorted(ACTIONS.keys() - {"merge"}), "append", "none", ""])
TOLD = {
    "begin_attempt": {"trial_id": trial_id_of("a"), "run": "r", "request": "x", "host": "h", "lease": True},
    "renew": vars(Renewal(trial_id=trial_id_of("a"), attempt=1, share=0.5, lines=("x",))),
    "report_run": vars(RunReport(run="r", grid="g", cluster="c", yaml="name: g")),
    "cancel": {"run": "r", "trial_ids": [trial_id_of("a")]},
}
"""What supervisors tell, of which some values are changed."""
CHANGED = st.sampled_from(sorted(TOLD)).flatmap(
    lambda name: st.dictionaries(st.sampled_from(sorted(TOLD[name])), VALUE, max_size=2).map(
        lambda changed: flight.Action(
            name, json.dumps({**TOLD[name], "schema_version": 1, **changed}).encode()
        ).serialize()
    )
)
RECORDS = b"".join(map(wire.encode, whole_attempt(trial_id_of("a"), 1)))
ITEMS = item_rows("d", ["a"])
PIECES = next(iter(wire.pack(whole_attempt(trial_id_of("a"), 1))))
STREAM = st.sampled_from(
    [
        schema_message(wire.PIECES),
        schema_message(TABLES["items"]),
        schema_message(pa.schema([("x", pa.dictionary(pa.int8(), pa.string()))])),
        *batch_messages(PIECES),
        *batch_messages(ITEMS.to_batches()[0]),
    ]
)


def torn(content: bytes, place: int, byte: int) -> bytes:
    """A message with one byte changed, and cut off somewhere behind it."""
    start = place % max(1, len(content))
    return content[:start] + bytes([byte]) + content[start + 1 : start + 1 + place % 997]


def described(question: bytes, content: bytes) -> bytes:
    """The first message of what is put."""
    return encoded("FlightData", descriptor=flight.FlightDescriptor.for_command(question).serialize()) + content


PUT = st.tuples(QUESTION, st.lists(STREAM, min_size=1, max_size=4)).map(
    lambda put: [described(put[0], put[1][0]), *put[1][1:]]
)
SENT = (
    st.lists(st.binary(max_size=80), max_size=3)
    | PUT
    | BODY.map(lambda body: [flight.Ticket(body).serialize()])
    | BODY.map(lambda body: [flight.FlightDescriptor.for_command(body).serialize()])
    | st.tuples(ACTION, BODY).map(lambda asked: [flight.Action(*asked).serialize()])
    | CHANGED.map(lambda action: [action])
    | st.binary(max_size=40).map(lambda body: [flight.Action("append", RECORDS + body).serialize()])
)
BROKEN = st.tuples(SENT, st.integers(0, 10_000), st.integers(0, 255)).map(
    lambda found: [torn(message, found[1], found[2]) for message in found[0]]
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server for all examples."""
    with serving(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture(scope="module")
def token(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that may do everything but what only the folder's owner may."""
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(running.tokens.create(name="fuzz", scope="admin", valid=None)[1])
    return path


@settings(max_examples=200, deadline=None, database=None)
@given(method=st.sampled_from(METHODS), sent=SENT | BROKEN, known=st.booleans() | st.just(True))
def test_whatever_is_sent_is_answered_in_words(
    running: Running, token: Path, method: str, sent: list[bytes], known: bool
) -> None:
    """No ticket, descriptor, action or stream is more to the server than a request that it refuses."""
    headers = [("authorization", f"Bearer {token.read_text()}")] if known else []
    with grpc.insecure_channel(running.listen.removeprefix("grpc://")) as channel:
        call = channel.stream_stream(f"/{SERVICE}/{method}")(iter(sent), metadata=headers, timeout=30)
        try:
            list(call)
        except grpc.RpcError:
            details = dict(call.trailing_metadata())["grpc-status-details-bin"]
            told = json.loads(details)
            assert told["kind"] in ({"refused", "conflict", "busy", "held", "cancelled"} if known else {"denied"}), told
    with asking_with(token), RemoteEngine.open(running.listen) as engine:
        assert engine.hello["scope"] == "admin"
