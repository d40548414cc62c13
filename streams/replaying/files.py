"""A log file, sent through the event topics with ticks of its own time.

Events stand one a line (`.jsonl`, `.jsonl.zst`) or one a row (`.parquet`), told apart by their ``type``, in time order give or
take the allowed lateness. Records go to the client in batches: a call for each would cost more than all the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from schemas.codec import MAX_RECORD_BYTES, UNREADABLE, encode
from schemas.connections import Connections
from schemas.errors import InvalidData
from schemas.events import Tick
from schemas.topics import CLICKS, IMPRESSIONS, INPUTS, ITEMS, ORDERS
from streams.producing import EventProducer
from streams.replaying.lines import Progress, blocks_of_lines, ignore

ROUTES = {
    "impression": IMPRESSIONS.name,
    "click": CLICKS.name,
    "order": ORDERS.name,
    "return": ORDERS.name,
    "item_added": ITEMS.name,
}

#: How far the last tick goes beyond the last event, at most to the present (ms): past the default windows' ends.
AFTER_MS = 5 * 86_400_000


class Head(msgspec.Struct):
    """What routing needs of an event."""

    type: str
    ts: int = 0
    user: str = ""
    item: str = ""


def replay_file(
    connections: Connections, path: Path, tick_every_s: float = 60.0, on_progress: Progress = ignore
) -> dict[str, int]:
    """Send a log file; topic -> records sent, ticks included.

    ``on_progress(done, total)`` is told the file's bytes, or a parquet file's rows.

    Raises:
        InvalidData: a line is not an event, or breaks a bound of size; lines before it may have been sent.
        Unavailable: the broker does not take them.
    """
    with EventProducer(connections) as producer:
        routing = _Routing(path, connections.partitions, int(tick_every_s * 1_000))
        for block in _blocks(path, on_progress):
            routing.add(block)
            routing.send(producer)
        routing.end()
        routing.send(producer)
    return dict(routing.sent)


class _Routing:
    """Sorts lines into batches by topic, with ticks between them."""

    def __init__(self, path: Path, partitions: int, every_ms: int) -> None:
        self._path, self._partitions, self._every = path, partitions, every_ms
        self._row, self._newest, self._ticked = 0, 0, 0
        self._batches: dict[str, list[dict[str, bytes | int]]] = {}
        self.sent: Counter[str] = Counter()

    def add(self, lines: list[bytes]) -> None:
        """Route a block of lines; blank ones only count as rows."""
        batches = self._batches
        for line in lines:
            self._row += 1
            raw = line.strip()
            if not raw:
                continue
            try:
                head = _decode(raw)
            except UNREADABLE as error:
                raise self._invalid("event", str(error), "a JSON object with type, ts and user") from error
            topic = ROUTES.get(head.type)
            if topic is None:
                if head.type != "tick":
                    raise self._invalid("type", head.type, f"one of {', '.join(ROUTES)}, tick")
                self._tick(head.ts)
                continue
            key = (head.item if topic == ITEMS.name else head.user).encode()
            if len(raw) + len(key) > MAX_RECORD_BYTES:
                raise self._invalid("size", len(raw) + len(key), f"at most {MAX_RECORD_BYTES} bytes, the key included")
            batches.setdefault(topic, []).append({"value": raw, "key": key})
            if head.ts > self._newest:
                self._newest = head.ts
                if head.ts >= self._ticked + self._every:
                    self._tick(head.ts)
                    self._ticked = head.ts

    def end(self) -> None:
        """The last tick, which closes every window that can be closed."""
        if self._newest:
            self._tick(max(self._newest, min(self._newest + AFTER_MS, int(time.time() * 1_000))))

    def send(self, producer: EventProducer) -> None:
        """Hand over what has been routed."""
        for topic, batch in self._batches.items():
            producer.send_batch(topic, batch)
            self.sent[topic] += len(batch)
        self._batches = {}

    def _tick(self, ts: int) -> None:
        raw = encode(Tick(ts=ts))
        for topic in INPUTS:
            self._batches.setdefault(topic.name, []).extend(
                {"value": raw, "key": b"", "partition": partition} for partition in range(self._partitions)
            )

    def _invalid(self, field: str, value: object, bound: str) -> InvalidData:
        return InvalidData(str(self._path), self._row, field, value, bound)


def _blocks(path: Path, on_progress: Progress) -> Iterator[list[bytes]]:
    if not path.is_file():
        raise InvalidData(str(path), None, "file", "missing", "an existing .jsonl, .jsonl.zst or .parquet file")
    if path.suffix == ".parquet":
        from streams.replaying.columns import blocks_of_rows

        return blocks_of_rows(path, on_progress)
    return blocks_of_lines(path, on_progress)


_decode = msgspec.json.Decoder(Head).decode
