"""A topic of weights that this user may not read is not taken for an empty one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation

from reward.desk.desk import Desk
from reward.desk.outbox import compare, publish
from schemas import log, tails
from schemas.connections import Connections
from schemas.database import open_database
from schemas.errors import Refused
from schemas.topics import WEIGHTS
from tests.denying import deny, denying_broker
from tests.reward.desk_toys import ANN

pytestmark = pytest.mark.services


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Connections]:
    """A broker that asks who may do what."""
    with denying_broker(tmp_path) as connections:
        yield connections


def test_a_topic_that_may_not_be_read_is_told_at_once_and_nothing_is_sent_again(broker: Connections) -> None:
    """Taken for empty, or for behind, it would get the newest book again, whatever another database wrote there."""
    engine = open_database(broker)
    Desk(engine).set({"order": 8}, ANN, "2")
    assert publish(engine, broker) == 1
    (end,) = (high for _, high in tails.ends(broker, WEIGHTS).values())
    deny(broker, WEIGHTS, AclOperation.READ)
    for reading in (lambda: compare(engine, broker), lambda: list(log.scan(broker, WEIGHTS))):
        began = time.monotonic()
        with pytest.raises(Refused, match=rf"topic {WEIGHTS.name} .*let this user read"):
            reading()
        assert time.monotonic() - began < tails.PATIENCE_S
    assert [high for _, high in tails.ends(broker, WEIGHTS).values()] == [end]
    engine.dispose()
