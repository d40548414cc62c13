"""The documents say what the codec takes, and AsyncAPI says what the registry does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from headrace import schema_files
from schemas.codec import decode, encode
from schemas.documents import topic_document
from schemas.errors import InvalidEvent
from schemas.events import Click, Impression, Order, ShownItem, Tick
from schemas.journal import StepIntent, StepResult
from schemas.posteriors import CountDelta, PosteriorDelta, SnapshotPointer
from schemas.quarantine import Quarantined, Replayed
from schemas.topics import CLICKS, DELTAS, IMPRESSIONS, ORDERS, QUARANTINE, STEPS, TOPICS, VIEWS, Topic
from schemas.versions import members
from schemas.views import View, ViewItem, ViewStatus
from schemas.weights import RewardWeights

ROOT = Path(__file__).parents[2]
MADE = schema_files.today()
ASYNC = MADE["asyncapi"]
POINTER = SnapshotPointer(1, 2, "p", "ff", 1, 1)

TAKEN = [
    (CLICKS, encode(Click(1, "u", "i"))),
    (CLICKS, encode(Tick(1))),
    (CLICKS, b'{"type":"click","ts":1,"user":"u","item":"i"}'),  # without a version: the first
    (CLICKS, b'{"type":"click","ts":1,"user":"u","item":"i","v":1,"new":[]}'),  # unknown fields are ignored
    (ORDERS, encode(Order(1, "u", "i", "o", 2.5))),
    (IMPRESSIONS, encode(Impression(1, "r", "u", "q", (ShownItem("i", 1, 0.5),), recent_items=("a",)))),
    (VIEWS, encode(View("r:final:2", "r", ViewStatus.FINAL, 2, 1, 2, "u", "q", (ViewItem("i", 1, 0.5),)))),
    (DELTAS, encode(PosteriorDelta(0, 1, (CountDelta("q", "i", 1, 2, 3, 4),)))),
    (STEPS, encode(StepIntent(1, {0: 5}, RewardWeights(), None, 0, 0, 0))),
    (STEPS, encode(StepIntent(1, {0: 5}, RewardWeights(), POINTER, 0, 0, 0))),
    (STEPS, encode(StepResult(1, 2, 3, 1, {"reward": 0.5}, 0))),
    (QUARANTINE, encode(Quarantined("a", "t", 0, 1, "late", "", b"\xff", 1, 0))),
    (QUARANTINE, encode(Replayed(7, 8))),
]
REFUSED = [
    (CLICKS, b'{"type":"click","user":"u","item":"i"}'),  # a field is missing
    (CLICKS, b'{"type":"click","ts":-1,"user":"u","item":"i"}'),  # out of its bound
    (CLICKS, b'{"type":"click","ts":"1","user":"u","item":"i"}'),  # of a wrong type
    (CLICKS, b'{"type":"order","ts":1,"user":"u","item":"i","order_id":"o"}'),  # of another topic
    (CLICKS, b'{"type":"click","ts":1,"user":"u","item":"i","v":2}'),  # of another version
    (IMPRESSIONS, b'{"type":"impression","ts":1,"request_id":"r","user":"u","query":"q","items":[]}'),
    (VIEWS, encode(View("r:final:2", "r", ViewStatus.FINAL, 2, 1, 2, "u", "q", ())).replace(b"final", b"finished")),
    (DELTAS, b'{"type":"posterior_delta","source":0,"stamp":1,"deltas":[["q","i",1,2,3]]}'),  # too short a row
    (STEPS, b"[]"),
]


def takes(topic: Topic, raw: bytes) -> bool:
    try:
        decode(topic.kind, raw)
    except InvalidEvent:
        return False
    return True


@pytest.mark.parametrize(("topic", "raw", "taken"), [(*case, True) for case in TAKEN] + [(*case, False) for case in REFUSED])
def test_a_document_takes_what_the_codec_takes(topic: Topic, raw: bytes, taken: bool) -> None:
    """One record at a time, both asked."""
    assert takes(topic, raw) is taken
    assert Draft202012Validator(MADE[topic.name]).is_valid(msgspec.json.decode(raw)) is taken


@pytest.mark.parametrize("v", [2, 3])
def test_a_raised_version_is_in_the_document(v: int) -> None:
    """Version 2 is read with 1 and with none; version 3 with 2 alone, so that `v` is required."""
    kind: Any = msgspec.defstruct("R", [("f", int), ("v", int, v)], tag_field="type", tag="r")
    topic = Topic("t", "user", kind)
    validator = Draft202012Validator(topic_document(topic))
    for said in ("", ',"v":0', ',"v":1', ',"v":2', ',"v":3', ',"v":4'):
        raw = f'{{"type":"r","f":1{said}}}'.encode()
        assert validator.is_valid(msgspec.json.decode(raw)) is takes(topic, raw), raw


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_document_is_a_json_schema(topic: Topic) -> None:
    """Of the dialect that it names, under the topic's name, and with every reference inside it."""
    Draft202012Validator.check_schema(MADE[topic.name])
    assert (MADE[topic.name]["$schema"], MADE[topic.name]["title"]) == (Draft202012Validator.META_SCHEMA["$id"], topic.name)
    assert all(resolve(MADE[topic.name], reference) for reference in references(MADE[topic.name]))


