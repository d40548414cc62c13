"""Compressed batches as odd producers make them: read, or passed over and told, but never what every restart ends on."""

from __future__ import annotations

import asyncio
import gzip
import struct
import sys
import tracemalloc
from collections.abc import Callable

import lz4.frame
import msgspec
import pytest
import zstandard
from aiokafka import AIOKafkaProducer
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from schemas.codec import MAX_RECORD_BYTES
from schemas.connections import Connections
from schemas.errors import Corrupt
from schemas.events import Tick
from schemas.quarantine import Quarantined, Reason
from schemas.topics import CLICKS
from streams.accounting import accounted, totals
from streams.runtime import overfull
from streams.runtime.core import Record
from streams.runtime.decompression import MAX_BATCH_BYTES
from streams.runtime.faust_internals import read_plainly, unpack_within_bounds
from streams.runtime.log import LogReader
from streams.runtime.refusal import StandIn, refuse
from tests.streams.conftest import Worker, caught_up, feeder
from tests.streams.test_hardening import BOMB, GZIP, LZ4, SNAPPY, ZSTD

#: Bytes of a batch before its records section.
HEADER = 61


def packed(codec: int, values: list[bytes], pack: Callable[[bytes], bytes], first: int = 0) -> bytes:
    """A batch whose section is packed by ``pack``, with its checksum; at offset ``first``."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 2**31 - 1)
    for n, value in enumerate(values):
        assert builder.append(n, 1_000 + n, b"k", value, [("hhhh", b"v")]) is not None
    plain = bytes(builder.build())
    raw = bytearray(plain[:HEADER] + pack(plain[HEADER:]))
    struct.pack_into(">q", raw, 0, first)
    struct.pack_into(">i", raw, 8, len(raw) - 12)
    struct.pack_into(">h", raw, 21, codec)
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


def fetched(*batches: bytes) -> tuple[list[Record], int]:
    """What the client reads of a fetch that brought these batches, and where its next fetch begins."""
    unpack_within_bounds()
    read_plainly()
    place = TopicPartition(CLICKS.name, 0)
    found = PartitionRecords(place, MemoryRecords(b"".join(batches)), [], 0, None, None, True, 1)
    return list(found), found.next_fetch_offset


def streamed(data: bytes) -> bytes:
    """A zstd frame that does not tell its size and has the largest window."""
    packer = zstandard.ZstdCompressor(level=22).compressobj()
    return packer.compress(data) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) + packer.flush()


def halves(pack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Two frames, the first of ten bytes."""
    return lambda data: pack(data[:10]) + pack(data[10:])


@pytest.mark.parametrize("pack", [streamed, halves(zstandard.ZstdCompressor().compress), halves(streamed)])
def test_zstd_is_read_whatever_its_window_and_over_all_frames(pack: Callable[[bytes], bytes]) -> None:
    values = [b'{"n":%d}' % n for n in range(5_000)]
    records, following = fetched(packed(ZSTD, values, pack))
    assert [r.value for r in records] == values and following == 5_000


def test_a_small_first_frame_does_not_let_a_bomb_behind_it_past_the_bound() -> None:
    """What its first frame says of its size is ten bytes."""
    bomb = packed(ZSTD, [b"before", b"\x00" * BOMB, b"after"], halves(zstandard.ZstdCompressor().compress))
    assert zstandard.frame_content_size(bomb[HEADER:]) == 10
    assert [len(r.value) for r in fetched(bomb)[0]] == [6, MAX_RECORD_BYTES + 1, 5]


