"""The attribution core: accepts records topic by topic, fires what the watermark has passed.

An event is on time if and only if its time is at least its own topic's running maximum less the allowed lateness. The
watermark is the least of those maxima, less the lateness, so an accepted event is never below it and the result cannot
depend on how topics interleave or where chunks end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

import msgspec

from schemas.codec import decode
from schemas.errors import InvalidEvent
from schemas.events import Click, Impression, Order, Return, Tick
from schemas.quarantine import Reason
from schemas.topics import CLICKS, IMPRESSIONS, INPUTS, ORDERS
from streams.attribution.emission import tick
from streams.attribution.join import Join
from streams.attribution.state import BUCKET_MS, State, Waiting
from streams.runtime.core import Agent, Blob, Output, Record
from streams.runtime.refusal import refuse
from streams.settings import AttributionSettings

NAME = "attribution"

#: Larger events are refused: their view and its example, which say more per item, must still fit the broker's limit.
MAX_EVENT_BYTES = 500_000


class AttributionCore:
    """One partition of the join.

    ``known_items(item)``, when given, says whether the catalogue has an item; an impression that shows an unknown one
    is refused here. Without it the check is left to whoever knows the catalogue (rewarding).
    """

    def __init__(
        self,
        partition: int,
        settings: AttributionSettings | None = None,
        known_items: Callable[[str], bool] | None = None,
    ) -> None:
        self._partition, self._settings, self._known = partition, settings or AttributionSettings(), known_items
        self._lateness = self._settings.lateness_s * 1_000
        self._tolerance = self._settings.future_tolerance_s * 1_000
        self._grid = self._settings.tick_grid_s * 1_000
        self._outputs: list[Output] = []
        self._become(State(newest={topic.name: -1 for topic in INPUTS}, counters={"pending": 0}))

    def _become(self, state: State) -> None:
        self._state = state
        self.counters = state.counters
        self._join = Join(state, self._settings, self._refuse_waiting, self._outputs.append)

    @property
    def watermark(self) -> int:
        """Event time (ms) below which nothing is accepted any more; 0 until every input has had a record."""
        return max(0, min(self._state.newest.values()) - self._lateness)

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Take records of one input in offset order; what is refused at the door goes to quarantine at once."""
        kind = {IMPRESSIONS.name: Impression | Tick, CLICKS.name: Click | Tick, ORDERS.name: Order | Return | Tick}[topic]
        for record in records:
            try:
                self._accept(topic, record, decode(kind, record.value, limit=MAX_EVENT_BYTES))
            except InvalidEvent as error:
                self._refuse(topic, record, error.reason, str(error))

    def _accept(self, topic: str, record: Record, event: Impression | Click | Order | Return | Tick) -> None:
        state = self._state
        newest = state.newest[topic]
        if event.ts > record.timestamp + self._tolerance:
            bound = f"at most {self._tolerance} ms ahead of its record's {record.timestamp}"
            raise InvalidEvent(Reason.FUTURE, "event time", event.ts, bound)
        if isinstance(event, Tick):
            self._count("ticks")
        else:
            if event.ts < newest - self._lateness:
                bound = f"at least {newest - self._lateness}, {topic}'s newest less the lateness"
                raise InvalidEvent(Reason.LATE, "event time", event.ts, bound)
            self._wait(topic, record, event)
        if event.ts > newest:
            state.newest[topic] = event.ts
            # Only a new maximum marks a tick: then the marks below any watermark are the same in every interleaving.
            mark = (event.ts - self._lateness) // self._grid * self._grid
            if mark > 0 and mark != (newest - self._lateness) // self._grid * self._grid:
                heappush(state.marks, mark)

    def _wait(self, topic: str, record: Record, event: Impression | Click | Order | Return) -> None:
        if isinstance(event, Impression):
            self._check_items(event)
        bucket = self._state.bucket(event.ts)
        if isinstance(event, Impression):
            target, name = bucket.impressions, event.request_id
        elif isinstance(event, Click):
            target, name = bucket.clicks, event.item
        elif isinstance(event, Order):
            target, name = bucket.orders, event.order_id
        else:
            target, name = bucket.returns, event.order_id
        target.append(Waiting(event.ts, name, topic, record.offset, record.timestamp, record.value))
        self.counters["pending"] += 1

    def _check_items(self, event: Impression) -> None:
        if self._known is None:
            return
        for entry in event.items:
            if not self._known(entry.item):
                raise InvalidEvent(Reason.UNKNOWN_ITEM, "shown item", entry.item, "in the catalogue")

    def advance(self) -> None:
        """Fire every bucket that ends at or below the watermark, and pass on the marked ticks between them."""
        state = self._state
        limit = self.watermark // BUCKET_MS * BUCKET_MS
        while state.due and (state.due[0] + 1) * BUCKET_MS <= limit:
            key = heappop(state.due)
            end = (key + 1) * BUCKET_MS
            self._pass_ticks(end - 1)
            # Fired before it is forgotten: what it schedules lies in later buckets, or in this one's later phases.
            bucket = state.buckets[key]
            self.counters["pending"] -= sum(map(len, (bucket.impressions, bucket.clicks, bucket.orders, bucket.returns)))
            self._join.fire(key, bucket)
            del state.buckets[key]
            state.frontier = end
        self._pass_ticks(limit)
        state.frontier = max(state.frontier, limit)

    def _pass_ticks(self, until: int) -> None:
        marks = self._state.marks
        while marks and marks[0] <= until:
            mark = heappop(marks)
            while marks and marks[0] == mark:
                heappop(marks)
            self._outputs.append(tick(mark))
            self._count("views.ticks")

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs since the last call."""
        outputs, self._outputs[:] = list(self._outputs), []
        return outputs, []

    def dump(self) -> bytes:
        """The state as msgpack."""
        return msgspec.msgpack.encode(self._state)

    def load(self, data: bytes) -> None:
        """Become what `dump` returned."""
        self._become(msgspec.msgpack.decode(data, type=State))

    def _refuse(self, topic: str, record: Record, reason: str, detail: str) -> None:
        self._count(f"quarantined.{reason}")
        self._outputs.append(refuse(NAME, topic, self._partition, record, reason, detail))

    def _refuse_waiting(self, waiting: Waiting, reason: Reason, detail: str) -> None:
        self._refuse(waiting.topic, Record(waiting.offset, waiting.timestamp, None, waiting.raw), reason, detail)

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1


def attribution_agent(settings: AttributionSettings, known_items: Callable[[str], bool] | None = None) -> Agent:
    """The agent for the runtime."""
    return Agent(NAME, INPUTS, lambda partition: AttributionCore(partition, settings, known_items))
