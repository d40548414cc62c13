"""What the learner's next step would ask of the posterior: the newest snapshot, kept up to date a read at a time."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from reward.examination import Examination, start
from reward.keys import keys, pair_keys
from reward.preview.pages import Pages
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas import tails
from schemas.codec import decode
from schemas.connections import Connections
from schemas.posteriors import SnapshotPointer
from schemas.store import Store
from schemas.topics import SNAPSHOTS

#: Pairs that are looked up at once: what bounds the memory of a look-up.
AT_ONCE: Final = 100_000


@dataclass(frozen=True, eq=False)
class Rates:
    """Click rates and examination, of one snapshot: a rate was estimated under its own snapshot's examination."""

    version: int  #: of the snapshot; 0: there is none yet
    snapshot: PosteriorSnapshot | None  #: None: pages keep the rates that are stored with them
    examination: Examination | None  #: None: clicks as observed

    def on(self, pages: Pages) -> Pages:
        """The pages with the snapshot's CTR of each shown item (`PosteriorSnapshot.ctr`); each (query, item) is looked up once."""
        if self.snapshot is None:
            return pages
        item_P = keys(pages.items)
        pair_P = pair_keys(keys([one.query for one in pages.asked])[pages.page_P], item_P)
        pair_U, first_U, of_P = np.unique(pair_P, return_index=True, return_inverse=True)
        item_U = item_P[first_U]
        parts = (slice(begin, begin + AT_ONCE) for begin in range(0, len(pair_U), AT_ONCE))
        mean_U = np.concatenate([self.snapshot.ctr_by_key(pair_U[u], item_U[u]).mean_N for u in parts])
        return dataclasses.replace(pages, ctr_P=mean_U[of_P])


@dataclass
class NewestRates:
    """Every partition has every snapshot: the first one is read. For one thread at a time: it locks."""

    connections: Connections
    store: Store
    settings: PosteriorSettings
    expected: bool  #: the learner's setting ``interaction``; False: clicks as observed
    _next: int = 0
    _pointer: SnapshotPointer | None = None
    _held: tuple[SnapshotPointer | None, Rates] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self) -> Rates:
        """Those of the newest snapshot; before there is one, the start's examination.

        Raises:
            Unavailable: Kafka does not answer, or the snapshot's file is gone.
        """
        with self._lock:
            for message in tails.read(self.connections, SNAPSHOTS, {0: self._next}):
                self._pointer, self._next = decode(SnapshotPointer, message.value() or b""), (message.offset() or 0) + 1
            if self._held is None or self._held[0] != self._pointer:
                self._held = self._pointer, self._open(self._pointer)
            return self._held[1]

    def _open(self, pointer: SnapshotPointer | None) -> Rates:
        snapshot = PosteriorSnapshot.read(self.store, pointer) if pointer else None
        examination = snapshot.examination if snapshot else start(self.settings)
        return Rates(pointer.version if pointer else 0, snapshot, examination if self.expected else None)
