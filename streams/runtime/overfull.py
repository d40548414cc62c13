"""A batch that cannot be read, or is refused (`streams.runtime.decompression`), goes to quarantine as one record, and the next is read.

That record stands at the batch's last offset and says what it stands for (`streams.runtime.refusal.StandIn`). Raised, what is
wrong with the batch would end the worker, and every one after it.

A fetch of a few megabytes can hold thousands of batches that expand to `MAX_BATCH_BYTES` each, and a poll ends by its number of
records alone. So a fetch ends early, behind the batch with which its values pass that bound; the rest is fetched again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import structlog
from aiokafka.errors import CorruptRecordException

from schemas.errors import Corrupt
from streams.runtime.decompression import MAX_BATCH_BYTES
from streams.runtime.refusal import StandIn

logger = structlog.get_logger(__name__)


class Batches:
    """The batches of a fetch, as the client reads them, and the one that it reads now, which is as the broker keeps it.
    ``held``: bytes of the values that were read of them."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.last: Any = None
        self.held = 0

    def has_next(self) -> bool:
        """See `aiokafka.record.MemoryRecords`. Not past the bound: the client then fetches from where it is."""
        return self.held <= MAX_BATCH_BYTES and bool(self._batches.has_next())

    def next_batch(self) -> Any:
        """See `aiokafka.record.MemoryRecords`.

        Raises:
            CorruptRecordException: its checksum is wrong, or it is too short for one.
        """
        self.last = None
        batch = self._batches.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException("its checksum is wrong")
        self.last = batch
        return batch


def passing_over(fetched: Any, unpack: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    """The records of ``fetched``, a client's ``PartitionRecords``, whose own generator is ``unpack``.

    Raises:
        Corrupt: a batch is not as it was written. Its records may be good, and another fetch bring them: none is passed over.
    """
    batches = fetched._records = Batches(fetched._records)
    fetched._check_crcs = False  # done above: the client's error for a wrong one is that for a broken record
    topic, partition = fetched._tp
    told = False
    while True:
        try:
            for record in unpack(fetched):
                batches.held += len(record.value)
                yield record
            return
        except (Corrupt, CorruptRecordException, UnicodeDecodeError) as error:  # the last: the name of a header
            if batches.last is None:
                raise damaged(topic, partition, fetched.next_fetch_offset, str(error)) from error
            first, following = max(batches.last.base_offset, fetched.next_fetch_offset), batches.last.next_offset
            fetched.next_fetch_offset = following
            if first == following:  # what is wrong comes behind the last record
                place = f"{topic}/{partition}, offset {following - 1}"
                logger.warning("batch has more bytes than records", place=place, error=str(error))
                continue
            stand_in = StandIn.of(topic, partition, first, following - 1, batches.last.max_timestamp, str(error))
            if not told:  # a line for each of thousands would fill the disk; quarantine has them all
                logger.error("batch refused, one quarantined record stands for it", place=stand_in.told.decode())
            told = True
            batches.held += len(stand_in.told)
            yield stand_in


def damaged(topic: str, partition: int, offset: int, detail: str) -> Corrupt:
    """Of a batch that came otherwise than it was written: by the wire, which a new start makes good, or from the disk."""
    return Corrupt(
        f"the batch at offset {offset} of {topic}/{partition}",
        detail,
        "start again, which fetches it anew; if it comes again, delete the records up to it from the topic:"
        " docs/operations.md, what to do when",
    )
