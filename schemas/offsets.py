"""Where partitions begin and end, asked of whoever leads them now.

Not by `get_watermark_offsets`: it ignores its timeout while the leader that it remembers is down (librdkafka 2535), so it would
hang on a broker that was killed until it is back, though another one leads. Nor by the administrator's `list_offsets`, which
now and then crashes the process when several threads call it (seen with confluent-kafka 2.16).
"""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

from schemas.asking import ask
from schemas.clients import librdkafka
from schemas.connections import Connections

Place = tuple[str, int]
Spans = dict[Place, tuple[int, int]]


def bounds(connections: Connections, places: Sequence[Place], patience_s: float, stable: bool = False) -> Spans:
    """Place (topic, partition) -> (first offset kept, end offset); the end counts records of open transactions too, or with
    ``stable`` it is where the first of them begins.

    Raises:
        Unavailable: no answer within ``patience_s``, or there is no such place.
    """

    def question(seconds: float) -> Spans:
        consumer = Consumer({
            **librdkafka(connections), "group.id": "headrace-bounds", "enable.auto.commit": False,
            "isolation.level": "read_committed" if stable else "read_uncommitted",
        })  # fmt: skip
        try:
            low, high = (_at(consumer, places, time, seconds) for time in (OFFSET_BEGINNING, OFFSET_END))
        finally:
            consumer.close()
        return {place: (low[place], high[place]) for place in places}

    return ask(connections, patience_s, question) if places else {}


def _at(consumer: Consumer, places: Sequence[Place], time: int, seconds: float) -> dict[Place, int]:
    """In place of a time (ms) the protocol takes -2 for the first offset and -1 for the end."""
    found = consumer.offsets_for_times([TopicPartition(*place, time) for place in places], timeout=seconds)
    for place in found:
        if place.error is not None:
            raise KafkaException(place.error)
    return {(place.topic, place.partition): int(place.offset) for place in found}
