"""A chunk that gets lost between the broker and the state is fetched again, with all that came behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace.services.ports import free_port
from schemas.connections import Connections
from schemas.topics import INPUTS
from streams.accounting import accounted, records, totals
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
