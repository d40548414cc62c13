"""A topic of weights that this user may not read is not taken for an empty one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType

from headrace.process import Process
from headrace.services.kafka import kafka_child
from headrace.topics_admin import create_topics
from reward.desk.desk import Desk
from reward.desk.outbox import compare, publish
from schemas import log, tails
from schemas.connections import Connections
from schemas.database import open_database
from schemas.errors import Refused
from schemas.topics import WEIGHTS
from tests.reward.desk_toys import ANN
from tests.secure_broker import started

pytestmark = pytest.mark.services

RIGHTS = {
    AclOperation.READ: AclPermissionType.DENY,
    AclOperation.WRITE: AclPermissionType.ALLOW,
    AclOperation.DESCRIBE: AclPermissionType.ALLOW,
}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Connections]:
    """A broker that asks who may do what."""
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    child, address = kafka_child(tmp_path / "kafka", tmp_path / "logs", settings)
    with started(Process(child, tmp_path, {})):
        connections = Connections(kafka=address, database=f"sqlite:///{tmp_path / 'headrace.db'}")
        create_topics(connections)
        yield connections


def deny_reading(connections: Connections) -> None:
    """Of the topic of weights; it may still be written and looked at."""
    where = ResourceType.TOPIC, WEIGHTS.name, ResourcePatternType.LITERAL
    rules = [AclBinding(*where, "User:ANONYMOUS", "*", operation, right) for operation, right in RIGHTS.items()]
    client = AdminClient({"bootstrap.servers": connections.kafka})
    for done in client.create_acls(rules).values():
        done.result(30)


def test_a_topic_that_may_not_be_read_is_told_at_once_and_nothing_is_sent_again(broker: Connections) -> None:
    """Taken for empty, or for behind, it would get the newest book again, whatever another database wrote there."""
    engine = open_database(broker)
    Desk(engine).set({"order": 8}, ANN, "2")
    assert publish(engine, broker) == 1
    (end,) = (high for _, high in tails.ends(broker, WEIGHTS).values())
    deny_reading(broker)
    for reading in (lambda: compare(engine, broker), lambda: list(log.scan(broker, WEIGHTS))):
        began = time.monotonic()
        with pytest.raises(Refused, match=rf"topic {WEIGHTS.name} .*let this user read"):
            reading()
        assert time.monotonic() - began < tails.PATIENCE_S
    assert [high for _, high in tails.ends(broker, WEIGHTS).values()] == [end]
    engine.dispose()
