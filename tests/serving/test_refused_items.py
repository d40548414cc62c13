"""A record of `catalogue.items` that the server cannot use costs it nothing but a count and a line in the log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from kafka import KafkaProducer
from structlog.testing import capture_logs

from schemas.codec import encode
from schemas.connections import Connections
from schemas.descriptions import Description
from schemas.events import ItemAdded
from schemas.topics import ITEMS
from serving.metrics import Metrics
from trainers.identifiers.life import Life

Serve = Callable[..., AbstractContextManager[Any]]
Shop = Any

pytestmark = pytest.mark.services


def refused(reader: str, reason: str) -> float:
    """Records of the catalogue that this process has refused so far."""
    return (
        Metrics().registry.get_sample_value("headrace_refused_item_records_total", {"reader": reader, "reason": reason})
        or 0.0
    )


def test_a_record_of_other_identifiers_is_refused_and_the_rest_of_the_topic_is_served(
    serve: Serve, shop: Shop, fresh_topics: Connections
) -> None:
    """Beside one that cannot be read and one whose identifier the codebook does not have: all are counted by their reason and named in one line, and what came with them is found."""
    ts, life = shop.world.end_ms, Life(shop.identifiers, shop.world.catalogue)
    good = life.put("good", Description("a purple aquarium"), shop.encoder.encode(["a purple aquarium"])[0], ts)
    foreign = ItemAdded(ts, "foreign", "a purple aquarium", (0,) * 5, "0ther")
    short = ItemAdded(ts, "short", "a purple aquarium", (1, 2), shop.identifiers.version)
    name = "headrace_refused_item_records_total"
    counted = {reason: refused("server", reason) for reason in ("other_codebook", "unreadable", "invalid")}
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    for raw in (encode(foreign), b"{broken", encode(short), encode(good)):
        producer.send(ITEMS.name, value=raw, partition=0)
    producer.close()
    with capture_logs() as lines, serve(fresh_topics) as server:
        server.wait_ready()
        params = {"q": "aquarium", "user": "ann", "items": "good,foreign,short", "ts": ts}
        answer = server.wait(lambda: server.search(**params), lambda r: bool(r.json()["items"])).json()
        said = server.http.get("/metrics").text
    assert [item["item"] for item in answer["items"]] == ["good"] and "2 of 3 items" in answer["notes"][0]
    for reason, before in counted.items():
        assert f'{name}{{reader="server",reason="{reason}"}} {before + 1}' in said
    (line,) = [line for line in lines if line["event"] == "item records refused"]
    assert (line["reader"], line["records"]) == ("server", 3) and "codebook of item foreign" in line["first"][0]
