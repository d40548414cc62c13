"""Whatever a producer sends: joined or in quarantine with its reason, within a stated memory."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zstandard
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from confluent_kafka import Producer
from kafka import KafkaProducer

from schemas.codec import MAX_RECORD_BYTES
from schemas.connections import Connections
from schemas.errors import Corrupt
from schemas.events import Tick
from schemas.quarantine import Quarantined
from schemas.topics import CLICKS, IMPRESSIONS, INPUTS, ORDERS, QUARANTINE
from streams.accounting import accounted, records, totals
from streams.attribution.core import AttributionCore
from streams.replaying import span
from streams.runtime import behind, decompression
from streams.runtime.core import Record
from streams.runtime.unpacking import unpack_within_bounds
from tests.streams.attribution_worker import RULES
from tests.streams.conftest import Worker, caught_up, committed, feeder
from tests.streams.event_log import START, event_log

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
#: Unpacked size of the bombs (bytes): well over what a batch may take.
BOMB = 2 * decompression.MAX_BATCH_BYTES

NASTY = [
    b"",
    b" ",
    b"null",
    b"[]",
    b"\x00" * 50,
    b"\xff\xfe{",
    b"[" * 10_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"type":"click","x":' + b"[" * 10_000 + b"]" * 10_000 + b',"ts":1,"user":"u","item":"i"}',
    b'{"type":"click","ts":1,"ts":2,"user":"u","item":"i"}',
    b'{"type":"click","type":"click","ts":1,"user":"u","item":"i"}',
    b'{"type":"order","ts":1,"user":"u","item":"i","order_id":"o","value":NaN}',
    b'{"type":"order","ts":1,"user":"u","item":"i","order_id":"o","value":Infinity}',
    b'{"type":"order","ts":1,"user":"u","item":"i","order_id":"o","value":1e999}',
    b'{"type":"order","ts":1,"user":"u","item":"i","order_id":"o","value":-1}',
    b'{"type":"click","ts":1e400,"user":"u","item":"i"}',
    b'{"type":"click","ts":99999999999999999999999999,"user":"u","item":"i"}',
    b'{"type":"click","ts":-1,"user":"u","item":"i"}',
    b'{"type":"click","ts":"1","user":"u","item":"i"}',
    b'{"type":"click","ts":1,"user":"\xff","item":"i"}',
    b'{"type":"click","ts":1,"user":"\\ud800","item":"i"}',
    b'{"type":"click","ts":1,"user":"u","item":""}',
    b'{"type":"click","ts":1,"user":"u","item":"' + b"i" * 129 + b'"}',
    b'{"type":"impression","ts":1,"request_id":"r","user":"u","query":"q","items":[]}',
    b'{"type":"impression","ts":1,"request_id":"r","user":"u","query":"q","items":[{"item":"i","position":0}]}',
    b'{"type":"impression","ts":1,"request_id":"r","user":"u","query":"q","items":[{"item":"i","position":1,"propensity":0}]}',
    b'{"type":"nobody"}',
    b'{"v":9,"type":"click","ts":1,"user":"u","item":"i"}',
    b'{"type":"click","ts":1,"user":"u","item":"i","more":"' + b"m" * 600_000 + b'"}',
]


def broken(rng: random.Random, raw: bytes) -> bytes:
    """The event with something done to it; sometimes nothing."""
    way = rng.randrange(8)
    place = rng.randrange(len(raw))
    if way == 0:
        return raw[:place]
    if way == 1:
        return raw[:place] + bytes([rng.randrange(256)]) + raw[place + 1 :]
    if way == 2:
        return raw[:place] + rng.randbytes(rng.randrange(1, 9)) + raw[place:]
    if way == 3:
        return raw[:place] + raw[rng.randrange(len(raw)) :]
    if way == 4:  # one value of another kind
        fields = json.loads(raw)
        fields[rng.choice(list(fields))] = rng.choice([None, -1, 2**70, 1.5, "", "x" * 200, [], {}, [[]], True, "\x00"])
        return json.dumps(fields).encode()
    if way == 5:  # a key twice
        fields = json.loads(raw)
        key = rng.choice(list(fields))
        return json.dumps(fields).encode()[:-1] + b"," + json.dumps({key: fields[key]}).encode()[1:]
    if way == 6:
        return rng.randbytes(rng.randrange(200))
    return raw


def test_a_hundred_thousand_broken_records_are_each_joined_or_refused_and_counted() -> None:
    """A core takes events with their bytes cut, flipped, doubled, their values and keys changed: it never raises, and what went
    in is what its counters say, whatever the reasons."""
    rng = random.Random(8)
    log = [(topic, raw) for topic, _, raw in event_log(8, 3_000)]
    core, sent, reasons = AttributionCore(0, RULES), 0, Counter[str]()
    while sent < 100_000:
        chunks: dict[str, list[Record]] = {topic.name: [] for topic in INPUTS}
        for topic, raw in log:
            fuzzed = rng.choice(NASTY) if rng.random() < 0.002 else broken(rng, raw) if raw[-1:] == b"}" else raw
            chunks[topic].append(Record(sent, START + 10**9, b"u", fuzzed))
            sent += 1
        for name, chunk in chunks.items():
            core.apply(name, chunk)
            core.advance()
        for output in core.drain()[0]:
            if output.topic == QUARANTINE.name:
                reasons[msgspec.json.decode(output.value, type=Quarantined).reason] += 1
    assert accounted(core.counters) == sent
    assert reasons.total() == sum(n for name, n in core.counters.items() if name.startswith("quarantined."))
    assert min(reasons[reason] for reason in ("unreadable", "invalid", "unknown_version", "too_large")) > 0
    assert core.counters["clicks"] > 0


@pytest.mark.parametrize("raw", NASTY, ids=lambda raw: raw[:60].decode("ascii", "replace"))
def test_each_nasty_record_is_refused_in_every_topic(raw: bytes) -> None:
    """One quarantined record with the bytes up to the bound, and nothing that waits."""
    for topic in (IMPRESSIONS.name, CLICKS.name, ORDERS.name):
        core = AttributionCore(0, RULES)
        core.apply(topic, [Record(7, 2, b"u", raw)])
        (output,), _ = core.drain()
        said = msgspec.json.decode(output.value, type=Quarantined)
        assert (said.offset, said.size, core.counters["pending"]) == (7, len(raw), 0)


@pytest.mark.parametrize("raw", NASTY, ids=lambda raw: raw[:60].decode("ascii", "replace"))
def test_whoever_asks_a_nasty_record_for_its_time_gets_one(raw: bytes) -> None:
    """For the bounds of a replay, and for the lag."""
    assert span.event_time(raw) >= -1
    assert behind.event_time(Record(7, 2, b"u", raw)) >= -1


def batch(codec: int, values: list[bytes]) -> DefaultRecordBatch:
    """A batch as a producer makes it."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 2**31 - 1)
    for n, value in enumerate(values):
        assert builder.append(n, 1_000 + n, b"k", value, [("h", b"v")]) is not None
    return DefaultRecordBatch(bytes(builder.build()))


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
def test_a_bomb_in_a_batch_is_cut_to_what_will_be_refused_and_its_neighbours_are_whole(codec: int) -> None:
    """Three bombs of which each alone is over the bound: the first keeps one byte over the record limit, and the others stand
    where they stood."""
    unpack_within_bounds()
    unpacked = list(batch(codec, [b"before", b"\x00" * BOMB, b"between", b"\x01" * 1_000_000, b"after"]))
    assert [(r.offset, r.timestamp, r.key) for r in unpacked] == [(n, 1_000 + n, b"k") for n in range(5)]
    assert [len(r.value) for r in unpacked] == [6, MAX_RECORD_BYTES + 1, 7, 1_000_000, 5]
    assert (unpacked[0].value, unpacked[2].value, unpacked[4].value) == (b"before", b"between", b"after")


