"""Deltas of all partitions added up, and a snapshot published at every stamp that any of them told.

A stamp is built when every source has told it or a later one. The set of stamps and what each holds follow from the
sources' own logs, so snapshots do not depend on how the sources interleave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from reward.calibration import IDENTITY, Calibrator, fit, tally
from reward.counts import UNIT, Counts
from reward.eviction import sweep
from reward.prefixes import Prefixes
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.codec import decode, encode
from schemas.errors import Incompatible, InvalidEvent
from schemas.posteriors import CountDelta, PosteriorDelta, SnapshotPointer
from schemas.quarantine import Reason
from schemas.topics import DELTAS, SNAPSHOTS
from streams.posteriors.counts_core import same_buckets
from streams.runtime.core import Blob, Output, Record
from streams.runtime.refusal import refuse

NAME: Final = "posteriors-merger"
#: Of the deltas: the only one there is.
PARTITION: Final = 0
#: Of the state that `MergerCore.dump` gives.
FORM: Final = 2


class _State(msgspec.Struct):
    told: list[int]  # per source: the last stamp told; 0 before any
    waiting: dict[int, tuple[CountDelta, ...]] = {}
    version: int = 0
    snapshot: bytes = b""  # the last one published: what outcomes are compared with
    outcomes: list[list[list[int]]] = []  # per snapshot: bins x (examined, predicted, clicks)
    counters: dict[str, int] = {}
    rows: bytes = b""  # `Counts.dump`
    form: int = FORM
    bucket_s: int = 0  # what the buckets of ``waiting`` and ``rows`` are counted in; 0: not told, as by versions before


class _Form(msgspec.Struct):
    form: int = 1


class MergerCore:
    """`PosteriorDelta` of ``sources`` partitions in; snapshot files and pointers, one in each partition, out."""

    def __init__(self, sources: int, settings: PosteriorSettings, prefixes: Callable[[int], Prefixes] | None = None) -> None:
        """``prefixes(stamp)``: of the items' identifiers at that event time, the level between item and whole; None: there is
        none."""
        self._sources, self._settings, self._prefixes = sources, settings, prefixes
        self._outputs: list[Output] = []
        self._blobs: list[Blob] = []
        self._become(_State(told=[0] * sources, bucket_s=settings.bucket_s))

    def _become(self, state: _State) -> None:
        self._state, self.counters, self._counts = state, state.counters, Counts.load(state.rows)
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
        prefixes = self._prefixes(stamp) if self._prefixes else None
        fresh = Counts(deltas)
        calibrator = self._calibrator(fresh)
        self._counts.merge(fresh.rows)
        swept = sweep(self._counts, stamp, settings, prefixes.item_I if prefixes else None)
        self._add_to("evicted_pairs", swept.evicted)
        self._add_to("forgotten_rows", swept.forgotten)
        state.version += 1
        data = PosteriorSnapshot.build(self._counts, stamp, settings, calibrator, state.version, prefixes)
        self._last, state.snapshot = PosteriorSnapshot(data), data
        path = f"posteriors/{state.version:08d}-{self._last.sha256[:8]}.snapshot"
        pointer = SnapshotPointer(
            version=state.version,
            stamp=stamp,
            path=path,
            sha256=self._last.sha256,
            calibrator_version=calibrator.version,
            pairs=self._last.pairs,
            examination_version=self._last.examination.version,
            identifiers=self._last.identifiers,
            evicted=self.counters["evicted_pairs"],
            corrector=calibrator.corrector,
        )
        self._blobs.append(Blob(path, data))
        for partition in range(self._sources):
            self._outputs.append(Output(SNAPSHOTS.name, str(state.version).encode(), encode(pointer), partition))
        self._add_to("snapshots")

    def _calibrator(self, fresh: Counts) -> Calibrator:
        """Fitted on what happened since each of the last snapshots, against what that snapshot had said."""
        state, settings, last = self._state, self._settings, self._last
        if last is None or not last.pairs:  # before any evidence it said the prior: no fault of the posterior
            return IDENTITY
        rows = fresh.rows
        said_R = last.raw_by_key(rows.pair_R, rows.item_R).mean_N
        examined_R = np.rint(rows.examined_R * last.examination.at(rows.position_R)).astype(np.int64)
        outcome_K3 = tally(said_R, examined_R, rows.clicks_R, settings.calibration_bins)
        kept = max(settings.calibration_snapshots, settings.corrector_snapshots)
        state.outcomes = [*state.outcomes, outcome_K3.tolist()][-kept:]
        return fit([np.array(one, np.int64) for one in state.outcomes], state.version + 1, settings, UNIT)

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs and snapshot files since the last call."""
        outputs, blobs = self._outputs, self._blobs
        self._outputs, self._blobs = [], []
        return outputs, blobs

    def dump(self) -> bytes:
        """The state as msgpack."""
        self._state.rows = self._counts.dump()
        return msgspec.msgpack.encode(self._state)

    def load(self, data: bytes) -> None:
        """Become what `dump` returned.

        Raises:
            Incompatible: another version of Headrace dumped it, or it was dumped under another `PosteriorSettings.bucket_s`.
        """
        form = msgspec.msgpack.decode(data, type=_Form).form
        if form != FORM:
            remedy = (
                "counts of that form cannot be read: start a new run folder, or new topics, and replay the events into it"
            )
            raise Incompatible(f"form of the state of {NAME}", FORM, form, remedy)
        state = msgspec.msgpack.decode(data, type=_State)
        state.bucket_s = same_buckets(NAME, state.bucket_s, self._settings)
        self._become(state)

    def _add_to(self, name: str, count: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + count