def references(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        if isinstance(document.get("$ref"), str):
            yield document["$ref"]
        for inner in document.values():
            yield from references(inner)
    elif isinstance(document, list):
        for inner in document:
            yield from references(inner)


def resolve(document: Any, reference: str) -> Any:
    assert reference.startswith("#/"), reference
    for key in reference[2:].split("/"):
        document = document[key]
    return document


def test_asyncapi_has_every_topic_as_the_registry_says() -> None:
    """Address, purpose, key, cleanup, retention, partitions where they are fixed, and a message for each record."""
    assert ASYNC["asyncapi"] == "3.0.0" and list(ASYNC["channels"]) == [topic.name for topic in TOPICS]
    for topic in TOPICS:
        channel = ASYNC["channels"][topic.name]
        kafka = channel["bindings"]["kafka"]
        config = kafka["topicConfiguration"]
        assert (channel["address"], channel["description"]) == (topic.name, topic.purpose)
        assert config["cleanup.policy"] == [topic.cleanup] and str(config["retention.ms"]) == topic.config()["retention.ms"]
        assert kafka.get("partitions") == topic.partitions
        assert [message["title"] for message in channel["messages"].values()] == [r.__name__ for r in members(topic.kind)]
        keys = {tag: m["bindings"]["kafka"]["key"]["description"] for tag, m in channel["messages"].items() if tag != "tick"}
        assert set(keys.values()) == {topic.key}
    assert all(resolve(ASYNC, reference) for reference in references(ASYNC))


def test_asyncapi_says_what_headrace_sends_and_receives() -> None:
    """It reads every record; orders and returns come from the shop alone, ticks go beside them."""
    told = {
        name: [reference.rpartition("/")[2] for reference in references(operation["messages"])]
        for name, operation in ASYNC["operations"].items()
    }
    assert told["receive.search.orders"] == ["order", "return", "tick"] and told["send.search.orders"] == ["tick"]
    assert told["receive.search.views"] == told["send.search.views"] == ["view", "tick"]
    assert set(told) == {f"{action}.{topic.name}" for topic in TOPICS for action in ("send", "receive")}


def test_asyncapi_keeps_to_draft_07() -> None:
    """Its schemas know neither `prefixItems` nor a discriminator with a mapping; a fixed order is `items`."""
    assert not re.search(rb'"(prefixItems|discriminator)"', msgspec.json.encode(ASYNC))
    row = ASYNC["components"]["schemas"]["CountDelta"]
    assert [place["title"] for place in row["items"]] == list(CountDelta.__struct_fields__)


def test_what_is_committed_is_what_the_code_says_and_breaks_no_released_record() -> None:
    """What `make lint` asks; `headrace schemas write` mends the first, `headrace schemas check` tells of the second."""
    assert schema_files.stale(ROOT / "docs" / "schemas", MADE) == []
    assert [str(one) for one in schema_files.since_release(ROOT / "schemas" / "released", MADE) if one.breaking] == []
