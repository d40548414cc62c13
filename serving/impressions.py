"""The impression log: every page is in Kafka before it is answered, and every click before it is thanked for.

Keyed by user with Kafka's own murmur2, so that an impression lies in the partition of its clicks. The producer is
idempotent and waits for all replicas; a broker that is away keeps the answer waiting, and past the bound the request is
refused with the reason.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.clients import librdkafka
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.events import Click, Impression
from schemas.topics import CLICKS, IMPRESSIONS

REMEDY = "check the broker; ask again under the same X-Request-Id, it counts once"
#: A click has no id: the same click again, with its time, counts once.
CLICK_REMEDY = "check the broker, then send the click again"


class ImpressionLog:
    """A context manager around one producer and the thread that collects its reports."""

    def __init__(self, connections: Connections, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._producer = Producer(
            {
                **librdkafka(connections),
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 1,
                "message.timeout.ms": int(timeout_s * 1000),
                "socket.keepalive.enable": True,
                "reconnect.backoff.max.ms": 1_000,
                "allow.auto.create.topics": False,
            }
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._collect, name="impressions", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._producer.flush(5.0):
            self._producer.purge()  # their requests have been given up; without this, closing waits for the broker
        self._stop.set()
        self._thread.join(timeout=5.0)
        self._producer.close()

    async def write(self, impression: Impression) -> None:
        """Return when the broker has it.

        Raises:
            Unavailable: not confirmed within the bound; it may or may not be in the log, and nobody has seen the page.
        """
        await self._keep(IMPRESSIONS.name, impression, "impression", REMEDY)

    async def clicked(self, click: Click) -> None:
        """Return when the broker has it.

        Raises:
            Unavailable: not confirmed within the bound; it may or may not be in the log.
        """
        await self._keep(CLICKS.name, click, "click", CLICK_REMEDY)

    def post(self, topic: str, key: bytes, value: bytes, reported: Callable[[KafkaError | None, Message], None]) -> None:
        """Queue a record; ``reported`` is called in the producer's own thread when the broker has it, or never will.

        Raises:
            BufferError, KafkaException: the producer does not take it.
        """
        self._producer.produce(topic, key=key, value=value, on_delivery=reported)

    async def _keep(self, topic: str, event: Impression | Click, kind: str, remedy: str) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[KafkaError | None] = loop.create_future()

        def delivered(error: KafkaError | None, _: Message) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, done, error)

        try:
            self.post(topic, event.user.encode(), encode(event), delivered)
        except (BufferError, KafkaException) as error:
            raise Unavailable("Kafka", f"the {kind} cannot be queued: {error}", remedy) from error
        refusal = await done
        if refusal is not None:
            raise Unavailable("Kafka", f"the {kind} is not confirmed: {refusal.str()}", remedy)

    def ping(self, timeout_s: float = 2.0) -> None:
        """Ask the broker for the topic; blocks.

        Raises:
            Unavailable: no answer, or no such topic.
        """
        try:
            found = self._producer.list_topics(IMPRESSIONS.name, timeout=timeout_s).topics[IMPRESSIONS.name]
        except KafkaException as error:
            raise Unavailable("Kafka", str(error), "check that the broker is up and HEADRACE_KAFKA names it") from error
        if found.error is not None:
            raise Unavailable(
                f"topic {IMPRESSIONS.name}", found.error.str(), "create the topics with `headrace topics --create`"
            )

    def _collect(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(0.1)


def _resolve(done: asyncio.Future[KafkaError | None], error: KafkaError | None) -> None:
    if not done.done():  # the request may have been cancelled meanwhile
        done.set_result(error)
