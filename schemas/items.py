"""The one rule by which every reader of `catalogue.items` takes a record or refuses it.

A record that cannot be read, is of another codebook, or names an identifier that the codebook does not have changes nothing: it is counted, and told to the log by name. So are
those that an earlier codebook left in the topic, each time a process reads it from its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
from prometheus_client import Counter

from schemas.codec import decode
from schemas.errors import InvalidEvent
from schemas.events import ItemAdded
from schemas.quarantine import Reason
from schemas.topics import ITEMS

log = structlog.get_logger()

#: In no registry of its own accord: each process adds it to the one that it exposes.
REFUSED: Final = Counter(
    "headrace_refused_item_records", "Records of catalogue.items that could not be used", ["reader", "reason"], registry=None
)
#: Records that one line of the log names.
NAMED: Final = 5


def read_item(raw: bytes, codebook_version: str, level_sizes: Sequence[int]) -> ItemAdded:
    """The record, held against the codebook.

    Raises:
        InvalidEvent: it cannot be read, is of another codebook, or names an identifier that the codebook does not have.
    """
    item: ItemAdded = decode(ITEMS.kind, raw)
    if item.codebook_version != codebook_version:
        what, remedy = f"codebook of item {item.item}", "assign it again under the run's identifiers"
        raise InvalidEvent(Reason.OTHER_CODEBOOK, what, item.codebook_version, codebook_version, remedy)
    fits = len(item.sid) == len(level_sizes) and all(
        0 <= code < size for code, size in zip(item.sid, level_sizes, strict=True)
    )
    if item.sid and not fits:
        bound = f"{len(level_sizes)} codes from 0, below {', '.join(map(str, level_sizes))}"
        remedy = "assign it with `headrace identifiers assign`"
        raise InvalidEvent(Reason.INVALID, f"identifier of item {item.item}", item.sid, bound, remedy)
    return item


class ItemTaker:
    """What one reader does with the records that it meets."""

    def __init__(self, reader: str, codebook_version: str, level_sizes: Sequence[int]) -> None:
        """``level_sizes``: codes of each level of that codebook."""
        self._reader, self._codebook, self._sizes = reader, codebook_version, tuple(level_sizes)
        self._named: list[str] = []
        self._untold = 0

    def take(self, offset: int, raw: bytes | None) -> ItemAdded:
        """The record, decoded.

        Raises:
            InvalidEvent: it is refused, and counted; the rest is the reader's.
        """
        try:
            return read_item(raw or b"", self._codebook, self._sizes)
        except InvalidEvent as error:
            REFUSED.labels(self._reader, str(error.reason)).inc()
            self._untold += 1
            if len(self._named) < NAMED:
                self._named.append(f"offset {offset}: {error}")
            raise

    def tell(self) -> None:
        """One line of what was refused since the last call; none where nothing was."""
        if self._untold:
            log.error("item records refused", reader=self._reader, records=self._untold, first=self._named)
            self._untold, self._named = 0, []
