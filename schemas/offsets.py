"""Where partitions begin and end, asked of whoever leads them now.

Not by the consumer's `get_watermark_offsets`: it ignores its timeout while the leader that it remembers is down (librdkafka
2535), so it would hang on a broker that was killed until it is back, though another one leads.
"""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.asking import ask
from schemas.connections import Connections

Place = tuple[str, int]
Spans = dict[Place, tuple[int, int]]


def bounds(connections: Connections, places: Sequence[Place], patience_s: float) -> Spans:
    """Place (topic, partition) -> (first offset kept, end offset); the end counts records of open transactions too.

    Raises:
        Unavailable: no answer within ``patience_s``, or there is no such place.
    """

    def question(admin: AdminClient, seconds: float) -> Spans:
        first, end = (
            admin.list_offsets({TopicPartition(*place): spec for place in places}, request_timeout=seconds)
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        low = {(at.topic, at.partition): said.result().offset for at, said in first.items()}
        return {(at.topic, at.partition): (low[at.topic, at.partition], said.result().offset) for at, said in end.items()}

    return ask(connections, patience_s, question) if places else {}
