"""The log of the items, as agents read it: on from where they were, and what they refuse of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka import KafkaProducer
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.events import ItemAdded
from schemas.topics import ITEMS
from streams.item_log import ItemLog
from tests.streams.conftest import feeder


@pytest.mark.services
def test_the_item_log_reads_on_from_where_it_was(fresh_topics: Connections) -> None:
    """Every record up to the topic's end; what cannot be read or is of another codebook is left out, counted and told once."""
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    item_log, wanted = ItemLog(fresh_topics, "test", "v", (10,)), []
    assert item_log() == []
    for n in range(3):
        wanted.append(ItemAdded(n, f"i{n}", "t", (n,), "v"))
        producer.send(ITEMS.name, value=encode(wanted[-1]), partition=0)
        producer.send(ITEMS.name, value=b"{broken", partition=0)
        producer.send(ITEMS.name, value=encode(ItemAdded(n, f"o{n}", "t", (n,), "other")), partition=0)
        producer.flush()
        with capture_logs() as lines:
            assert item_log(at_once=True) == wanted == item_log()
        (line,) = lines
        assert (line["event"], line["reader"], line["records"]) == ("item records refused", "test", 2)
        assert f"offset {3 * n + 2}: codebook of item o{n}" in line["first"][1]
    for reason in ("unreadable", "other_codebook"):
        labels = {"reader": "test", "reason": reason}
        assert REGISTRY.get_sample_value("headrace_refused_item_records_total", labels) == 3
    seldom = ItemLog(fresh_topics, "test", "v", (10,), every_s=3_600)
    assert seldom() == wanted
    producer.send(ITEMS.name, value=encode(ItemAdded(9, "later", "t", (9,), "v")), partition=0)
    producer.close()
    assert seldom() == wanted and [record.item for record in item_log(at_once=True)][-1] == "later"


@pytest.mark.services
def test_threads_that_ask_together_all_get_every_record_once(fresh_topics: Connections) -> None:
    """Partitions recover side by side: the one that asks while another reads must not go on with what had been read before."""
    wanted = [ItemAdded(n, f"i{n}", "t", (n % 10,), "v") for n in range(2_000)]
    with feeder(fresh_topics) as send:
        for record in wanted:
            send(ITEMS.name, 0, encode(record))
    item_log = ItemLog(fresh_topics, "test", "v", (10,), every_s=3_600)
    with ThreadPoolExecutor(4) as threads:
        assert [records == wanted for records in threads.map(item_log, (False, False, True, True))] == [True] * 4
    assert item_log() == wanted


@pytest.mark.slow
def test_a_worker_that_asks_for_items_stands_still_for_seconds_at_most() -> None:
    """It hears no SIGTERM meanwhile."""
    began = time.monotonic()
    with pytest.raises(Unavailable):
        ItemLog(Connections(kafka="127.0.0.1:9"), "test", "v", (10,))()
    assert time.monotonic() - began < 15
