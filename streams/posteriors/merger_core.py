"""Deltas of all partitions added up, and a snapshot published at every stamp that any of them told.

A stamp is built when every source has told it or a later one. The set of stamps and what each holds follow from the
sources' own logs, so snapshots do not depend on how the sources interleave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from reward.calibration import IDENTITY, Calibrator, fit, tally
from reward.counts import UNIT, Counts
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.codec import decode, encode
from schemas.errors import InvalidEvent
from schemas.posteriors import CountDelta, PosteriorDelta, SnapshotPointer
from schemas.quarantine import Reason
from schemas.store import sha256
from schemas.topics import DELTAS, SNAPSHOTS
from streams.runtime.core import Blob, Output, Record
from streams.runtime.refusal import refuse

NAME: Final = "posteriors-merger"
#: Of the deltas: the only one there is.
PARTITION: Final = 0


class _State(msgspec.Struct):
    told: list[int]  # per source: the last stamp told; 0 before any
    waiting: dict[int, tuple[CountDelta, ...]] = {}
    version: int = 0
    snapshot: bytes = b""  # the last one published: what outcomes are compared with
    outcomes: list[list[list[int]]] = []  # per snapshot: bins x (examined, predicted, clicks)
    counters: dict[str, int] = {}
    counts: tuple[CountDelta, ...] = ()


class MergerCore:
    """`PosteriorDelta` of ``sources`` partitions in; snapshot files and pointers, one in each partition, out."""

    def __init__(self, sources: int, settings: PosteriorSettings) -> None:
        self._sources, self._settings = sources, settings
        self._outputs: list[Output] = []
        self._blobs: list[Blob] = []
        self._become(_State(told=[0] * sources))

    def _become(self, state: _State) -> None:
        self._state, self.counters, self._counts = state, state.counters, Counts(state.counts)
        self._last = PosteriorSnapshot(state.snapshot) if state.snapshot else None

    @property
    def watermark(self) -> int:
        """The stamp that every source has told."""
        return min(self._state.told)

    @property
    def progress(self) -> Mapping[str, int]:
        """Nothing: there is one input."""
        return {}

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Keep deltas under their stamp until it is complete."""
        for record in records:
            try:
                told: PosteriorDelta = decode(DELTAS.kind, record.value)
                if not 0 <= told.source < self._sources:
                    raise InvalidEvent(Reason.INVALID, "source", told.source, f"0 to {self._sources - 1}")
            except InvalidEvent as error:
                self._add_to(f"quarantined.{error.reason}")
                self._outputs.append(refuse(NAME, topic, PARTITION, record, error.reason, str(error)))
                continue
            state = self._state
            state.waiting[told.stamp] = state.waiting.get(told.stamp, ()) + told.deltas
            if told.last:
                state.told[told.source] = max(state.told[told.source], told.stamp)
            self._add_to("deltas")

    def advance(self) -> None:
        """Build every stamp that is complete, the oldest first."""
        complete = self.watermark
        for stamp in sorted(stamp for stamp in self._state.waiting if stamp <= complete):
            self._publish(stamp, self._state.waiting.pop(stamp))

    def _publish(self, stamp: int, deltas: tuple[CountDelta, ...]) -> None:
        state, settings = self._state, self._settings
        fresh = Counts(deltas).deltas()
        calibrator = self._calibrator(fresh)
        self._counts.add(fresh)
        data = PosteriorSnapshot.build(self._counts, stamp, settings, calibrator)
        self._last, state.snapshot = PosteriorSnapshot(data), data
        state.version += 1
        checksum = sha256(data)
        path = f"posteriors/{state.version:08d}-{checksum[:8]}.snapshot"
        pointer = SnapshotPointer(state.version, stamp, path, checksum, calibrator.version, self._last.pairs)
        self._blobs.append(Blob(path, data))
        for partition in range(self._sources):
            self._outputs.append(Output(SNAPSHOTS.name, str(state.version).encode(), encode(pointer), partition))
        self._add_to("snapshots")

    def _calibrator(self, fresh: tuple[CountDelta, ...]) -> Calibrator:
        """Fitted on what happened since each of the last snapshots, against what that snapshot had said."""
        state, settings = self._state, self._settings
        if self._last is None or not self._last.pairs:  # before any evidence it said the prior: no fault of the posterior
            return IDENTITY
        outcome_K3 = np.zeros((settings.calibration_bins, 3), np.int64)
        start = 0
        while start < len(fresh):  # sorted by query: one look-up a query
            stop = start
            while stop < len(fresh) and fresh[stop].query == fresh[start].query:
                stop += 1
            group = fresh[start:stop]
            said_N = self._last.raw(group[0].query, [delta.item for delta in group]).mean_N
            examined_N = np.array([delta.examined for delta in group], np.int64)
            clicks_N = np.array([delta.clicks for delta in group], np.int64)
            outcome_K3 += tally(said_N, examined_N, clicks_N, settings.calibration_bins)
            start = stop
        state.outcomes.append(outcome_K3.tolist())
        del state.outcomes[: -settings.calibration_snapshots]
        return fit(np.array(state.outcomes, np.int64).sum(axis=0), state.version + 1, settings, UNIT)

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs and snapshot files since the last call."""
        outputs, blobs = self._outputs, self._blobs
        self._outputs, self._blobs = [], []
        return outputs, blobs

    def dump(self) -> bytes:
        """The state as msgpack."""
        self._state.counts = self._counts.deltas()
        return msgspec.msgpack.encode(self._state)

    def load(self, data: bytes) -> None:
        """Become what `dump` returned."""
        self._become(msgspec.msgpack.decode(data, type=_State))

    def _add_to(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
