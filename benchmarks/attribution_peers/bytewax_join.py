"""Peer `bytewax`: the easier join of `rules`, a user's state in memory, its Kafka connector, recovery on.

One source a topic, each with a batch size in proportion to its topic, so that they are read about in step. Snapshots go
to its SQLite recovery store at the end of every epoch, 10 s by default. There are no transactions to Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.attribution_peers.host import Tell
from benchmarks.attribution_peers.rules import Clock, User, head, step
from benchmarks.attribution_peers.workload import TOPICS

#: Records a poll of each topic: 1,000, the connector's default, and the others' share of the events.
BATCHES = (1_000, 500, 58)

Event = tuple[int, int, bytes]

_load = msgspec.msgpack.Decoder(User).decode
_dump = msgspec.msgpack.Encoder().encode


class Join(StatefulBatchLogic[Event, bytes, bytes]):
    """The state of one user; a snapshot is its bytes, since the state goes on changing."""

    def __init__(self, snapshot: bytes | None) -> None:
        self._user = User() if snapshot is None else _load(snapshot)

    def on_batch(self, values: list[Event]) -> tuple[Iterable[bytes], bool]:
        """All of a batch's events of this user."""
        out: list[bytes] = []
        for ts, watermark, raw in values:
            out += step(self._user, ts, raw, watermark)
        return out, StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        """The state for the recovery store."""
        return _dump(self._user)


def run(job: dict[str, Any], tell: Tell) -> None:
    """``job``: kafka, out (topic), state (folder). Reads to the ends of the topics, and ends."""
    recovery = Path(job["state"])
    recovery.mkdir(parents=True)
    init_db_dir(recovery, 1)
    cli_main(_flow(job["kafka"], job["out"], tell), recovery_config=RecoveryConfig(recovery))
    tell("end")


def _flow(kafka: str, out: str, tell: Tell) -> Dataflow:
    flow, clock, untold = Dataflow("attribution"), Clock(), [True]
    opened = []
    for number, (name, size) in enumerate(zip(TOPICS, BATCHES, strict=True)):
        source = op.input(f"read-{number}", flow, KafkaSource([kafka], [name], tail=False, batch_size=size))
        opened.append(op.flat_map_batch(f"open-{number}", source, _opener(clock, number, untold, tell)))
    views = op.stateful_batch("join", op.merge("merge", *opened), Join)
    messages = op.map("message", views, lambda view: KafkaSinkMessage(view[0].encode(), view[1]))
    op.output("write", messages, KafkaSink([kafka], out))
    return flow


def _opener(
    clock: Clock, topic: int, untold: list[bool], tell: Tell
) -> Callable[[list[KafkaSourceMessage[bytes, bytes]]], list[tuple[str, Event]]]:
    """A topic's events by user, with their time and the watermark; a tick moves the watermark and goes no further."""

    def open_records(messages: list[KafkaSourceMessage[bytes, bytes]]) -> list[tuple[str, Event]]:
        if untold:
            untold.clear()
            tell("first")
        found = []
        for message in messages:
            top = head(message.value)
            watermark = clock.see(topic, message.partition, top.ts)
            if message.key:
                found.append((message.key.decode(), (top.ts, watermark, message.value)))
        return found

    return open_records
