"""Replay: send a recorded log, or a topic's past, through the event topics once more, with ticks of its own time.

A log file is ``.jsonl`` (``.jsonl.zst`` when packed): one event a line, as it travels, told apart by its ``type``; or
``.parquet`` with such lines in a column ``value``. It is in time order, give or take the allowed lateness.
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import zstandard

from schemas.connections import Connections
from schemas.errors import InvalidData, InvalidRequest
from schemas.topics import CLICKS, IMPRESSIONS, INPUTS, ITEMS, ORDERS
from streams.producing import EventProducer
from streams.runtime.log import LogReader
from streams.ticks import send_tick

ROUTES = {"impression": IMPRESSIONS, "click": CLICKS, "order": ORDERS, "return": ORDERS, "item_added": ITEMS}

#: How far the last tick goes beyond the last event, at most to the present (ms): past the default windows' ends.
AFTER_MS = 5 * 86_400_000


class Head(msgspec.Struct):
    """What routing needs of an event."""

    type: str
    ts: int = 0
    user: str = ""
    item: str = ""


def replay_file(connections: Connections, path: Path, tick_every_s: float = 60.0) -> dict[str, int]:
    """Send a log file; topic -> records sent, ticks included.

    Raises:
        InvalidData: a line is not an event, or is over the size limit; lines before it may have been sent.
        Unavailable: the broker does not take them.
    """
    sent: Counter[str] = Counter()
    newest, ticked, every = 0, 0, int(tick_every_s * 1_000)
    with EventProducer(connections) as producer:
        for row, raw in enumerate(_lines(path), start=1):
            head = _head(path, row, raw)
            if head.type == "tick":
                _tick(producer, connections, head.ts, sent)
                continue
            topic = ROUTES[head.type]
            try:
                producer.send(topic.name, raw, (head.item if topic is ITEMS else head.user).encode())
            except InvalidRequest as error:
                raise InvalidData(str(path), row, "size", error.value, error.bound) from error
            sent[topic.name] += 1
            newest = max(newest, head.ts)
            if newest >= ticked + every:
                _tick(producer, connections, newest, sent)
                ticked = newest
        if newest:
            _tick(producer, connections, max(newest, min(newest + AFTER_MS, int(time.time() * 1_000))), sent)
    return dict(sent)


def replay_topic(connections: Connections, topic: str, start: int = 0, into: str = "") -> dict[str, int]:
    """Send the records of ``topic`` from offset ``start`` of each partition again, to ``into`` (default: the same topic),
    each into the partition it had. Ticks are among the records of an input, so none are added.

    Raises:
        InvalidRequest: the topic is not one that events come in by, and no ``into`` is given.
        Unavailable: the broker does not answer.
    """
    if not into and topic not in (t.name for t in (*INPUTS, ITEMS)):
        names = ", ".join(t.name for t in (*INPUTS, ITEMS))
        raise InvalidRequest("topic to replay", topic, f"one of {names}", "derived topics are written by their agents alone")
    reader, sent = LogReader(connections.kafka, 60), 0
    with EventProducer(connections) as producer:
        for partition in range(1 if topic == ITEMS.name else connections.partitions):
            low, high = reader.bounds(topic, partition)
            for batch in reader.read(topic, partition, max(low, start), high):
                for record in batch:
                    producer.send(into or topic, record.value, record.key, partition)
                sent += len(batch)
    return {into or topic: sent}


def _tick(producer: EventProducer, connections: Connections, ts: int, sent: Counter[str]) -> None:
    send_tick(producer, connections.partitions, ts)
    for topic in INPUTS:
        sent[topic.name] += connections.partitions


def _head(path: Path, row: int, raw: bytes) -> Head:
    try:
        head = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidData(str(path), row, "event", str(error), "a JSON object with type, ts and user") from error
    if head.type != "tick" and head.type not in ROUTES:
        raise InvalidData(str(path), row, "type", head.type, f"one of {', '.join(ROUTES)}, tick")
    return head


def _lines(path: Path) -> Iterator[bytes]:
    if not path.is_file():
        raise InvalidData(str(path), None, "file", "missing", "an existing .jsonl, .jsonl.zst or .parquet file")
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        file = pq.ParquetFile(path)
        if "value" not in file.schema_arrow.names:
            raise InvalidData(str(path), None, "value", "missing", "a column with one event as JSON in each row")
        for batch in file.iter_batches(columns=["value"]):
            for value in batch.column(0).to_pylist():
                yield value if isinstance(value, bytes) else str(value).encode()
        return
    with path.open("rb") as plain:
        if path.suffix == ".zst":
            with zstandard.ZstdDecompressor().stream_reader(plain) as unpacked, io.BufferedReader(unpacked) as lines:
                yield from _full(lines)
        else:
            yield from _full(plain)


def _full(lines: IO[bytes]) -> Iterator[bytes]:
    return (line.rstrip(b"\r\n") for line in lines if line.strip())


_decoder = msgspec.json.Decoder(Head)
