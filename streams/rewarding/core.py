"""The rewarding core: a view waits for the posterior of its own time, then becomes a training example.

A view emitted at e takes the newest snapshot stamped before e, which is the one at the last multiple of
``snapshot_every_s`` below e: the counts core closes that stamp when it meets the view, so it always comes. Up to the
first multiple there is none, and the prior stands as version 0. So a replay gives a view the posterior it had then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

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

NAME: Final = "rewarding"


class Tiers(Protocol):
    """What is needed of `reward.relevance.RelevanceScorer`."""

    @property
    def version(self) -> str:
        """Names the scorer in every example."""

    def tiers(self, query: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """(tier, confidence) of catalogue rows."""


class Later(Protocol):
    """What became of the catalogue since: `streams.rewarding.newcomers.Newcomers` is one."""

    def look(self) -> None:
        """Read on."""

    def knows(self, item: str) -> bool:
        """Whether an item has ever been there, as far as was read."""

    def at(self, emitted_at: int, items: Sequence[str]) -> tuple[Mapping[str, int], Tiers]:
        """Rows and scorer for a view of that time that shows these items: the same whenever it is asked."""


class _State(msgspec.Struct):
    waiting: list[View] = []
    pointers: list[SnapshotPointer] = []  # ascending; the first one may still be needed
    newest: int = 0
    counters: dict[str, int] = {}


class RewardingCore:
    """Views and snapshot pointers in, `TrainingExample` out.

    ``load(pointer)`` reads an immutable snapshot file: a pure function of the pointer. ``later`` has what became of the items
    since (`streams.item_log` says why that is the same at every replay); it is made to look at most once for the records of
    one `apply`, when one shows an item that is not known.
    """

    def __init__(
        self,
        partition: int,
        catalogue: Catalogue,
        relevance: Tiers,
        load: Callable[[SnapshotPointer], PosteriorSnapshot],
        settings: PosteriorSettings,
        later: Later | None = None,
    ) -> None:
        self._later, self._looked = later, False
        self._partition, self._rows, self._tiers, self._load = partition, catalogue.row, relevance, load
        self._every = settings.snapshot_every_s * 1_000
        self._prior = PosteriorSnapshot.prior(settings)
        self._outputs: list[Output] = []
        self._state = _State()
        self.counters = self._state.counters

    @property
    def watermark(self) -> int:
        """Event time (ms) below which every view has become an example."""
        waiting = self._state.waiting
        return waiting[0].emitted_at if waiting else self._state.newest

    @property
    def progress(self) -> Mapping[str, int]:
        """Newest event time (ms) of the views, and that up to which views have their snapshot."""
        pointers = self._state.pointers
        return {VIEWS.name: self._state.newest, SNAPSHOTS.name: (pointers[-1].stamp if pointers else 0) + self._every}

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Take views or pointers; what cannot be used goes to quarantine."""
        self._looked = False
        for record in records:
            try:
                if topic == SNAPSHOTS.name:
                    self._take_pointer(decode(SNAPSHOTS.kind, record.value))
                else:
                    self._take(decode(VIEWS.kind, record.value))
            except InvalidEvent as error:
                self._add_to(f"quarantined.{error.reason}")
                self._outputs.append(refuse(NAME, topic, self._partition, record, error.reason, str(error)))

    def _take_pointer(self, pointer: SnapshotPointer) -> None:
        self._state.pointers.append(pointer)
        self._add_to("snapshots")

    def _take(self, event: View | Tick) -> None:
        if isinstance(event, Tick):
            self._state.newest = max(self._state.newest, event.ts)
            self._add_to("ticks")
            return
        for entry in event.items:
            if not self._knows(entry.item):
                raise InvalidEvent(Reason.UNKNOWN_ITEM, "shown item", entry.item, "in the catalogue")
        self._state.newest = max(self._state.newest, event.emitted_at)
        self._state.waiting.append(event)
        self._add_to("views")

    def _knows(self, item: str) -> bool:
        if item in self._rows or self._later is None:
            return item in self._rows
        if not self._later.knows(item) and not self._looked:
            self._looked = True
            self._later.look()
        return self._later.knows(item)

    def advance(self) -> None:
        """Every view whose snapshot is there becomes an example, in order."""
        state = self._state
        done = 0
        for view in state.waiting:
            stamp = (view.emitted_at - 1) // self._every * self._every
            if stamp > 0 and (not state.pointers or state.pointers[-1].stamp < stamp):
                break
            # Views come in order of emitted_at: a pointer with a later one behind it, also early enough, is done with.
            while len(state.pointers) > 1 and state.pointers[1].stamp < view.emitted_at:
                del state.pointers[0]
            early = state.pointers and state.pointers[0].stamp < view.emitted_at
            self._emit(view, state.pointers[0] if early else None)
            done += 1
        del state.waiting[:done]
        # Hours without a view leave pointers behind; the next view is emitted no earlier than the newest time seen.
        while not state.waiting and len(state.pointers) > 1 and state.pointers[1].stamp < state.newest:
            del state.pointers[0]

    def _emit(self, view: View, pointer: SnapshotPointer | None) -> None:
        snapshot, version = (self._load(pointer), pointer.version) if pointer else (self._prior, 0)
        names = [entry.item for entry in view.items]
        rows, tiers = self._later.at(view.emitted_at, names) if self._later else (self._rows, self._tiers)
        tier_N, confidence_N = tiers.tiers(view.query, np.array([rows[name] for name in names], np.int64))
        ctr = snapshot.ctr(normalise(view.query), names)
        facts = zip(view.items, tier_N.tolist(), confidence_N.tolist(), *(column.tolist() for column in ctr), strict=True)
        example = TrainingExample(
            example_id=view.view_id,
            request_id=view.request_id,
            status=view.status,
            revision=view.revision,
            ts=view.ts,
            emitted_at=view.emitted_at,
            user=view.user,
            query=view.query,
            items=tuple(
                ExampleItem(
                    e.item, e.position, e.propensity, tier, confidence, mean, variance, e.clicks, e.orders, e.value, ess
                )
                for e, tier, confidence, mean, variance, ess in facts
            ),
            relevance_version=tiers.version,
            snapshot_version=version,
            recent_queries=view.recent_queries,
            recent_items=view.recent_items,
            candidates=view.candidates,
            checkpoint=view.checkpoint,
            weights_version=view.weights_version,
            trace=view.trace,
            calibrator_version=snapshot.calibrator.version,
            segment=view.segment,
            market=view.market,
            recent_orders=view.recent_orders,
            filter=view.filter,
        )
        self._outputs.append(Output(EXAMPLES.name, view.user.encode(), encode(example)))
        self._add_to("examples")

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs, []

    def dump(self) -> bytes:
        """The state as msgpack."""
        return msgspec.msgpack.encode(self._state)

    def load(self, data: bytes) -> None:
        """Become what `dump` returned."""
        self._state = msgspec.msgpack.decode(data, type=_State)
        self.counters = self._state.counters

    def _add_to(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
