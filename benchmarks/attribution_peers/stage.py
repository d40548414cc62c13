"""The broker of a run, the log in its topics, and what the systems wrote."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.attribution_peers.workload import TOPICS, Delivered
from headrace.services.kafka import kafka_child
from headrace.services.lock import hold
from headrace.supervisor import Supervisor
from headrace.topics_admin import create_topics, delete_topics
from schemas.connections import Connections
from schemas.errors import ServiceFailed
from schemas.topics import INPUTS, VIEWS
from streams.accounting import standing
from streams.runtime.log import LogReader

#: Longest wait for a worker to catch up (s).
PATIENCE_S = 600.0


class Written(msgspec.Struct):
    """Of an emitted view, what is counted. A peer's may lack the revision and what was new in it."""

    type: str = "view"
    request_id: str = ""
    status: str = ""
    ts: int = 0
    emitted_at: int = 0
    items: list[dict[str, object]] = []


@dataclass(frozen=True)
class Tally:
    """What a system wrote: provisional views, each request once, with the clicks and orders joined to them; all records."""

    views: int
    clicks: int
    orders: int
    records: int


class Stage:
    """One broker; topics keep what they hold until `empty`."""

    def __init__(self, folder: Path, connections: Connections) -> None:
        self.folder, self.connections = folder, connections
        self._reader = LogReader(connections, 60)

    def fill(self, log: Sequence[Delivered], topics: Sequence[str] = TOPICS) -> None:
        """Produce the log into these topics, each record with its own time."""
        producer = Producer(
            {"bootstrap.servers": self.connections.kafka, "linger.ms": 50, "queue.buffering.max.messages": 500_000}
        )
        failed: list[str] = []
        for record in log:
            while True:
                try:
                    producer.produce(
                        topics[record.topic], record.value, record.key, record.partition, timestamp=record.timestamp,
                        on_delivery=lambda error, _: failed.append(str(error)) if error is not None else None,
                    )  # fmt: skip
                    break
                except BufferError:
                    producer.poll(0.1)
        if producer.flush(120) or failed:
            raise ServiceFailed("kafka", f"the log was not delivered: {failed[:1]}", str(self.folder / "logs" / "kafka.log"))

    def make(self, *topics: str) -> None:
        """New topics beside the product's."""
        admin = AdminClient({"bootstrap.servers": self.connections.kafka, "log_level": 2})
        for made in admin.create_topics([NewTopic(name, self.connections.partitions, 1) for name in topics]).values():
            made.result(30)

    def empty(self) -> None:
        """The event topics and the views, made anew."""
        names = (*INPUTS, VIEWS)
        delete_topics(self.connections, [topic.name for topic in names])
        create_topics(self.connections, names)

    def ends(self, *topics: str) -> dict[tuple[str, int], int]:
        """End offset of each partition."""
        partitions = range(self.connections.partitions)
        return {(topic, p): self._reader.bounds(topic, p)[1] for topic in topics for p in partitions}

    def caught_up(self, agent: str) -> None:
        """Wait until that agent of ours has committed the ends of all its inputs.

        Raises:
            ServiceFailed: it has not after `PATIENCE_S`.
        """
        deadline = time.monotonic() + PATIENCE_S
        ends = self.ends(*TOPICS)
        while True:
            mine = [commit for commit in standing(self.connections) if commit.agent == agent]
            done = {(topic, commit.partition): n for commit in mine for topic, n in commit.next_offsets.items()}
            if all(done.get(place, 0) >= end for place, end in ends.items()):
                return
            if time.monotonic() > deadline:
                raise ServiceFailed(agent, f"not caught up: {done} of {ends}", str(self.folder))
            time.sleep(0.2)

    def tally(self, topic: str, since: dict[tuple[str, int], int]) -> Tally:
        """What was written to that topic from those ends on."""
        views: dict[str, Written] = {}
        records = 0
        decode = msgspec.json.Decoder(Written).decode
        for (name, partition), end in self.ends(topic).items():
            for batch in self._reader.read(name, partition, since.get((name, partition), 0), end):
                found = [decode(record.value) for record in batch]
                records += len(found)
                views |= {v.request_id: v for v in found if v.status == "provisional"}
        items = [item for view in views.values() for item in view.items]
        return Tally(len(views), _sum(items, "clicks"), _sum(items, "orders"), records)


def _sum(items: list[dict[str, object]], field: str) -> int:
    return sum(int(str(item.get(field, 0))) for item in items)


@contextmanager
def stage(partitions: int) -> Iterator[Stage]:
    """A broker of its own in a temporary folder, with the product's topics."""
    with TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        with hold(folder), Supervisor(folder) as supervisor:
            child, kafka = kafka_child(folder / "kafka", folder / "logs")
            supervisor.start(child)
            connections = Connections(kafka=kafka, store=str(folder / "store"), partitions=partitions)
            create_topics(connections)
            yield Stage(folder, connections)
