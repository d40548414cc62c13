"""When the state of a slot is due to be dumped: never what is in it."""

from __future__ import annotations

import time

from streams.settings import RuntimeSettings

#: Bytes of state that may be dumped for each record taken.
BYTES_A_RECORD = 1_000


class Cadence:
    """Counts what a recovery would replay, and how long ago the state was dumped (wall time)."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings
        self.start(0, 0)

    def start(self, state_bytes: int, made_ms: int) -> None:
        """The last dump is of that size and time; nothing has been taken since."""
        self.state_bytes, self._made_s, self.records = state_bytes, made_ms / 1_000, 0

    def took(self, records: int) -> None:
        """A stretch of an input. One of transactions' marks alone counts as one record: once it is deleted by its age, nobody
        could tell what it held, so a recovery must not need it for longer than it needs records."""
        self.records += max(1, records)

    def dumped(self, state_bytes: int) -> None:
        """There is a dump of now."""
        self.start(state_bytes, int(time.time() * 1_000))

    @property
    def due(self) -> bool:
        """Whether enough was taken since the last dump, or anything and it is old. A large state is dumped more rarely, so that
        dumping costs no more than joining."""
        enough = max(self._settings.snapshot_records, self.state_bytes // BYTES_A_RECORD)
        return self.records >= enough or self.left_s == 0

    @property
    def left_s(self) -> float | None:
        """Seconds until a dump is due without anything more being taken; None when nothing has been taken since the last one.

        Inputs are deleted by their age: what a recovery has to replay must not wait for records that may never come.
        """
        if not self.records:
            return None
        return max(0.0, self._made_s + self._settings.snapshot_every_s - time.time())
