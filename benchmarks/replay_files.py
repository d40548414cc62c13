"""Log files through `headrace replay` into a broker, against a plain loop that does the same a row at a time.

Speed is events a wall second, from opening the file until the broker has everything. The peer reads the same file with json,
zstandard and pyarrow row by row, and produces with confluent-kafka one message at a time. It has an easier task: no ticks, no bounds
of size, no word on what is wrong in which row. Its producer has the same settings.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from confluent_kafka import Producer

from benchmarks.attribution_peers.stage import Stage, stage
from benchmarks.attribution_peers.workload import TOPICS, make_log
from benchmarks.common import LEAST_REPEATS, NOW_MS, Result, Row, finish, parser, row, seconds
from streams.replaying.files import ROUTES, replay_file

PARTITIONS = 2
QUICK, FULL = 40_000, 200_000
#: What every form has to reach (events/s).
LEAST = 100_000


def write_files(folder: Path, events: int) -> dict[str, tuple[Path, Callable[[Path], Iterator[dict[str, Any]]]]]:
    """The same log in every form: case -> file, and how the peer reads its rows."""
    lines = [record.value for record in make_log(events, seed=1, start_ms=NOW_MS, partitions=PARTITIONS) if record.key]
    text = b"\n".join(lines) + b"\n"
    rows = [{name: value for name, value in msgspec.json.decode(line).items() if value not in ([], {})} for line in lines]
    names = list(dict.fromkeys(name for one in rows for name in one))
    files = {name: folder / name for name in ("log.jsonl", "log.jsonl.zst", "log.parquet", "typed.parquet")}
    plain, packed, values, typed = files.values()
    plain.write_bytes(text)
    packed.write_bytes(zstandard.compress(text))
    pq.write_table(pa.table({"value": lines}), values)
    pq.write_table(pa.table({name: [one.get(name) for one in rows] for name in names}), typed)
    return {
        "jsonl": (plain, _lines),
        "jsonl.zst": (packed, _packed_lines),
        "parquet, a column value": (values, _values),
        "parquet, typed columns": (typed, _typed),
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        yield from map(json.loads, file)


def _packed_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as unpacked:
        yield from map(json.loads, io.TextIOWrapper(unpacked))


def _values(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(one["value"]) for one in _rows(path))


def _typed(path: Path) -> Iterator[dict[str, Any]]:
    return ({name: cell for name, cell in one.items() if cell is not None} for one in _rows(path))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def plain_loop(kafka: str, rows: Iterator[dict[str, Any]]) -> None:
    """The peer: each event produced under its user."""
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,
            "partitioner": "murmur2",
            "linger.ms": 5,
            "queue.buffering.max.messages": 200_000,
        }
    )
    for event in rows:
        topic, value, key = ROUTES[event["type"]], json.dumps(event, separators=(",", ":")), event["user"]
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120):
        raise RuntimeError("the peer's records were not delivered in 120 s")


def measure(at: Stage, events: int) -> list[Row]:
    """A row for each form of the file."""
    rows = []
    for case, (path, read) in write_files(at.folder, events).items():
        at.empty()
        count = sum(1 for _ in read(path))

        def ours(path: Path = path) -> dict[str, int]:
            return replay_file(at.connections, path)

        def peer(path: Path = path, read: Callable[[Path], Iterator[dict[str, Any]]] = read) -> None:
            plain_loop(at.connections.kafka, read(path))

        check(at, ours, peer)
        pairs = [(count / seconds(ours), count / seconds(peer)) for _ in range(LEAST_REPEATS)]
        rows.append(row(case, pairs, "a plain loop, row by row", "events/s", higher_is_better=True))
    return rows


def check(at: Stage, ours: Callable[[], dict[str, int]], peer: Callable[[], None]) -> None:
    """Run both once, and raise unless the peer has put as many events into each partition as ours, whose ticks are evenly
    spread."""
    start = at.ends(*TOPICS)
    sent = ours()
    middle = at.ends(*TOPICS)
    peer()
    for (topic, partition), end in at.ends(*TOPICS).items():
        place, theirs = (topic, partition), sum(n - middle[p] for p, n in at.ends(topic).items())
        ticks = (sent[topic] - theirs) // PARTITIONS
        if ticks <= 0 or middle[place] - start[place] - ticks != end - middle[place]:
            raise AssertionError(f"{place}: ours sent {middle[place] - start[place]}, the peer {end - middle[place]}")


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    chosen = parser("replay_files", __doc__).parse_args(arguments)
    events = QUICK if chosen.quick else FULL
    with stage(PARTITIONS) as at:
        rows = measure(at, events)
    slow = [f"{one.case}: {one.ours:,.0f} events/s, below {LEAST:,}" for one in rows if one.ours < LEAST]
    return finish("replay_files", rows, chosen, [f"About {events:,} events of a shop, {PARTITIONS} partitions.", *slow])


if __name__ == "__main__":
    main()
