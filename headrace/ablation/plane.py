"""The event plane in one process: the streams' own cores, one partition of each, fed in order of event time.

What the topics would carry goes from core to core as bytes, so that nothing is simpler here than it is between processes.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence

from headrace.settings import Settings
from headrace.world import Event
from reward.prefixes import Prefixes
from reward.snapshot import PosteriorSnapshot
from schemas.catalogue import Catalogue
from schemas.codec import decode, encode
from schemas.events import Click, Impression, Tick
from schemas.examples import TrainingExample
from schemas.posteriors import SnapshotPointer
from schemas.quarantine import Quarantined
from schemas.topics import CLICKS, DELTAS, EXAMPLES, IMPRESSIONS, INPUTS, ORDERS, QUARANTINE, SNAPSHOTS, VIEWS, Topic
from schemas.views import View
from streams.attribution.core import AttributionCore
from streams.posteriors.counts_core import CountsCore
from streams.posteriors.merger_core import MergerCore
from streams.rewarding.core import RewardingCore, Tiers
from streams.runtime.core import Blob, Core, Output, Record
from trainers.follow import Arrival


class Plane:
    """Events in; posterior snapshots and training examples out. Time is what `advance` says."""

    def __init__(
        self, catalogue: Catalogue, tiers: Tiers, prefixes: Prefixes | None, settings: Settings, learn_from_ms: int
    ) -> None:
        """Views before ``learn_from_ms`` are counted, but become no examples: no learner would take them."""
        posterior = settings.reward.posterior
        self._snapshots: dict[int, PosteriorSnapshot] = {}
        self._prior, self._learn_from_ms = PosteriorSnapshot.prior(posterior), learn_from_ms
        self._attribution = AttributionCore(0, settings.streams.attribution, catalogue.row.__contains__)
        self._counts, self._merger = CountsCore(0, posterior), MergerCore(1, posterior, prefixes and (lambda _: prefixes))
        self._rewarding = RewardingCore(0, catalogue, tiers, lambda pointer: self.rates(pointer), posterior)
        self._every_ms = posterior.snapshot_every_s * 1_000
        self._waiting: list[tuple[int, int, Event]] = []
        self._offered = self._given = 0
        self._offsets: dict[str, int] = {}
        self.pointer: SnapshotPointer | None = None  #: of the newest snapshot
        #: Records that a core would have put into quarantine, by core and reason: a world's clicks may come after their window.
        self.refused: Counter[str] = Counter()

    def offer(self, events: Iterable[Event]) -> None:
        """Events that happen at their time, in any order, none before the present."""
        for event in events:
            self._offered += 1
            heapq.heappush(self._waiting, (event.ts, self._offered, event))

    def advance(self, now_ms: int) -> list[Arrival]:
        """Let event time come to ``now_ms``; the examples that are ready by then, as the learner reads them."""
        made: list[Arrival] = []
        while self._waiting and self._waiting[0][0] + self._every_ms < now_ms:
            made += self._step(self._waiting[0][0] + self._every_ms)  # a snapshot has to be there when its views ask for it
        return made + self._step(now_ms)

    def rates(self, pointer: SnapshotPointer | None) -> PosteriorSnapshot:
        """A snapshot by its pointer; None: the prior, before any event."""
        return self._prior if pointer is None else self._snapshots[pointer.version]

    def _step(self, now_ms: int) -> list[Arrival]:
        batches: dict[str, list[bytes]] = {topic.name: [] for topic in INPUTS}
        while self._waiting and self._waiting[0][0] < now_ms:
            event = heapq.heappop(self._waiting)[2]
            batches[_topic_of(event).name].append(encode(event))
        for topic, values in batches.items():
            self._give(self._attribution, topic, [*values, encode(Tick(now_ms))], now_ms)
        views = self._take(self._attribution, VIEWS)
        self._give(self._counts, VIEWS.name, views, now_ms)
        self._give(self._merger, DELTAS.name, self._take(self._counts, DELTAS), now_ms)
        outputs, blobs = self._drain(self._merger)
        pointers = [decode(SnapshotPointer, output.value) for output in outputs if output.topic == SNAPSHOTS.name]
        for pointer, blob in zip(pointers, blobs, strict=True):
            self._snapshots[pointer.version], self.pointer = PosteriorSnapshot(blob.data), pointer
        self._give(self._rewarding, SNAPSHOTS.name, [encode(pointer) for pointer in pointers], now_ms)
        self._give(self._rewarding, VIEWS.name, [value for value in views if self._learned(value)], now_ms)
        made = []
        for value in self._take(self._rewarding, EXAMPLES):
            made.append(Arrival(0, self._given, decode(TrainingExample, value), now_ms))
            self._given += 1
        self._forget()
        return made

    def _give(self, core: Core, topic: str, values: list[bytes], now_ms: int) -> None:
        first = self._offsets.get(topic, 0)
        core.apply(topic, [Record(first + n, now_ms, None, value) for n, value in enumerate(values)])
        core.advance()
        if core is not self._counts:  # which reads what rewarding reads after it
            self._offsets[topic] = first + len(values)

    def _take(self, core: Core, topic: Topic) -> list[bytes]:
        return [output.value for output in self._drain(core)[0] if output.topic == topic.name]

    def _drain(self, core: Core) -> tuple[Sequence[Output], Sequence[Blob]]:
        outputs, blobs = core.drain()
        refusals = [decode(Quarantined, output.value) for output in outputs if output.topic == QUARANTINE.name]
        self.refused.update(f"{refusal.agent}: {refusal.reason}" for refusal in refusals)
        return outputs, blobs

    def _learned(self, value: bytes) -> bool:
        record: View | Tick = decode(VIEWS.kind, value)
        return isinstance(record, Tick) or record.ts >= self._learn_from_ms

    def _forget(self) -> None:
        """Snapshots that no view can ask for any more: those well before the newest."""
        for version in sorted(self._snapshots)[:-_KEPT]:
            del self._snapshots[version]


#: Snapshots kept: views wait for at most one, and learners ask for the newest.
_KEPT = 8


def _topic_of(event: Event) -> Topic:
    if isinstance(event, Impression):
        return IMPRESSIONS
    return CLICKS if isinstance(event, Click) else ORDERS
