"""The Kafka sink: partitions as librdkafka chooses them, order kept, every record acknowledged and counted."""

from __future__ import annotations

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from headrace.shop.delivery import Delivery
from headrace.shop.driver import Driver
from headrace.shop.settings import DeliverySettings, ShopSettings
from headrace.shop.sink import KafkaSink, partition_of
from headrace.shop.world import ShopWorld
from schemas.errors import Unavailable
from schemas.topics import CLICKS, INPUTS

pytestmark = pytest.mark.services
NOW = 1_790_000_000_000


def test_keyed_records_land_where_librdkafkas_own_partitioner_puts_them(fresh_topics):
    keys = [f"u{n}".encode() for n in range(200)]
    placed: dict[bytes, int] = {}
    producer = Producer({"bootstrap.servers": fresh_topics.kafka, "partitioner": "murmur2_random"})
    for key in keys:
        producer.produce(CLICKS.name, key=key, value=b"x", on_delivery=lambda _, m: placed.update({m.key(): m.partition()}))
    producer.flush()
    count = KafkaSink(fresh_topics).partitions(CLICKS.name)
    assert count == fresh_topics.partitions
    assert placed == {key: partition_of(key, count) for key in keys}


def test_a_replayed_history_is_in_kafka_to_the_record_and_ticks_stand_behind_what_they_close(fresh_topics):
    shop = ShopSettings(seed=5, items=300, users=50, queries=40, history_impressions=300, live_requests=10)
    world, sink = ShopWorld(shop, NOW), KafkaSink(fresh_topics)
    settings = DeliverySettings()
    delivery = Delivery(sink, settings, seed=1)
    sids = dict.fromkeys(world.catalogue.items, (0, 0, 0, 0, 0))
    driver = Driver(world, delivery, settings, sids, "code1")
    driver.replay_history()
    driver.drain(NOW)
    for topic in INPUTS:
        records = _all_records(fresh_topics.kafka, topic.name)
        assert len(records) == sink.acked[topic.name] > 0
    clicks = _all_records(fresh_topics.kafka, CLICKS.name)
    late, maximum = 0, dict.fromkeys(range(fresh_topics.partitions), 0)
    for partition, value in clicks:
        try:
            body = msgspec.json.decode(value)
        except msgspec.DecodeError:
            continue
        if body["ts"] > NOW:  # the record of the future does not move the clock
            continue
        late += body["ts"] < maximum[partition] - settings.lateness_s * 1000
        maximum[partition] = max(maximum[partition], body["ts"])
    assert late <= delivery.sent["late"]
    assert set(maximum.values()) == {NOW}


def test_a_topic_that_is_not_there_is_an_error_that_says_what_to_do(fresh_topics, unique):
    with pytest.raises(Unavailable, match="headrace topics"):
        KafkaSink(fresh_topics).partitions(unique("nowhere"))


def _all_records(bootstrap: str, topic: str) -> list[tuple[int, bytes]]:
    """(partition, value) of everything in the topic, in the order of each partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    partitions = list(consumer.list_topics(topic).topics[topic].partitions)
    left = sum(consumer.get_watermark_offsets(TopicPartition(topic, p))[1] for p in partitions)
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    records: list[tuple[int, bytes]] = []
    while len(records) < left:
        for message in consumer.consume(500, timeout=0.2):
            assert message.error() is None
            records.append((message.partition(), message.value()))
    consumer.close()
    return records
