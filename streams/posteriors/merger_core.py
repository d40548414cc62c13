"""Adds up the partitions' counts and publishes a snapshot for every stamp that all of them have told.

Stamps are handled in their own order, whatever the order in which partitions told them, so the snapshots are the same
in every interleaving. Each snapshot's calibrator has seen how the one before it did on what happened since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward.calibration import IDENTITY, Calibrator, fit, tally
from reward.counts import UNIT, Counts
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.codec import decode, encode
from schemas.errors import InvalidEvent
from schemas.posteriors import CountDelta, PosteriorDelta, SnapshotPointer
from schemas.store import sha256
from schemas.topics import DELTAS, SNAPSHOTS
from streams.runtime.core import Blob, Output, Record
from streams.runtime.refusal import refuse

NAME = "posteriors-merger"
#: Partition 0 of the deltas is the only one.
PARTITION = 0


class _State(msgspec.Struct):
    version: int
    stamp: int
    counts: bytes
    told: list[int]
    waiting: dict[int, list[list[CountDelta]]]
    outcomes: list[list[list[int]]]
    counters: dict[str, int]


class MergerCore:
    """``sources`` is the number of partitions of the views; ``told[s]`` the last stamp that source s completed."""

    def __init__(self, sources: int, settings: PosteriorSettings) -> None:
        self._settings, self._sources = settings, sources
        self._version, self._stamp = 0, -1
        self._counts = Counts()
        self._told = [-1] * sources
        self._waiting: dict[int, list[list[CountDelta]]] = {}
        self._outcomes: deque[NDArray[np.int64]] = deque(maxlen=settings.calibration_snapshots)
        self._before = PosteriorSnapshot.prior(settings)
        self._outputs: list[Output] = []
        self._blobs: list[Blob] = []
        self.counters: dict[str, int] = {}

    @property
    def watermark(self) -> int:
        """Stamp of the newest snapshot."""
        return max(0, self._stamp)

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Take deltas; they wait for their stamp."""
        for record in records:
            try:
                delta: PosteriorDelta = decode(DELTAS.kind, record.value)
                if not 0 <= delta.source < self._sources:
                    bound = f"a partition below {self._sources}"
                    raise InvalidEvent("invalid", "source", delta.source, bound)
            except InvalidEvent as error:
                self._count(f"quarantined.{error.reason}")
                self._outputs.append(refuse(NAME, topic, PARTITION, record, error.reason, str(error)))
                continue
            self._count("deltas")
            self._waiting.setdefault(delta.stamp, []).append(list(delta.deltas))
            if delta.last:
                self._told[delta.source] = max(self._told[delta.source], delta.stamp)

    def advance(self) -> None:
        """Publish every stamp that all sources have told."""
        complete = min(self._told)
        for stamp in sorted(stamp for stamp in self._waiting if stamp <= complete):
            self._publish(stamp, [delta for piece in self._waiting.pop(stamp) for delta in piece])

    def _publish(self, stamp: int, deltas: list[CountDelta]) -> None:
        self._outcomes.append(self._outcome(deltas))
        self._counts.add(deltas)
        self._version, self._stamp = self._version + 1, stamp
        calibrator = self._calibrator()
        data = PosteriorSnapshot.build(self._counts, stamp, self._settings, calibrator)
        self._before = PosteriorSnapshot(data)
        checksum = sha256(data)
        path = f"posteriors/{self._version:08d}-{checksum[:8]}.snapshot"
        self._blobs.append(Blob(path, data))
        pointer = SnapshotPointer(self._version, stamp, path, checksum, calibrator.version, self._before.pairs)
        value = encode(pointer)
        for partition in range(self._sources):
            self._outputs.append(Output(SNAPSHOTS.name, str(self._version).encode(), value, partition))
        self._count("snapshots")

    def _outcome(self, deltas: list[CountDelta]) -> NDArray[np.int64]:
        """What happened since the snapshot before, in bins of what that one had predicted."""
        total = np.zeros((self._settings.calibration_bins, 3), np.int64)
        by_query: dict[str, list[CountDelta]] = {}
        for delta in deltas:
            by_query.setdefault(delta.query, []).append(delta)
        for query, own in by_query.items():
            mean_N = self._before.raw(query, [delta.item for delta in own]).mean_N
            examined_N = np.array([delta.examined for delta in own], np.int64)
            clicks_N = np.array([delta.clicks for delta in own], np.int64)
            total += tally(mean_N, examined_N, clicks_N, self._settings.calibration_bins)
        return total

    def _calibrator(self) -> Calibrator:
        if not self._outcomes:
            return IDENTITY
        return fit(np.sum(list(self._outcomes), axis=0), self._version, self._settings, UNIT)

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Pointers and snapshot files since the last call."""
        outputs, self._outputs = self._outputs, []
        blobs, self._blobs = self._blobs, []
        return outputs, blobs

    def dump(self) -> bytes:
        """The state as msgpack."""
        outcomes = [outcome.tolist() for outcome in self._outcomes]
        state = _State(self._version, self._stamp, self._counts.dump(), self._told, self._waiting, outcomes, self.counters)
        return msgspec.msgpack.encode(state)

    def load(self, data: bytes) -> None:
        """Become what `dump` returned; the last snapshot's predictions follow from the counts."""
        state = msgspec.msgpack.decode(data, type=_State)
        self._version, self._stamp, self._told = state.version, state.stamp, state.told
        self._counts, self._waiting, self.counters = Counts.load(state.counts), state.waiting, state.counters
        kept = [np.array(outcome, np.int64) for outcome in state.outcomes]
        self._outcomes = deque(kept, maxlen=self._settings.calibration_snapshots)
        if self._version:
            built = PosteriorSnapshot.build(self._counts, self._stamp, self._settings, self._calibrator())
            self._before = PosteriorSnapshot(built)

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
