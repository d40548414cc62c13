"""A chunk that gets lost between the broker and the state is fetched again, with all that came behind it; what the broker itself
has lost is told."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.services.ports import free_port
from schemas.connections import Connections
from schemas.topics import CLICKS, INPUTS
from streams.accounting import accounted, records, totals
from streams.runtime.log import LogReader
from tests.streams.conftest import Worker, caught_up, feeder
from tests.streams.event_log import event_log
from tests.streams.scraping import scrape


@pytest.mark.services
def test_a_lost_chunk_is_sought_once_whatever_waits_behind_it(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """Chunks of at most 100 records pile up behind the lost one: all of them begin beyond it, and one seek brings it back.
    Every record is counted, once."""
    with feeder(fresh_topics) as send:
        for topic, partition, raw in event_log(3, 1_500):
            send(topic, partition, raw)
    port = free_port()
    worker(script="losing_worker.py", METRICS_PORT=str(port))
    caught_up(fresh_topics)
    assert accounted(totals(fresh_topics)["attribution"]) == records(fresh_topics, tuple(t.name for t in INPUTS))
    assert sum(value for (name, *_), value in scrape(port).items() if name == "headrace_gaps_total") == 1


@pytest.mark.services
def test_a_worker_whose_next_records_were_deleted_ends_and_names_them(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """It is paused while clicks come and go by retention: nothing of that may be passed over in silence."""
    with feeder(fresh_topics) as send:
        for topic, partition, raw in event_log(3, 100):
            send(topic, partition, raw)
    one = worker()
    caught_up(fresh_topics)
    one.process.send_signal(signal.SIGSTOP)
    for _ in range(2):  # what a fetch brings that was under way is taken
        with feeder(fresh_topics) as send:
            send(CLICKS.name, 0, b"{}")
        delete(fresh_topics, CLICKS.name, LogReader(fresh_topics, 20).bounds(CLICKS.name, 0)[1])
    one.process.send_signal(signal.SIGCONT)
    assert one.process.wait(60) == 1, one.log.read_text()[-3_000:]
    assert f"{CLICKS.name}/0 failed its check (offset" in one.log.read_text()


def delete(connections: Connections, topic: str, offset: int) -> None:
    """As retention does: all that is below ``offset`` in partition 0."""
    admin = AdminClient({"bootstrap.servers": connections.kafka})
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, offset)]).values()
    deleted.result(60)
