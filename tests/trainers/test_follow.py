"""What the learner reads: news that cannot be read, and the order in which a backlog is taken."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer
from structlog.testing import capture_logs

from schemas.codec import encode
from schemas.connections import Connections
from schemas.posteriors import SnapshotPointer
from schemas.topics import EXAMPLES, SNAPSHOTS, VERDICTS, WEIGHTS
from schemas.weights import RewardWeights
from tests.trainers import policy_toys
from tests.trainers.learner_toys import view
from trainers.follow import Feed

pytestmark = pytest.mark.services


def open_feed(connections: Connections) -> Feed:
    """From the beginning; nothing of what these tests send goes to quarantine."""
    return Feed(connections, {}, "cb1", policy_toys.SIZES, pytest.fail, lambda _: None)


def test_news_that_cannot_be_read_change_nothing(fresh_topics: Connections) -> None:
    """Each start reads these topics from their beginning: a record that ended the learner would end it for ever."""
    pointer = SnapshotPointer(3, 1, "snapshots/3", "0" * 64, 0, 5)
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    producer.send(WEIGHTS.name, key=b"global", value=encode(RewardWeights(version=2, click=3)), partition=0)
    producer.send(SNAPSHOTS.name, key=b"3", value=encode(pointer), partition=0)
    for topic in (WEIGHTS, SNAPSHOTS, VERDICTS):
        for raw in (b"{broken", None):
            producer.send(topic.name, key=b"x", value=raw, partition=0)
    producer.flush()
    producer.close()
    feed = open_feed(fresh_topics)
    try:
        with capture_logs() as lines:
            feed.catch_up()
        assert (feed.weights.version, feed.weights.click, feed.snapshot) == (2, 3, pointer)
    finally:
        feed.close()
    refused = [(line["topic"], line["offset"]) for line in lines if line["event"].startswith("refused")]
    assert sorted(refused) == sorted([(WEIGHTS.name, 1), (SNAPSHOTS.name, 1), (VERDICTS.name, 0)])


def test_a_backlog_is_taken_in_the_order_of_its_pages(fresh_topics: Connections) -> None:
    """Ten pages by turns over two partitions, the second partition's sent first; revisions of a page stay in their order."""
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    for partition in (1, 0):
        for number in range(partition, 10, 2):
            producer.send(EXAMPLES.name, value=encode(view(number)), partition=partition)
            producer.send(EXAMPLES.name, value=encode(view(number, 2, ordered=[1])), partition=partition)
        producer.flush()
    producer.close()
    feed = open_feed(fresh_topics)
    try:
        taken = feed.take({0: 10, 1: 10})
    finally:
        feed.close()
    examples = [arrival.example for arrival in taken]
    assert [(e.request_id, e.revision) for e in examples if e] == [(f"r{n}", r) for n in range(10) for r in (1, 2)]
