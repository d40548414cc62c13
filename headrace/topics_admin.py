"""Creates the topics of the registry, and says where a broker's differ from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

from schemas.admission import probe_kafka
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.kafka_clients import open_client
from schemas.topics import TOPICS, Topic

#: Longest wait until a broker shows what its controller has decided (s).
SHOWN_S = 30.0


@dataclass(frozen=True)
class Found:
    """A topic as the broker has it; ``config`` holds the settings that the registry names."""

    name: str
    partitions: int
    config: dict[str, str]


def create_topics(connections: Connections, topics: Sequence[Topic] = TOPICS) -> list[str]:
    """Create missing topics, add missing partitions, correct settings; names of those that were touched. Repeatable.

    Returns when the broker shows them so. A topic that has more partitions than wanted is left as it is (Kafka cannot take
    partitions away): `differences` tells.

    Raises:
        Unavailable: the broker does not answer, refuses, or does not show them in time.
    """
    with _admin(connections) as admin:
        there = _describe(admin, topics)
        missing = [t for t in topics if t.name not in there]
        if missing:
            try:
                admin.create_topics(
                    {t.name: {"num_partitions": _partitions(t, connections), "configs": t.config()} for t in missing},
                    wait_for_metadata=True,
                )
            except TopicAlreadyExistsError:  # another process was quicker: look at what it made
                there = _describe(admin, topics)
        wrong = [t for t in topics if t.name in there and _correctable(t, there[t.name], connections)]
        few = {t.name: _partitions(t, connections) for t in wrong if there[t.name].partitions < _partitions(t, connections)}
        if few:
            admin.create_partitions(few)
        odd = [t for t in wrong if there[t.name].config != t.config()]
        if odd:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, t.name, t.config()) for t in odd])

        def left() -> list[str]:
            shown = _describe(admin, wrong)
            return [t.name for t in wrong if t.name not in shown or _correctable(t, shown[t.name], connections)]

        _wait_until_none(left, connections, "does not show as corrected")
        touched = {t.name for t in (*missing, *wrong)}
        return [t.name for t in topics if t.name in touched]


def describe(connections: Connections, topics: Sequence[Topic] = TOPICS) -> dict[str, Found]:
    """The registry's topics as the broker has them; those it lacks are left out.

    Raises:
        Unavailable: the broker does not answer.
    """
    with _admin(connections) as admin:
        return _describe(admin, topics)


def differences(connections: Connections, topics: Sequence[Topic] = TOPICS) -> dict[str, list[str]]:
    """For each topic that differs from the registry, sentences that say how; empty when all agree.

    Raises:
        Unavailable: the broker does not answer.
    """
    there = describe(connections, topics)
    found = {t.name: _compare(t, there[t.name], connections) if t.name in there else ["missing"] for t in topics}
    return {name: said for name, said in found.items() if said}


def delete_topics(connections: Connections, names: Sequence[str]) -> None:
    """Delete topics with all their records; returns when the broker lists them no more. Repeatable.

    Raises:
        Unavailable: the broker does not answer, refuses, or still lists them after `SHOWN_S`.
    """
    with _admin(connections) as admin:
        with suppress(UnknownTopicOrPartitionError):  # gone before, or by a first request that the client then repeated
            admin.delete_topics(list(names))
        _wait_until_none(lambda: sorted(set(names) & set(admin.list_topics())), connections, "still lists")


def _wait_until_none(left: Callable[[], list[str]], connections: Connections, what: str) -> None:
    """The controller has decided, but brokers learn of it a little later."""
    deadline = time.monotonic() + SHOWN_S
    while names := left():
        if time.monotonic() > deadline:
            raise Unavailable(f"Kafka at {connections.kafka}", f"{what} {names}", "look at the broker's log, then try again")
        time.sleep(0.02)


def _partitions(topic: Topic, connections: Connections) -> int:
    return topic.partitions or connections.partitions


def _correctable(topic: Topic, found: Found, connections: Connections) -> bool:
    """Whether it lacks partitions or has other settings."""
    return found.partitions < _partitions(topic, connections) or found.config != topic.config()


def _compare(topic: Topic, found: Found, connections: Connections) -> list[str]:
    said, want = [], _partitions(topic, connections)
    if found.partitions != want:
        said.append(f"{found.partitions} partitions, expected {want}")
    for key, value in topic.config().items():
        if found.config.get(key) != value:
            said.append(f"{key}={found.config.get(key)}, expected {value}")
    return said


def _describe(admin: KafkaAdminClient, topics: Sequence[Topic]) -> dict[str, Found]:
    present = set(admin.list_topics())
    names = [t.name for t in topics if t.name in present]
    if not names:
        return {}
    partitions = {d["name"]: len(d["partitions"]) for d in admin.describe_topics(names)}
    wanted = {t.name: dict.fromkeys(t.config(), "") for t in topics}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, wanted[name]) for name in names]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    return {
        name: Found(name, partitions[name], {key: str(configs[name][key]["value"]) for key in wanted[name]})
        for name in names
    }


@contextmanager
def _admin(connections: Connections) -> Iterator[KafkaAdminClient]:
    probe_kafka(connections)
    try:
        admin = open_client(KafkaAdminClient, connections, bootstrap_timeout_ms=10_000)
        try:
            yield admin
        finally:
            admin.close()
    except KafkaError as error:
        remedy = "check HEADRACE_KAFKA, and that the broker runs"
        raise Unavailable(f"Kafka at {connections.kafka}", f"{type(error).__name__}: {error}", remedy) from error
