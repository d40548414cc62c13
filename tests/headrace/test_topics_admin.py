"""Topics come out as the registry says, however often one asks."""

from __future__ import annotations

from collections.abc import Callable

from kafka import KafkaAdminClient

from headrace.topics_admin import create_topics, describe, differences
from schemas.connections import Connections
from schemas.topics import TOPICS, Topic


def test_fresh_topics_agree_with_the_registry(fresh_topics: Connections) -> None:
    """After creation nothing differs, and asking again touches nothing."""
    assert differences(fresh_topics) == {}
    assert create_topics(fresh_topics) == []
    found = describe(fresh_topics)
    assert set(found) == {t.name for t in TOPICS}
    assert found["search.views"].partitions == 2
    assert found["rewards.weights"].partitions == 1
    weights, clicks = found["rewards.weights"].config, found["search.clicks"].config
    assert weights == {"cleanup.policy": "compact", "retention.ms": "-1", "message.timestamp.type": "CreateTime"}
    commits = found["headrace.commits"].config  # `headrace status` reads it from its beginning
    assert (commits["segment.bytes"], commits["min.cleanable.dirty.ratio"]) == ("16777216", "0.1")
    fortnight = str(14 * 86_400 * 1000)
    assert clicks == {"cleanup.policy": "delete", "retention.ms": fortnight, "message.timestamp.type": "LogAppendTime"}


def test_a_missing_topic_is_told_and_made(connections: Connections, unique: Callable[[str], str]) -> None:
    """Only what is missing is made."""
    topics = [Topic(unique("a"), "k", None), Topic(unique("b"), "k", None, 1)]
    assert differences(connections, topics) == {topics[0].name: ["missing"], topics[1].name: ["missing"]}
    assert create_topics(connections, topics[:1]) == [topics[0].name]
    assert create_topics(connections, topics) == [topics[1].name]
    assert differences(connections, topics) == {}


def test_wrong_settings_are_told_and_corrected(connections: Connections, unique: Callable[[str], str]) -> None:
    """A topic that somebody made with one partition and another retention is repaired in place."""
    topic = Topic(unique("odd"), "k", None, retention_s=3600)
    admin = KafkaAdminClient(bootstrap_servers=connections.kafka)
    admin.create_topics({topic.name: {"num_partitions": 1, "configs": {"retention.ms": "5000"}}}, wait_for_metadata=True)
    admin.close()
    assert differences(connections, [topic]) == {
        topic.name: ["1 partitions, expected 2", "retention.ms=5000, expected 3600000"]
    }
    assert create_topics(connections, [topic]) == [topic.name]
    assert differences(connections, [topic]) == {}


def test_more_partitions_than_wanted_stay_and_are_told(connections: Connections, unique: Callable[[str], str]) -> None:
    """Kafka cannot take partitions away; the difference is reported, nothing is pretended."""
    name = unique("wide")
    create_topics(connections, [Topic(name, "k", None, 3)])
    narrow = [Topic(name, "k", None, 2)]
    assert create_topics(connections, narrow) == []
    assert differences(connections, narrow) == {name: ["3 partitions, expected 2"]}
