"""Attaches tier, CTR, clicks and orders to every shown item, as of event time.

A view emitted at t takes the snapshot of the last stamp of the grid at or before t, and waits until a snapshot of that
stamp or a later one has been announced. So every view gets the posterior it would have had then, in a replay too,
however the two inputs interleave. Before the first snapshot that is version 0, the prior.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from reward.relevance import RelevanceScorer
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from reward.text import normalise
from schemas.catalogue import Catalogue
from schemas.codec import decode, encode
from schemas.errors import InvalidEvent
from schemas.events import Tick
from schemas.examples import ExampleItem, TrainingExample
from schemas.posteriors import SnapshotPointer
from schemas.quarantine import Reason
from schemas.topics import EXAMPLES, SNAPSHOTS, VIEWS
from schemas.views import View
from streams.runtime.core import Blob, Output, Record
from streams.runtime.refusal import refuse

NAME = "rewarding"
#: Reads the snapshot that a pointer names: an immutable file, so a pure function of the pointer.
Load = Callable[[SnapshotPointer], PosteriorSnapshot]


class _Waiting(msgspec.Struct, array_like=True):
    offset: int
    timestamp: int
    value: bytes


class _State(msgspec.Struct):
    now: int
    waiting: list[_Waiting]
    pointers: list[SnapshotPointer]
    counters: dict[str, int]


class RewardingCore:
    """One partition of search.views, beside the same partition of posteriors.snapshots."""

    def __init__(
        self, partition: int, catalogue: Catalogue, relevance: RelevanceScorer, load: Load, settings: PosteriorSettings
    ) -> None:
        self._partition, self._catalogue, self._relevance, self._load = partition, catalogue, relevance, load
        self._grid = settings.snapshot_every_s * 1_000
        self._prior = PosteriorSnapshot.prior(settings)
        self._now = 0
        self._waiting: deque[_Waiting] = deque()
        self._head: View | None = None
        self._pointers: deque[SnapshotPointer] = deque()
        self._opened: tuple[int, PosteriorSnapshot] = (0, self._prior)
        self._outputs: list[Output] = []
        self.counters: dict[str, int] = {}

    @property
    def watermark(self) -> int:
        """Emission time of the newest view or tick that was read."""
        return self._now

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Queue views and snapshot pointers."""
        for record in records:
            try:
                message = decode(SNAPSHOTS.kind if topic == SNAPSHOTS.name else VIEWS.kind, record.value)
            except InvalidEvent as error:
                self._refuse(topic, record, error.reason, str(error))
                continue
            if isinstance(message, SnapshotPointer):
                self._pointers.append(message)
            elif isinstance(message, Tick):
                self._now = max(self._now, message.ts)
                self._count("ticks")
            else:
                self._now = max(self._now, message.emitted_at)
                self._count("views")
                self._waiting.append(_Waiting(record.offset, record.timestamp, record.value))

    def advance(self) -> None:
        """Reward every view whose snapshot is known, in the order of the views."""
        while self._waiting:
            view = self._head or decode(VIEWS.kind, self._waiting[0].value)
            stamp = view.emitted_at // self._grid * self._grid
            if not self._pointers or self._pointers[-1].stamp < stamp:
                self._head = view
                return
            waiting, self._head = self._waiting.popleft(), None
            try:
                example = self._example(view, *self._snapshot(stamp))
            except InvalidEvent as error:
                record = Record(waiting.offset, waiting.timestamp, None, waiting.value)
                self._refuse(VIEWS.name, record, error.reason, str(error))
                continue
            self._outputs.append(Output(EXAMPLES.name, view.user.encode(), encode(example)))
            self._count("examples")

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs, []

    def dump(self) -> bytes:
        """The state as msgpack."""
        return msgspec.msgpack.encode(_State(self._now, list(self._waiting), list(self._pointers), self.counters))

    def load(self, data: bytes) -> None:
        """Become what `dump` returned."""
        state = msgspec.msgpack.decode(data, type=_State)
        self._now, self.counters, self._head = state.now, state.counters, None
        self._waiting, self._pointers = deque(state.waiting), deque(state.pointers)

    def _snapshot(self, stamp: int) -> tuple[int, PosteriorSnapshot]:
        """(version, snapshot) of the newest stamp at or before ``stamp``; older pointers are dropped, stamps never fall."""
        while len(self._pointers) > 1 and self._pointers[1].stamp <= stamp:
            self._pointers.popleft()
        pointer = self._pointers[0]
        if pointer.stamp > stamp:
            return 0, self._prior
        if self._opened[0] != pointer.version:
            self._opened = (pointer.version, self._load(pointer))
        return self._opened

    def _example(self, view: View, version: int, snapshot: PosteriorSnapshot) -> TrainingExample:
        items = [item.item for item in view.items]
        unknown = [item for item in items if item not in self._catalogue.row]
        if unknown:
            raise InvalidEvent(Reason.UNKNOWN_ITEM, "shown item", unknown[0], "in the catalogue")
        rows = np.array([self._catalogue.row[item] for item in items], np.int64)
        tier_k, confidence_k = self._relevance.tiers(view.query, rows)
        ctr_k = snapshot.ctr(normalise(view.query), items)
        shown = tuple(
            ExampleItem(
                item=item.item,
                position=item.position,
                propensity=item.propensity,
                tier=int(tier_k[n]),
                tier_confidence=float(confidence_k[n]),
                ctr=float(ctr_k.mean_N[n]),
                ctr_variance=float(ctr_k.variance_N[n]),
                clicks=item.clicks,
                orders=item.orders,
                value=item.value,
            )
            for n, item in enumerate(view.items)
        )
        return TrainingExample(
            example_id=view.view_id,
            request_id=view.request_id,
            status=view.status,
            revision=view.revision,
            ts=view.ts,
            emitted_at=view.emitted_at,
            user=view.user,
            query=view.query,
            items=shown,
            relevance_version=self._relevance.version,
            snapshot_version=version,
            recent_queries=view.recent_queries,
            recent_items=view.recent_items,
            candidates=view.candidates,
            checkpoint=view.checkpoint,
            weights_version=view.weights_version,
        )

    def _refuse(self, topic: str, record: Record, reason: str, detail: str) -> None:
        self._count(f"quarantined.{reason}")
        self._outputs.append(refuse(NAME, topic, self._partition, record, reason, detail))

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
