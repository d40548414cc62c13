"""The examination of the newest posterior snapshot, which the learner takes next, kept up to date a read at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from reward.examination import Examination, start
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas import tails
from schemas.codec import decode
from schemas.connections import Connections
from schemas.posteriors import SnapshotPointer
from schemas.store import Store
from schemas.topics import SNAPSHOTS


@dataclass
class NewestExamination:
    """Every partition has every snapshot: the first one is read. For one thread at a time: it locks."""

    connections: Connections
    store: Store
    settings: PosteriorSettings
    _next: int = 0
    _pointer: SnapshotPointer | None = None
    _held: Examination | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self) -> Examination:
        """What the newest snapshot says; before there is one, the start's.

        Raises:
            Unavailable: Kafka does not answer, or the snapshot's file is gone.
        """
        with self._lock:
            before, end = self._pointer, tails.ends(self.connections, SNAPSHOTS)[0][1]
            for message in tails.read(self.connections, SNAPSHOTS, {0: self._next}):
                self._pointer = decode(SnapshotPointer, message.value() or b"")
            self._next = end
            if self._held is None or self._pointer != before:
                held = self._pointer
                self._held = PosteriorSnapshot.read(self.store, held).examination if held else start(self.settings)
            return self._held
