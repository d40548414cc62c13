"""Peer `quixstreams`: the easier join of `rules`, a user's state in RocksDB with its changelog, at least once.

The documented way to join more than two topics by hand: `concat`, which reads the topics in time order, and a stateful
`apply`. Records are decoded by msgspec and the state is kept as bytes, the fastest of what it offers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from quixstreams import Application
from quixstreams.context import message_context

from benchmarks.attribution_peers.host import Tell
from benchmarks.attribution_peers.rules import Clock, User, head, step
from benchmarks.attribution_peers.workload import TOPICS

_load = msgspec.msgpack.Decoder(User).decode
_dump = msgspec.msgpack.Encoder().encode


def run(job: dict[str, Any], tell: Tell) -> None:
    """``job``: kafka, name (of the group), out (topic), state (folder), records (that the topics hold)."""
    left = [job["records"]]

    def count(topic: str, partition: int, offset: int) -> None:
        if left[0] == job["records"]:
            tell("first")
        left[0] -= 1
        if left[0] == 0:
            app.stop()  # which commits: outputs, changelog and offsets are written

    app = Application(
        job["kafka"],
        consumer_group=job["name"],
        auto_offset_reset="earliest",
        max_partition_buffer_size=100_000,  # less pausing of topics that are ahead than with its 10,000
        state_dir=job["state"],
        on_message_processed=count,
        loglevel="WARNING",
    )
    clock = Clock()
    frames = [
        app.dataframe(app.topic(name, value_deserializer="bytes")).apply(_opener(clock, number), expand=True)
        for number, name in enumerate(TOPICS)
    ]
    joined = frames[0].concat(frames[1]).concat(frames[2]).apply(_join, stateful=True, expand=True)
    joined.to_topic(app.topic(job["out"], value_serializer="bytes"))
    app.run()
    tell("end")


def _opener(clock: Clock, topic: int) -> Callable[[bytes], list[tuple[int, int, bytes]]]:
    """The events of one topic with their time and the watermark; a tick moves the watermark and goes no further."""

    def open_record(raw: bytes) -> list[tuple[int, int, bytes]]:
        top = head(raw)
        watermark = clock.see(topic, message_context().partition, top.ts)
        return [] if top.type == "tick" else [(top.ts, watermark, raw)]

    return open_record


def _join(event: tuple[int, int, bytes], state: Any) -> list[bytes]:
    ts, watermark, raw = event
    kept = state.get_bytes("user")
    user = _load(kept) if kept is not None else User()
    out = step(user, ts, raw, watermark)
    state.set_bytes("user", _dump(user))
    return out
