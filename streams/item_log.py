"""What became of the catalogue's items since the run was prepared: `catalogue.items`, read when somebody asks.

It is no input of an agent: whatever names an item, or hangs on where it is, comes after the item's record, in event time and in
the log. So an agent that reads on when it needs to, and looks at records by their event time, gets the same at every replay.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock

from prometheus_client import REGISTRY

from schemas.connections import Connections
from schemas.errors import InvalidEvent
from schemas.events import ItemAdded
from schemas.items import REFUSED, ItemTaker
from schemas.topics import ITEMS
from streams.runtime.log import LogReader

REGISTRY.register(REFUSED)

#: Longest wait for the broker (s). A worker that takes a chunk stands still meanwhile and hears no SIGTERM, so: an election, and
#: no more.
TIMEOUT_S = 10.0
#: Seconds between two looks: while the past is caught up with, many stamps and views pass in one.
LOOK_S = 1.0


class ItemLog:
    """Holds what it has read; a look to the topic's end costs one question to the broker. For several threads: partitions recover
    side by side, and who comes while another looks waits for what that finds."""

    def __init__(
        self,
        connections: Connections,
        reader: str,
        codebook_version: str,
        level_sizes: Sequence[int],
        every_s: float = LOOK_S,
    ) -> None:
        """``reader``: who asks, for the metric of refused records; ``level_sizes``: the codebook's. ``every_s``: least seconds between two looks, for who asks
        often and for nothing that is so new."""
        self._connections, self._next, self._every_s, self._looked = connections, 0, every_s, float("-inf")
        self._taker = ItemTaker(reader, codebook_version, level_sizes)
        self._records: list[ItemAdded] = []
        self._lock = Lock()

    def __call__(self, at_once: bool = False) -> list[ItemAdded]:
        """Every record up to the topic's end at the last look, in order; what `ItemTaker` refuses is left out. ``at_once``: look
        now.

        Raises:
            Unavailable: the broker does not answer.
        """
        with self._lock:
            if at_once or time.monotonic() - self._looked >= self._every_s:
                self._looked = time.monotonic()
                self._read_on()
            return self._records

    def _read_on(self) -> None:
        reader, fresh = LogReader(self._connections, TIMEOUT_S), list[ItemAdded]()
        end = reader.bounds(ITEMS.name, 0)[1]
        for batch in reader.read(ITEMS.name, 0, self._next, end):
            for record in batch:
                with suppress(InvalidEvent):
                    fresh.append(self._taker.take(record.offset, record.value))
        self._taker.tell()
        self._next = max(self._next, end)
        if fresh:
            self._records = self._records + fresh  # another list: who has the one before may be in the midst of it
