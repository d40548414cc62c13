"""What the learner reads: news that cannot be read, and the order in which a backlog is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing

import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError
from structlog.testing import capture_logs

from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Corrupt, Unavailable
from schemas.posteriors import SnapshotPointer
from schemas.topics import EXAMPLES, SNAPSHOTS, VERDICTS, WEIGHTS
from schemas.weights import RewardWeights
from tests.trainers import policy_toys
from tests.trainers.learner_toys import view
from trainers.follow import Feed
from trainers.patience import Patience

pytestmark = pytest.mark.services


def open_feed(connections: Connections, offsets: Mapping[int, int] | None = None) -> Feed:
    """From the beginning, if not from ``offsets``; nothing of what these tests send goes to quarantine."""
    return Feed(connections, offsets or {}, "cb1", policy_toys.SIZES, pytest.fail, lambda _: None)


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


@pytest.mark.parametrize("call", ["partitions_for_topic", "beginning_offsets", "end_offsets", "position", "poll"])
def test_a_broker_that_stops_answering_is_told_by_name(
    fresh_topics: Connections, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """At whatever call, from the start to the end of the news; what was opened is closed."""

    def silent(*_: object, **__: object) -> None:
        raise KafkaTimeoutError("no answer")

    closed = list[KafkaConsumer]()
    close = KafkaConsumer.close
    with monkeypatch.context() as patched:
        patched.setattr(KafkaConsumer, call, silent)
        patched.setattr(KafkaConsumer, "close", lambda consumer: (closed.append(consumer), close(consumer)))
        with pytest.raises(Unavailable, match="no answer"), closing(open_feed(fresh_topics)) as feed:
            feed.catch_up()
            feed.poll(0.0)
    assert len(closed) == 1


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


def test_examples_that_are_gone_are_not_passed_over(fresh_topics: Connections) -> None:
    """Five, of which the first three were deleted since: who was at 1 or 2 would miss some, who was at 7 was at another topic. At 3 to 5
    nothing is lost, and who has read nothing begins with what there is."""
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    for number in range(5):
        producer.send(EXAMPLES.name, value=encode(view(number)), partition=1)
    producer.close()
    admin = KafkaAdminClient(bootstrap_servers=fresh_topics.kafka)
    admin.delete_records({TopicPartition(EXAMPLES.name, 1): 3})
    admin.close()
    for at in (1, 2, 7):
        with pytest.raises(Corrupt, match=rf"training\.examples, partition 1.*offset {at} comes next, and 3 to 5 are there"):
            open_feed(fresh_topics, {1: at})
    for at in (0, 3, 5):
        feed = open_feed(fresh_topics, {1: at})
        try:
            assert [one.offset for one in feed.take({1: 5})] == list(range(max(at, 3), 5))
        finally:
            feed.close()


def test_what_waits_is_counted_while_nothing_is_read(fresh_topics: Connections) -> None:
    """Five are held and five are the bound, as while training stands still; ten more come."""
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    feed = open_feed(fresh_topics)
    try:
        for first, end in ((0, 5), (5, 15)):
            for number in range(first, end):
                producer.send(EXAMPLES.name, value=encode(view(number)), partition=1)
            producer.flush()
            while len(feed.waiting) < 5:
                feed.poll(0.1, bound=5)
        for _ in range(5):
            feed.poll(0.1, bound=5)
        assert (len(feed.waiting), feed.lag()) == (5, 15)
    finally:
        feed.close()
        producer.close()


def test_marks_of_transactions_do_not_wait(fresh_topics: Connections, unique: Callable[[str], str]) -> None:
    """Three transactions of two records, one of them undone, over two partitions: four records wait, and then none."""
    producer = Producer({"bootstrap.servers": fresh_topics.kafka, "transactional.id": unique("examples"), "log_level": 2})
    producer.init_transactions(60)
    for number, end in enumerate((producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)):
        producer.begin_transaction()
        for partition in (0, 1):
            producer.produce(EXAMPLES.name, encode(view(2 * number + partition)), b"u", partition=partition)
        assert producer.flush(60) == 0  # what was not sent leaves no mark
        end(60)
    with closing(open_feed(fresh_topics)) as feed:
        patience = Patience()
        while (len(feed.waiting), feed.lag()) != (4, 4):
            feed.poll(0.1)
            assert not patience.over(0)
        feed.take({arrival.partition: arrival.offset + 1 for arrival in feed.waiting})
        assert feed.lag() == 0
