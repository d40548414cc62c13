"""What a server does between loading and its first answer, and what it shows of topics that it has read in part."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from reward.counts import Counts
from reward.settings import PosteriorSettings, RewardSettings
from reward.snapshot import PosteriorSnapshot
from schemas.checkpoints import Promotion
from schemas.codec import encode
from schemas.connections import Connections
from schemas.events import ItemAdded
from schemas.posteriors import SnapshotPointer
from schemas.topics import ITEMS, PROMOTED, SNAPSHOTS, WEIGHTS
from schemas.weights import RewardWeights
from serving.metrics import Metrics
from serving.reload import Reloader, Served
from serving.settings import ServingSettings

pytestmark = pytest.mark.services


def send(connections: Connections, news: Mapping[str, Sequence[Any]]) -> None:
    """Records of topics, in the order given."""
    producer = KafkaProducer(bootstrap_servers=connections.kafka, acks="all")
    for topic, records in news.items():
        for record in records:
            producer.send(topic, value=encode(record), key=b"k", partition=0)
    producer.flush(timeout=20)
    producer.close()


class Watched(Reloader):
    """Keeps every state that it shows, in order."""

    def __init__(self, connections: Connections, prepared: Any, stop: threading.Event) -> None:
        self.shown: list[Served] = []
        super().__init__(
            connections, prepared.store, prepared.artefacts, ServingSettings(poll_s=0.05), RewardSettings(), Metrics(), stop
        )

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "served" and value is not None:
            self.shown.append(value)


@contextmanager
def running(reloader: Reloader, stop: threading.Event) -> Iterator[None]:
    """It runs, and shows something."""
    thread = threading.Thread(target=reloader.run)
    thread.start()
    try:
        until = time.monotonic() + 60
        while reloader.served is None and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def following(connections: Connections, prepared: Any) -> Iterator[tuple[Watched, list[Served]]]:
    """A reloader that shows something, and all that it has shown."""
    stop = threading.Event()
    reloader = Watched(connections, prepared, stop)
    with running(reloader, stop):
        yield reloader, reloader.shown


def test_it_is_told_that_all_is_loaded_before_anyone_is_answered(fresh_topics: Connections, prepared: Any) -> None:
    stop, seen = threading.Event(), list[Served | None]()
    reloader = Reloader(
        fresh_topics, prepared.store, prepared.artefacts, ServingSettings(poll_s=0.05), RewardSettings(), Metrics(), stop,
        lambda: seen.append(reloader.served),
    )  # fmt: skip
    with running(reloader, stop):
        pass
    assert reloader.served is not None
    assert seen == [None]


def test_the_first_state_that_is_shown_has_all_the_news(fresh_topics: Connections, prepared: Any, shop: Any) -> None:
    """An item that was removed before the start is on no page, and no page is ordered by weights that were replaced."""
    item = shop.world.catalogue.items[0]
    gone = ItemAdded(shop.world.live_ms, item, "gone", (), shop.identifiers.version)
    send(fresh_topics, {ITEMS.name: [gone], WEIGHTS.name: [RewardWeights(version=7, ctr=3)]})
    with following(fresh_topics, prepared) as (_, shown):
        assert shown
    first = shown[0]
    assert (first.engine.shelf.sid_of(item), first.ordering.book.version) == (None, 7)


def test_a_start_takes_the_newest_snapshot_that_can_be_read(fresh_topics: Connections, prepared: Any) -> None:
    """The file of the newest is not there: the one before it is in force, and not the prior."""
    data = PosteriorSnapshot.build(Counts(), 77, PosteriorSettings())
    prepared.store.write("posteriors/whole.bin", data)
    whole = SnapshotPointer(1, 77, "posteriors/whole.bin", PosteriorSnapshot(data).sha256, 0, 0)
    send(fresh_topics, {SNAPSHOTS.name: [whole, SnapshotPointer(2, 78, "posteriors/gone.bin", "0" * 64, 0, 0)]})
    with following(fresh_topics, prepared) as (_, shown):
        assert [state.snapshot_version for state in shown[:1]] == [1]


def test_after_a_broken_connection_nothing_older_is_shown(
    fresh_topics: Connections, prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The topics are read from their beginning again. Of 600 promotions a poll brings 500: the last of those is not the newest."""
    broken, polled = threading.Event(), KafkaConsumer.poll

    def poll(consumer: KafkaConsumer, *args: Any, **options: Any) -> Any:
        if broken.is_set():
            broken.clear()
            raise KafkaError("the connection broke")
        return polled(consumer, *args, **options)

    monkeypatch.setattr(KafkaConsumer, "poll", poll)
    before, newest = (
        Promotion(manifest.checkpoint, manifest.step, f"checkpoints/{manifest.checkpoint}", 0, "test")
        for manifest in prepared.promoted
    )
    send(fresh_topics, {PROMOTED.name: [before] * 600 + [newest]})
    with following(fresh_topics, prepared) as (reloader, shown):
        broken.set()
        last = RewardWeights(version=8)
        until = time.monotonic() + 60
        while broken.is_set() and time.monotonic() < until:
            time.sleep(0.01)
        send(fresh_topics, {WEIGHTS.name: [last]})
        while shown[-1].ordering.book.version != 8 and time.monotonic() < until:
            time.sleep(0.01)
        assert reloader.served is not None and reloader.served.ordering.book == last
    assert {state.engine.checkpoint for state in shown} == {newest.checkpoint}


def test_what_is_loaded_is_no_longer_looked_through() -> None:
    from serving.app import settle  # kafka-python's import warns; by now pytest knows that it may

    held = [[n] for n in range(1_000)]
    try:
        settle()
        looked_at = {id(found) for found in gc.get_objects()}
        assert not any(id(one) in looked_at for one in held)
    finally:
        gc.unfreeze()
