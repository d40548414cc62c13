"""What a broker says of a topic that waiting does not mend, in our words."""

from __future__ import annotations

from confluent_kafka import KafkaError

from schemas.errors import Refused, Unavailable

_DENIED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)
_NO_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


def final(topic: str, error: KafkaError, right: str) -> Unavailable | None:
    """The error to raise, None where the client may get over it by itself. ``right``: what we wanted to do with the topic."""
    if error.code() in _DENIED:
        return Refused(f"topic {topic}", error.str(), f"let this user {right} it")
    if error.code() in _NO_TOPIC:
        return Unavailable(f"topic {topic}", error.str(), "create the topics with `headrace topics --create`")
    return None