#: Batches of three records: how they are packed, and what is said of them.
UNREADABLE = {
    "two gzip members": (GZIP, halves(gzip.compress), "goes on behind its frame"),
    "two lz4 frames": (LZ4, halves(lz4.frame.compress), "goes on behind its frame"),
    "no gzip": (GZIP, lambda _: b"nonsense", "incorrect header"),
    "no snappy": (SNAPPY, lambda _: b"nonsense", "snappy"),
    "no lz4": (LZ4, lambda _: b"nonsense", "LZ4F"),
    "no zstd": (ZSTD, lambda _: b"nonsense", "zstd"),
    "a part of zstd": (ZSTD, lambda data: zstandard.ZstdCompressor().compress(data)[:-20], "CorruptRecord"),
    "no record": (GZIP, lambda _: gzip.compress(b""), "CorruptRecord"),
    "a header's name that is no text": (0, lambda data: data.replace(b"hhhh", b"\xff" * 4), "invalid start byte"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_batch_that_cannot_be_read_is_one_refused_record_and_the_next_is_read(name: str) -> None:
    """At its last offset, larger than any may be, and it says why."""
    codec, pack, why = UNREADABLE[name]
    good = packed(GZIP, [b"next"], gzip.compress, first=3)
    (refused, following), end = fetched(packed(codec, [b"one", b"two", b"three"], pack), good)
    assert (refused.offset, len(refused.value), following.offset, following.value, end) == (
        2, MAX_RECORD_BYTES + 1, 3, b"next", 4,
    )  # fmt: skip
    assert isinstance(refused, StandIn)
    assert refused.told.startswith(f"{CLICKS.name}/0, offsets 0 to 2: ".encode()) and why.encode() in refused.told


def test_thousands_of_refused_batches_in_one_fetch_take_little_memory_and_so_do_their_outputs() -> None:
    """2,000 batches of a hundred bytes: a value for each would be 2 GB, and 64 kB of it in quarantine 170 MB. What there is is room to unpack one."""
    fetch = b"".join(packed(GZIP, [b"one"], halves(gzip.compress), first=n) for n in range(2_000))
    tracemalloc.start()
    try:
        records, end = fetched(fetch)
        outputs = [refuse("a", CLICKS.name, 0, record, Reason.TOO_LARGE, "it is") for record in records]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ([r.offset for r in records], end) == (list(range(2_000)), 2_000)
    assert {len(r.value) for r in records} == {MAX_RECORD_BYTES + 1} and peak < MAX_BATCH_BYTES + 10_000_000
    told = msgspec.json.decode(outputs[7].value, type=Quarantined)
    assert told.size == MAX_RECORD_BYTES + 1 and told.raw.startswith(f"{CLICKS.name}/0, offsets 7 to 7: ".encode())


def test_a_fetch_ends_behind_the_batch_that_passes_the_bound_and_the_next_begins_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A poll would otherwise take 20,000 values of a megabyte, from batches of a few kilobytes each."""
    monkeypatch.setattr(overfull, "MAX_BATCH_BYTES", 1_000_000)
    batches = [packed(GZIP, [b"\x00" * 100_000] * 8, gzip.compress, first=8 * n) for n in range(10)]
    records, end = fetched(*batches)
    assert ([r.offset for r in records], end) == (list(range(16)), 16)
    assert fetched(*batches[2:])[1] == 32


def test_of_a_batch_that_breaks_off_the_records_before_are_read_and_of_one_with_more_all() -> None:
    short = packed(GZIP, [b"one", b"two", b"three"], lambda data: gzip.compress(data[:-3]))
    long = packed(GZIP, [b"four"], lambda data: gzip.compress(data + b"more"), first=3)
    records, end = fetched(short, long)
    assert [r.offset for r in records] == [0, 1, 2, 3] and end == 4 and isinstance(records[2], StandIn)
    assert [records[n].value for n in (0, 1, 3)] == [b"one", b"two", b"four"]


@pytest.mark.parametrize(("place", "why"), [(-1, "checksum"), (11, "minimum record overhead")])
def test_a_batch_that_arrives_damaged_is_not_quarantined_and_the_error_says_where_it_lies(place: int, why: str) -> None:
    """At its end, or in its length."""
    raw = bytearray(packed(GZIP, [b"one"], gzip.compress, first=1))
    raw[place] = 1
    with pytest.raises(Corrupt, match=why) as caught:
        fetched(packed(GZIP, [b"zero"], gzip.compress), bytes(raw))
    assert f"offset 1 of {CLICKS.name}/0" in str(caught.value) and "delete the records up to it" in caught.value.remedy


@pytest.mark.services
def test_a_worker_and_its_recovery_make_the_same_of_gzip_in_two_members(
    fresh_topics: Connections, worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker takes it, and a recovery's client would give half of the records: so it is one record in quarantine, and a worker that
    is killed behind it comes back to the counters of its last commit."""

    def in_two(data: bytes, _: object = None) -> bytes:
        middle = len(data) // 2  # between two records: they are all of one size
        return gzip.compress(data[:middle]) + gzip.compress(data[middle:])

    monkeypatch.setattr(sys.modules[DefaultRecordBatchBuilder.__module__], "gzip_encode", in_two)

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=fresh_topics.kafka, compression_type="gzip") as producer:
            several = producer.create_batch()
            for n in range(10):
                several.append(key=b"k", value=b'{"n":%d}' % n, timestamp=None)
            await (await producer.send_batch(several, CLICKS.name, partition=0))

    def tick(ts: int) -> None:
        with feeder(fresh_topics) as feed:
            feed(CLICKS.name, 0, msgspec.json.encode(Tick(ts)))

    tick(1_000)
    one = worker(SNAPSHOT_RECORDS="100000000")
    caught_up(fresh_topics)  # the first snapshot: what comes now is replayed
    asyncio.run(send())
    found = [record.offset for batch in LogReader(fresh_topics, 30).read(CLICKS.name, 0, 0, 11) for record in batch]
    assert found == [0, 1, 2, 3, 4, 5]
    caught_up(fresh_topics)
    one.kill()
    again = worker(SNAPSHOT_RECORDS="100000000")
    tick(2_000)
    caught_up(fresh_topics)
    assert again.stop() == 0, again.log.read_text()[-3_000:]
    counters = totals(fresh_topics)["attribution"]
    assert (counters["quarantined.too_large"], accounted(counters)) == (1, 3)
