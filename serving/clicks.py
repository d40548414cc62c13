"""Follows clicks and orders and writes them into the users' histories.

The group's offsets are committed after the write, so each is written at least once; writing it again is harmless. A
first start begins at the end of the topic: the past is the stream's business, not the prompt's.
"""

from __future__ import annotations

import threading
from typing import Any

import structlog
from kafka import KafkaConsumer
from kafka.errors import KafkaError, UnknownTopicOrPartitionError

from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import InvalidEvent, Unavailable
from schemas.events import Click, Order
from schemas.quiet import Quiet
from schemas.topics import CLICKS, ORDERS
from serving.history import HistoryWriter
from serving.kafka_reader import RETRY_S, read
from serving.metrics import Metrics
from serving.settings import ServingSettings

log = structlog.get_logger()

TOPICS = {topic.name: topic for topic in (CLICKS, ORDERS)}


class ClickFollower:
    """Runs in a thread of its own: call `run` there, set ``stop`` to end it."""

    def __init__(self, connections: Connections, settings: ServingSettings, metrics: Metrics, stop: threading.Event) -> None:
        self._connections, self._settings = connections, settings
        self._metrics, self._stop = metrics, stop
        self._writer = HistoryWriter(connections, settings)
        self._quiet = Quiet()
        self.joined = threading.Event()  #: it has its partitions, and their positions are kept

    def run(self) -> None:
        """Until ``stop``; Kafka or Redis away only delays it."""
        try:
            options = {
                "group_id": self._settings.click_group,
                "auto_offset_reset": "latest",
                "metadata_max_age_ms": 10_000,  # new partitions are taken within that time
            }
            for consumer, records in read(self._connections, self._begin, self._stop, self._settings.poll_s, **options):
                events = [event for record in records if (event := self._event(record)) is not None]
                if events and not self._write(events):
                    return
                clicks = sum(isinstance(event, Click) for event in events)
                self._metrics.clicks.inc(clicks)
                self._metrics.orders.inc(len(events) - clicks)
                if records or not self.joined.is_set():
                    self._commit(consumer)
        finally:
            self._writer.close()

    @staticmethod
    def _begin(consumer: KafkaConsumer) -> None:
        # A member that joins before it knows the topic's partitions is assigned none, and stays without.
        for name in TOPICS:
            if not consumer.partitions_for_topic(name):
                raise UnknownTopicOrPartitionError(name)
        consumer.subscribe(list(TOPICS))

    def _event(self, record: Any) -> Click | Order | None:
        """The click or order, None for what else there is or cannot be read (the attribution quarantines that one)."""
        if record.value is None:
            return None
        try:
            event = decode(TOPICS[record.topic].kind, record.value)
        except InvalidEvent as error:
            self._metrics.unreadable.labels(error.reason).inc()
            if times := self._quiet.due(error.reason):
                place = f"{record.topic}/{record.partition}@{record.offset}"
                log.info("records passed over", reason=error.reason, times=times, last=place)
            return None
        return event if isinstance(event, Click | Order) else None

    def _write(self, events: list[Click | Order]) -> bool:
        """True when written; False when stopped before."""
        while not self._stop.is_set():
            try:
                self._writer.write(events)
            except Unavailable as error:
                log.warning("history waits for redis", error=str(error), events=len(events))
                self._stop.wait(RETRY_S)
            else:
                return True
        return False

    def _commit(self, consumer: KafkaConsumer) -> None:
        """Keep the positions. The first time too: a restart must not skip what came before the first event."""
        if not consumer.assignment():
            return
        try:
            for part in consumer.assignment():
                consumer.position(part)  # fixes "latest" to an offset
            consumer.commit()
        except KafkaError as error:
            log.warning("history positions not kept, they will be read again", error=f"{type(error).__name__} {error}")
            return
        self.joined.set()
