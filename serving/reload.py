"""Hot reload: follows promoted checkpoints, reward weights, posterior snapshots and new items, and swaps each in.

What is served is one immutable record; a swap replaces the reference, and a batch takes the reference once. So every
answer is made of one state, and no request waits for a swap. Only the follower's thread writes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import UnknownTopicOrPartitionError

from reward.settings import RewardSettings
from reward.snapshot import PosteriorSnapshot
from schemas.artefacts import Artefacts
from schemas.checkpoints import Promotion
from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import HeadraceError, InvalidEvent, Unavailable
from schemas.events import ItemAdded
from schemas.items import ItemTaker
from schemas.posteriors import SnapshotPointer
from schemas.store import Store
from schemas.topics import ITEMS, PROMOTED, SNAPSHOTS, WEIGHTS, topic
from schemas.weights import RewardWeights
from serving.engine import SearchEngine
from serving.kafka_reader import read
from serving.metrics import Metrics
from serving.ordering import Ordering
from serving.parts import Opened, Parts, open_checkpoint
from serving.settings import ServingSettings
from trainers.lines import Line

log = structlog.get_logger()

FOLLOWED = (ITEMS, PROMOTED, SNAPSHOTS, WEIGHTS)


@dataclass(frozen=True, eq=False)
class Served:
    """What answers requests now."""

    engine: SearchEngine
    step: int
    ordering: Ordering  #: of the book of weights, over the engine
    snapshot: PosteriorSnapshot
    snapshot_version: int = 0  #: 0: none published yet, the prior


class Reloader:
    """Runs in a thread of its own. ``served`` is None until everything is loaded and the topics are read to their end."""

    def __init__(
        self, connections: Connections, store: Store, artefacts: Artefacts, settings: ServingSettings, reward: RewardSettings,
        metrics: Metrics, stop: threading.Event, loaded: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """``loaded`` is called before the first state is shown to anyone."""
        self.served: Served | None = None
        self._parts: Parts
        self._opened: Opened | None = None
        self._connections, self._store, self._artefacts = connections, store, artefacts
        self._line = Line(store, artefacts.frozen)
        self._settings, self._reward = settings, reward
        self._metrics, self._stop, self._loaded = metrics, stop, loaded
        self._taker: ItemTaker
        self._items_read = 0
        self._backlog: list[Any] = []  #: records of this connection that nothing was made of yet
        self._ends: dict[TopicPartition, int] = {}  #: of the topics when it began, until they are reached

    def run(self) -> None:
        """Load, catch up, then follow until ``stop``; a broker that is away only delays it.

        Raises:
            HeadraceError: the run's own artefacts cannot be loaded, or no checkpoint at all.
        """
        self._parts = Parts.load(self._store, self._artefacts, self._reward)
        self._taker = ItemTaker("server", self._artefacts.identifiers, self._parts.identifiers.level_sizes)
        for consumer, records in read(
            self._connections, self._begin, self._stop, self._settings.poll_s, auto_offset_reset="earliest"
        ):
            self._backlog += records
            # Half a topic ends with something old, and the state would go back to it.
            if any(consumer.position(part) < end for part, end in self._ends.items()):
                continue
            backlog, self._backlog, self._ends = self._backlog, [], {}
            if self.served is None:
                # All of the news first: what is shown without them may have items that are gone.
                first = self._follow(self._first(backlog), backlog)
                self._loaded()
                self.served = first
                self._show(first)
                log.info("serving", checkpoint=first.engine.checkpoint, weights=first.ordering.book.version,
                         snapshot=first.snapshot_version)  # fmt: skip
            elif backlog:
                self._follow(self.served, backlog)

    def _begin(self, consumer: KafkaConsumer) -> None:
        """Partition 0 of all four topics, from the beginning: what is known already changes nothing."""
        for followed in FOLLOWED:
            if 0 not in (consumer.partitions_for_topic(followed.name) or ()):
                raise UnknownTopicOrPartitionError(f"{followed.name}; create the topics with `headrace topics --create`")
        parts = [TopicPartition(followed.name, 0) for followed in FOLLOWED]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        self._backlog, self._ends = [], consumer.end_offsets(parts)

    def _first(self, backlog: Sequence[Any]) -> Served:
        """The newest promoted checkpoint that is whole, else the run's frozen one. News are applied over it."""
        for checkpoint in chain((p.checkpoint for p in self._promotions(backlog)), [self._artefacts.frozen]):
            if not checkpoint:
                continue
            try:
                self._opened = policy, manifest = open_checkpoint(self._store, checkpoint)
                engine = self._parts.engine(policy, manifest, self._settings.engine, self._reward)
            except HeadraceError as error:
                if checkpoint == self._artefacts.frozen:
                    raise
                self._refuse("checkpoint", error, checkpoint=checkpoint)
            else:
                ordering = engine.ordering(RewardWeights(), self._settings.control_share)
                return Served(engine, manifest.step, ordering, PosteriorSnapshot.prior(self._reward.posterior))
        raise Unavailable("a checkpoint", "none is promoted and none is frozen", "warm-start with `headrace prepare`")

    def _follow(self, served: Served, records: Sequence[Any]) -> Served:
        """Swap in what is new, quickest first. What cannot be used is logged and counted; the old one stays."""
        # Not the last one: two publishers that cross show an older book for a moment.
        for weights in sorted(self._decoded(records, WEIGHTS.name), key=lambda book: book.version)[-1:]:
            if weights != served.ordering.book and weights.version >= served.ordering.book.version:
                served = self._swap("weights", self._over(served, served.engine, weights))
        for pointer in reversed(self._decoded(records, SNAPSHOTS.name)):
            if pointer.version == served.snapshot_version:
                break
            before, served = served, self._attempt("snapshot", served, partial(self._with_snapshot, pointer))
            if served is not before:
                break  # the newest that can be used
        if added := self._added(records):
            served = self._attempt("items", served, partial(self._with_items, added))
        before = served
        for promotion in self._promotions(records):
            if promotion.checkpoint == served.engine.checkpoint:
                break
            swap = partial(self._with_checkpoint, promotion)
            served = self._attempt("checkpoint", served, swap, checkpoint=promotion.checkpoint)
            if served is not before:
                break  # the newest that can be used
        return served

    def _promotions(self, records: Sequence[Any]) -> Iterator[Promotion]:
        """Those of the line of training that the run's warm start begins, newest first. One by one, as an old one's line is looked up
        in the store."""
        return filter(self._line.promoted, reversed(self._decoded(records, PROMOTED.name)))

    def _with_checkpoint(self, promotion: Promotion, served: Served) -> Served:
        opened = policy, manifest = open_checkpoint(self._store, promotion.checkpoint, self._opened)
        engine = served.engine.with_policy(policy, promotion.checkpoint, manifest.absorbed)
        changed = replace(self._over(served, engine), step=manifest.step)
        self._opened = opened
        return changed

    def _over(self, served: Served, engine: SearchEngine, book: RewardWeights | None = None) -> Served:
        """With another engine or book; the one is compiled over the other here, before any search waits for it."""
        ordering = engine.ordering(book or served.ordering.book, self._settings.control_share)
        return replace(served, engine=engine, ordering=ordering)

    def _with_snapshot(self, pointer: SnapshotPointer, served: Served) -> Served:
        snapshot = PosteriorSnapshot.read(self._store, pointer)
        snapshot.verify()  # here, in the thread that may wait, and not in a search
        return replace(served, snapshot=snapshot, snapshot_version=pointer.version)

    def _with_items(self, added: Sequence[ItemAdded], served: Served) -> Served:
        engine = served.engine.with_items(added, self._parts.relevance_over)
        return served if engine is served.engine else self._over(served, engine)

    def _attempt(self, what: str, served: Served, change: Callable[[Served], Served], **about: str) -> Served:
        """The changed state, swapped in; the old one when the change, which is ``about`` this, is refused or changes nothing."""
        try:
            changed = change(served)
        except HeadraceError as error:
            self._refuse(what, error, **about)
            return served
        return served if changed is served else self._swap(what, changed)

    def _swap(self, what: str, served: Served) -> Served:
        if self.served is not None:  # else the first state is still in the making
            self.served = served
        self._metrics.swaps.labels(what).inc()
        self._show(served)
        log.info("swapped", what=what, checkpoint=served.engine.checkpoint, weights=served.ordering.book.version,
                 snapshot=served.snapshot_version, items=len(served.engine.shelf.catalogue))  # fmt: skip
        return served

    def _show(self, served: Served) -> None:
        self._metrics.step.set(served.step)
        self._metrics.weights.set(served.ordering.book.version)
        self._metrics.snapshot.set(served.snapshot_version)
        self._metrics.items.set(len(served.engine.shelf.catalogue))

    def _refuse(self, what: str, error: HeadraceError, **about: str) -> None:
        self._metrics.refused.labels(what).inc()
        log.error("refused, the one before stays", what=what, error=str(error), **about)

    def _added(self, records: Sequence[Any]) -> list[ItemAdded]:
        """What `catalogue.items` brought that was not read before: each connection begins with the whole topic again."""
        found = []
        for record in records:
            if record.topic == ITEMS.name and record.offset >= self._items_read:
                self._items_read = record.offset + 1
                with suppress(InvalidEvent):
                    found.append(self._taker.take(record.offset, record.value))
        self._taker.tell()
        return found

    def _decoded(self, records: Sequence[Any], name: str) -> list[Any]:
        """This topic's records, in order; one that cannot be read is refused."""
        found = []
        for record in records:
            if record.topic != name or record.value is None:
                continue
            try:
                found.append(decode(topic(name).kind, record.value))
            except InvalidEvent as error:
                self._refuse(name, error, offset=str(record.offset))
        return found
