"""A batch that is refused as a whole (`streams.runtime.decompression`) goes to quarantine as one record, and the next is read.

That record stands at the batch's last offset and says what it stands for; it is larger than any may be, so that whoever
decodes it refuses it for its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import structlog

from schemas.codec import MAX_RECORD_BYTES
from schemas.errors import Corrupt
from streams.runtime.core import Record

logger = structlog.get_logger(__name__)


class Batches:
    """The batches of a fetch, as the client reads them, and the one that it read last."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.last: Any = None
        self.has_next = batches.has_next

    def next_batch(self) -> Any:
        """See `aiokafka.record.MemoryRecords`."""
        self.last = self._batches.next_batch()
        return self.last


def passing_over(fetched: Any, unpack: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    """The records of ``fetched``, a client's ``PartitionRecords``, whose own generator is ``unpack``."""
    batches = fetched._records = Batches(fetched._records)
    while True:
        try:
            yield from unpack(fetched)
            return
        except Corrupt as error:
            first, following = batches.last.base_offset, batches.last.next_offset
            fetched.next_fetch_offset = following
            place = f"{fetched._tp.topic}/{fetched._tp.partition}, offsets {first} to {following - 1}"
            logger.error("batch refused, one quarantined record stands for it", place=place, error=str(error))
            told = f"{place}: {error}".encode()
            yield Record(following - 1, batches.last.max_timestamp, None, told.ljust(MAX_RECORD_BYTES + 1))
