"""The impression log: every page is in Kafka before it is answered.

Keyed by user with Kafka's own murmur2, so that an impression lies in the partition of its clicks. The producer is
idempotent and waits for all replicas; a broker that is away keeps the answer waiting, and past the bound the request is
refused with the reason.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.codec import encode
from schemas.errors import Unavailable
from schemas.events import Impression
from schemas.topics import IMPRESSIONS

log = structlog.get_logger()

REMEDY = "check the broker; ask again under the same X-Request-Id, it counts once"


class ImpressionLog:
    """A context manager around one producer and the thread that collects its reports."""

    def __init__(self, bootstrap: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 1,
                "message.timeout.ms": int(timeout_s * 1000),
                "socket.keepalive.enable": True,
                "reconnect.backoff.max.ms": 1_000,
                "allow.auto.create.topics": False,
                "log_level": 2,  # what fails comes through `_failed`, not to stderr
                "error_cb": _failed,
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
        loop = asyncio.get_running_loop()
        done: asyncio.Future[KafkaError | None] = loop.create_future()

        def delivered(error: KafkaError | None, _: Message) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, done, error)

        try:
            self._producer.produce(
                IMPRESSIONS.name, key=impression.user.encode(), value=encode(impression), on_delivery=delivered
            )
        except (BufferError, KafkaException) as error:
            raise Unavailable("Kafka", f"the impression cannot be queued: {error}", REMEDY) from error
        refusal = await done
        if refusal is not None:
            raise Unavailable("Kafka", f"the impression is not confirmed: {refusal.str()}", REMEDY)

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


def _failed(error: KafkaError) -> None:
    log.warning("kafka producer", error=error.str())


def _resolve(done: asyncio.Future[KafkaError | None], error: KafkaError | None) -> None:
    if not done.done():  # the request may have been cancelled meanwhile
        done.set_result(error)