@pytest.mark.parametrize("codec", [0, GZIP, SNAPPY, LZ4, ZSTD])
def test_an_honest_batch_is_unpacked_as_it_was(codec: int) -> None:
    """Headers included."""
    unpack_within_bounds()
    values = [b'{"n":%d}' % n for n in range(5_000)]
    unpacked = list(batch(codec, values))
    assert [r.value for r in unpacked] == values
    assert unpacked[17].headers == [("h", b"v")]


def test_a_batch_over_the_bound_keeps_valid_values_whole_or_is_refused() -> None:
    """A bound of 3 MB: two values of 1 MB beside one of 3 MB, which is cut, are below it; five of 1 MB are not."""

    def unpacked(sizes: list[int]) -> bytes:
        packed = zstandard.ZstdCompressor().compress(_section([b"\x00" * size for size in sizes]))
        with zstandard.ZstdDecompressor().stream_reader(packed) as stream:
            return decompression.unpack(stream, 3 * MAX_RECORD_BYTES + 1_000)

    assert unpacked([MAX_RECORD_BYTES, 3 * MAX_RECORD_BYTES, MAX_RECORD_BYTES]).count(b"\x00" * MAX_RECORD_BYTES) == 3
    with pytest.raises(Corrupt, match="over 3001000 bytes in it"):
        unpacked([MAX_RECORD_BYTES] * 5)


