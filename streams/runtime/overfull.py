"""A batch that cannot be read, or is refused (`streams.runtime.decompression`), goes to quarantine as one record, and the next is read.

That record stands at the batch's last offset and says what it stands for; it is larger than any may be, so that whoever
decodes it refuses it for its size. Raised, what is wrong with the batch would end the worker, and every one after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import structlog
from aiokafka.errors import CorruptRecordException

from schemas.codec import MAX_RECORD_BYTES
from schemas.errors import Corrupt
from streams.runtime.core import Record

logger = structlog.get_logger(__name__)


class Batches:
    """The batches of a fetch, as the client reads them, and the one that it reads now, which is as the broker keeps it."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.last: Any = None
        self.has_next = batches.has_next

    def next_batch(self) -> Any:
        """See `aiokafka.record.MemoryRecords`.

        Raises:
            CorruptRecordException: its checksum is wrong; another fetch may bring it whole.
        """
        self.last = None
        batch = self._batches.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException(f"checksum of the batch at offset {batch.base_offset}")
        self.last = batch
        return batch


def passing_over(fetched: Any, unpack: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    """The records of ``fetched``, a client's ``PartitionRecords``, whose own generator is ``unpack``."""
    batches = fetched._records = Batches(fetched._records)
    fetched._check_crcs = False  # done above: the client's error for a wrong one is that for a broken record
    while True:
        try:
            yield from unpack(fetched)
            return
        except (Corrupt, CorruptRecordException, UnicodeDecodeError) as error:  # the last: the name of a header
            if batches.last is None:
                raise
            first, following = max(batches.last.base_offset, fetched.next_fetch_offset), batches.last.next_offset
            fetched.next_fetch_offset = following
            place = f"{fetched._tp.topic}/{fetched._tp.partition}, offsets {first} to {following - 1}"
            if first == following:  # what is wrong comes behind the last record
                logger.warning("batch has more bytes than records", place=place, error=str(error))
                continue
            logger.error("batch refused, one quarantined record stands for it", place=place, error=str(error))
            told = f"{place}: {error}".encode()
            yield Record(following - 1, batches.last.max_timestamp, None, told.ljust(MAX_RECORD_BYTES + 1))
