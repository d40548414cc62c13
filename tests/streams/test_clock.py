"""What ends the clock, and how soon: a right that it has not got, and a stop while no broker answers."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event, Thread

import pytest
from confluent_kafka.admin import AclOperation
from structlog.testing import capture_logs

from headrace.topics_admin import create_topics, delete_topics
from schemas.connections import Connections
from schemas.errors import Refused, Unavailable
from schemas.topics import CLICKS
from streams.producing import EventProducer
from streams.ticks import LEAVE_S, run_ticks
from tests.denying import deny, denying_broker
from tests.streams.test_network import Ends, ends  # noqa: F401 - a fixture

pytestmark = pytest.mark.services


def test_a_clock_that_may_not_write_a_topic_ends_and_says_so(tmp_path: Path) -> None:
    """Going on, it would warn once a second, and no view would ever close."""
    stop, raised = Event(), list[BaseException]()

    def run() -> None:
        try:
            run_ticks(connections, stop, 0.1)
        except Refused as error:
            raised.append(error)

    with denying_broker(tmp_path) as connections:
        deny(connections, CLICKS, AclOperation.WRITE)
        clock = Thread(target=run)
        clock.start()
        clock.join(30)
        stop.set()
        clock.join(30)
    assert [str(error).split(";")[1] for error in raised] == [" let this user write and describe it"]
    assert f"topic {CLICKS.name}" in str(raised[0])


@pytest.mark.slow
def test_a_topic_that_is_missing_is_named_with_what_to_do(fresh_topics: Connections) -> None:
    """Once it has stayed away for as long as a topic that is just made may."""
    delete_topics(fresh_topics, [CLICKS.name])
    try:
        told = pytest.raises(Unavailable, match=rf"topic {CLICKS.name} .*headrace topics --create")
        with told, EventProducer(fresh_topics) as producer:
            producer.send(CLICKS.name, b"{}", b"", 0)
    finally:
        create_topics(fresh_topics)


def test_a_clock_ends_soon_when_it_is_asked_to_while_no_broker_answers(ends: Ends) -> None:  # noqa: F811
    """And tells what was not sent."""
    create_topics(ends.direct)
    stop = Event()
    clock = Thread(target=run_ticks, args=(ends.by_cable, stop, 0.1))
    with capture_logs() as lines:
        clock.start()
        time.sleep(2)
        ends.cable.cut()
        time.sleep(1)
        began = time.monotonic()
        stop.set()
        clock.join(90)
        took = time.monotonic() - began
    ends.cable.mend()
    assert took < LEAVE_S + 20  # on a busy machine; a producer's own patience is a minute
    (line,) = [line for line in lines if line["event"] == "ticks given up, the clock ends"]
    assert "records not delivered" in line["error"]
