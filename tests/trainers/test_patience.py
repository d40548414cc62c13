"""How long a start waits for what topics have: as long as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from kafka import KafkaProducer

from schemas.codec import encode
from schemas.connections import Connections
from schemas.events import ItemAdded
from schemas.journal import StepLeftOut
from schemas.topics import ITEMS, STEPS
from tests.trainers.test_follow import open_feed
from trainers import follow, journal, patience
from trainers.follow import Feed
from trainers.patience import Patience

RECORDS = 1_500  # more than one look brings


def slowly(take: Callable[..., object]) -> Callable[..., object]:
    """The same, for 0.6 ms longer."""

    def taking(*given: object) -> object:
        time.sleep(6e-4)
        return take(*given)

    return taking


def test_it_runs_out_in_silence_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 s a look: as long as each is further on than the one before it, any number; after two that are not, it is over."""
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    waiting = Patience()
    assert [waiting.over(at) for at in (0, 1, 2, 3, 3, 3)] == [False, False, False, False, False, True]


@pytest.mark.services
def test_a_long_topic_takes_its_time(fresh_topics: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journal and catalogue take a second to read, at half a second of patience with each look."""
    for module in (patience, journal, follow):
        monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    for number in range(RECORDS):
        producer.send(STEPS.name, value=encode(StepLeftOut(number, "test", 0)), partition=0)
        producer.send(ITEMS.name, value=encode(ItemAdded(1, f"i{number}", "thing", (), "cb1")), partition=0)
    producer.flush()
    producer.close()
    for place, name in ((journal, "_raw"), (Feed, "_follow")):
        monkeypatch.setattr(place, name, slowly(getattr(place, name)))
    assert len(journal.read_journal(fresh_topics)) == RECORDS
    for read in (Feed.catch_up, lambda feed: feed.changes(RECORDS)):
        feed = open_feed(fresh_topics)
        try:
            read(feed)
            assert feed.catalogue_offset == RECORDS
        finally:
            feed.close()
