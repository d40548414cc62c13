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
    _held: tuple[SnapshotPointer | None, Examination] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self) -> Examination:
        """What the newest snapshot says; before there is one, the start's.

        Raises:
            Unavailable: Kafka does not answer, or the snapshot's file is gone.
        """
        with self._lock:
            for message in tails.read(self.connections, SNAPSHOTS, {0: self._next}):
                self._pointer, self._next = decode(SnapshotPointer, message.value() or b""), (message.offset() or 0) + 1
            if self._held is None or self._held[0] != self._pointer:
                pointer = self._pointer
                said = PosteriorSnapshot.read(self.store, pointer).examination if pointer else start(self.settings)
                self._held = pointer, said
            return self._held[1]