@pytest.mark.services
def test_a_worker_killed_behind_valid_records_in_too_large_a_batch_starts_again(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """160 ticks of almost 500 kB in one batch, 75 MiB unpacked: one record in quarantine. A recovery's client would read them all, so
    the state is dumped behind it."""
    with feeder(fresh_topics) as send:
        send(CLICKS.name, 0, msgspec.json.encode(Tick(1_000)))
    one = worker(SNAPSHOT_RECORDS="100000000")
    caught_up(fresh_topics)  # the first snapshot: what comes now is replayed
    count, value = 160, b'{"type":"tick","ts":1000,"pad":"%s"}' % (b"x" * 490_000)
    assert count * len(value) > decompression.MAX_BATCH_BYTES
    _send_in_one_batch(fresh_topics, [value] * count)
    caught_up(fresh_topics)
    one.kill()
    again = worker(SNAPSHOT_RECORDS="100000000")
    with feeder(fresh_topics) as send:
        send(CLICKS.name, 0, msgspec.json.encode(Tick(2_000)))
    caught_up(fresh_topics)
    assert again.stop() == 0, again.log.read_text()[-3_000:]
    counters = totals(fresh_topics)["attribution"]
    assert (counters["ticks"], counters["quarantined.too_large"], accounted(counters)) == (2, 1, 3)


def test_a_batch_of_endless_records_is_refused_by_name() -> None:
    """One record more than allowed, and all of them below the bound once the first is cut."""
    section = _section([b"x" * 8 * MAX_RECORD_BYTES] + [b"x" * 40] * decompression.MAX_BATCH_RECORDS)
    with pytest.raises(Corrupt, match="100000 records"):
        decompression.unpack(io.BytesIO(section), 8 * MAX_RECORD_BYTES)


@pytest.mark.services
@pytest.mark.slow
def test_a_batch_of_endless_records_is_one_record_in_quarantine_and_the_worker_goes_on(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """110,000 values of 700 zeros, over 64 MiB, in one batch of under a MB between two ticks: three records are counted, of
    which one stands for the batch and says where it lies."""
    count, value = 110_000, b"\x00" * 700
    assert count > decompression.MAX_BATCH_RECORDS and count * len(value) > decompression.MAX_BATCH_BYTES
    for ts, values in ((1_000, []), (2_000, [value] * count)):
        _send_in_one_batch(fresh_topics, values)
        with feeder(fresh_topics) as send:
            send(CLICKS.name, 0, msgspec.json.encode(Tick(ts)))
    goes_on = worker()
    caught_up(fresh_topics)
    assert goes_on.stop() == 0, goes_on.log.read_text()[-3_000:]
    counters = totals(fresh_topics)["attribution"]
    assert (counters["ticks"], counters["quarantined.too_large"], accounted(counters)) == (2, 1, 3)
    (refused,) = [msgspec.json.decode(v, type=Quarantined) for p in committed(fresh_topics, QUARANTINE.name) for _, v in p]
    assert (refused.offset, refused.partition) == (count, 0)
    assert refused.raw.startswith(f"{CLICKS.name}/0, offsets 1 to {count}: a compressed batch failed its check".encode())


def _send_in_one_batch(connections: Connections, values: list[bytes]) -> None:
    """By kafka-python, which sends nothing before it is told to; librdkafka may send what it has when it finds the leader."""
    producer = KafkaProducer(
        bootstrap_servers=connections.kafka, compression_type="gzip", batch_size=BOMB, max_request_size=BOMB,
        linger_ms=600_000, request_timeout_ms=120_000, delivery_timeout_ms=900_000,
    )  # fmt: skip
    sent = [producer.send(CLICKS.name, value, partition=0) for value in values]
    producer.flush(120)
    assert all(one.succeeded() for one in sent)
    producer.close()


def _section(values: list[bytes]) -> bytes:
    """The records section of a batch, as it is compressed: behind the 61 bytes of the header."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 2**31 - 1)
    for n, value in enumerate(values):
        builder.append(n, 1_000 + n, b"k", value, [])
    return bytes(builder.build())[61:]


@pytest.mark.services
@pytest.mark.slow
def test_a_worker_takes_bombs_of_every_codec_within_its_memory_and_does_not_meet_them_again(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """128 MiB of zeros in a few kB, four times, and every nasty record between good ones: all that is good is joined, the rest has
    its reason, the worker's peak stays below four bombs (Snappy cannot be read in pieces: its 128 MiB lie there twice); killed and started again, it
    recovers from a snapshot behind them."""
    with feeder(fresh_topics) as send:
        for topic, partition, raw in event_log(9, 200):
            send(topic, partition, raw)
        for raw in NASTY:
            send(CLICKS.name, 0, raw)
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        settings = {"compression.type": codec, "message.max.bytes": BOMB + 1_000, "log_level": 2}
        producer = Producer({"bootstrap.servers": fresh_topics.kafka, **settings})
        producer.produce(CLICKS.name, b"\x00" * BOMB, b"u", partition=1)
        assert producer.flush(120) == 0
    one = worker(SNAPSHOT_RECORDS="100000000")
    caught_up(fresh_topics)
    peak = int(Path(f"/proc/{one.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1_024
    one.kill()
    again = worker(SNAPSHOT_RECORDS="100000000")
    again.ready()
    assert again.stop() == 0, again.log.read_text()[-3_000:]

    counters = totals(fresh_topics)["attribution"]
    assert accounted(counters) == records(fresh_topics, tuple(t.name for t in INPUTS))
    refused = [msgspec.json.decode(v, type=Quarantined) for p in committed(fresh_topics, QUARANTINE.name) for _, v in p]
    assert Counter(r.reason for r in refused if r.partition == 1)["too_large"] == 4
    assert counters["clicks"] > 0
    assert peak < 4 * BOMB
