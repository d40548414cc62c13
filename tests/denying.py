"""A broker that asks who may do what, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType

from headrace.process import Process
from headrace.services.kafka import kafka_child
from headrace.topics_admin import create_topics
from schemas.connections import Connections
from schemas.topics import Topic
from tests.secure_broker import started


@contextmanager
def denying_broker(folder: Path) -> Iterator[Connections]:
    """Everybody may do everything until `deny`; with all topics, and a database beside it."""
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    child, address = kafka_child(folder / "kafka", folder / "logs", settings)
    with started(Process(child, folder, {})):
        connections = Connections(kafka=address, database=f"sqlite:///{folder / 'headrace.db'}")
        create_topics(connections)
        yield connections


def deny(connections: Connections, topic: Topic, *denied: AclOperation) -> None:
    """Take these rights away; it may still be read, written and looked at otherwise."""
    where = ResourceType.TOPIC, topic.name, ResourcePatternType.LITERAL
    rights = dict.fromkeys((AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE), AclPermissionType.ALLOW)
    rights |= dict.fromkeys(denied, AclPermissionType.DENY)
    rules = [AclBinding(*where, "User:ANONYMOUS", "*", operation, right) for operation, right in rights.items()]
    client = AdminClient({"bootstrap.servers": connections.kafka})
    for done in client.create_acls(rules).values():
        done.result(30)
