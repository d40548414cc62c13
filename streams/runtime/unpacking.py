"""How aiokafka makes records of what it fetches: in few steps, and within bounds."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from aiokafka import codec
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatch

from streams.runtime import decompression
from streams.runtime.core import Record
from streams.runtime.overfull import passing_over

_unpack_records = PartitionRecords._unpack_records


def read_plainly() -> None:
    """Let the client make a `Record` of what it reads at once: its own of eleven fields takes longer than fetching it."""

    def record(_: PartitionRecords, __: Any, found: Any) -> Record:
        return Record(found.offset, found.timestamp, found.key, found.value or b"")

    PartitionRecords._consumer_record = record


def unpack_within_bounds() -> None:
    """Let the client unpack compressed batches by `streams.runtime.decompression`: its own functions know no bound. What
    that refuses is passed over, and told by one record."""
    # Its own module or the compiled one that takes its place, whichever is in use.
    batches: Any = sys.modules[DefaultRecordBatch.__module__]
    batches.gzip_decode = decompression.gzip
    batches.lz4_decode = decompression.lz4_
    batches.zstd_decode = decompression.zstd
    batches.snappy_decode = partial(decompression.snappy, plain=codec.snappy_decode)
    PartitionRecords._unpack_records = lambda fetched: passing_over(fetched, _unpack_records)
