"""The attribution core: accepts records topic by topic, settles what the watermark has passed.

An event is on time if and only if its time is at least its own topic's running maximum less the allowed lateness. The
watermark is the least of those maxima, less the lateness, so an accepted event is never below it and the result cannot
depend on how topics interleave or where chunks end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from heapq import heappop, heappush

from schemas.codec import event_decoder
from schemas.errors import InvalidEvent
from schemas.events import Click, Event, Impression, Order, Return, Tick
from schemas.integrity import Sample
from schemas.quarantine import Reason
from schemas.store import sha256
from schemas.topics import CLICKS, FACTS, IMPRESSIONS, INPUTS, ORDERS, VIEWS
from streams.attribution.emission import tick
from streams.attribution.join import Join
from streams.attribution.state import BUCKET_MS, PLACES, Phase, State, Waiting, load
from streams.attribution.window import TOPIC_OF
from streams.runtime.core import Agent, Blob, Output, Record
from streams.runtime.refusal import refuse
from streams.settings import AttributionSettings

NAME = "attribution"

#: Larger events are refused: their view and its example, which say more per item, must still fit the broker's limit.
MAX_EVENT_BYTES = 500_000

_DECODERS = {
    topic.name: event_decoder(kind, MAX_EVENT_BYTES)
    for topic, kind in ((IMPRESSIONS, Impression | Tick), (CLICKS, Click | Tick), (ORDERS, Order | Return | Tick))
}


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
        self._width = self._settings.integrity_window_s * 1_000
        self._outputs: list[Output] = []
        self._become(State(newest={topic.name: -1 for topic in INPUTS}))

    def _become(self, state: State) -> None:
        self._state = state
        self.counters = state.counters
        self._join = Join(state, self._settings, self._refuse_waiting, self._repeat_waiting, self._outputs.append)

    @property
    def state(self) -> State:
        """All there is, for `streams.attribution.alignment`; the runtime uses `dump` and `load`."""
        return self._state

    @property
    def watermark(self) -> int:
        """Event time (ms) below which nothing is accepted any more; 0 until every input has had a record."""
        return max(0, min(self._state.newest.values()) - self._lateness)

    @property
    def progress(self) -> Mapping[str, int]:
        """Newest event time (ms) of each input."""
        return self._state.newest

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Take records of one input in offset order; what is refused at the door goes to quarantine at once."""
        decode, newest, pending = _DECODERS[topic], self._state.newest[topic], 0
        for record in records:
            try:
                event, canonical = decode(record.value)
                if event.ts > record.timestamp + self._tolerance:
                    raise _of_the_future(event.ts, record.timestamp, self._settings.future_tolerance_s)
                if type(event) is Tick:
                    self._count("ticks")
                elif event.ts >= newest - self._lateness:
                    self._wait(record, event, canonical)
                    pending += 1
                else:
                    bound = f"at least {newest - self._lateness}, {topic}'s newest less the lateness"
                    raise InvalidEvent(Reason.LATE, "event time", event.ts, bound)
            except InvalidEvent as error:
                self._refuse(topic, record, error.reason, str(error))
                sample = Sample("", topic, self._partition, record.offset, error.reason)
                self._state.window.refuse_at_door(max(newest, 0) // self._width * self._width, topic, sample)
                continue
            if event.ts > newest:
                self._mark(newest, event.ts)
                newest = event.ts
        self._state.newest[topic] = newest
        self.counters["pending"] += pending

    def _wait(self, record: Record, event: Event, canonical: bool) -> None:
        phase: int
        if type(event) is Impression:
            phase, name = Phase.IMPRESSIONS, event.request_id
            if self._known is not None:
                _check_items(event, self._known)
        elif type(event) is Click:
            phase, name = Phase.CLICKS, event.item
        elif type(event) is Order:
            phase, name = Phase.ORDERS, event.order_id
        else:
            assert type(event) is Return
            phase, name = Phase.RETURNS, event.order_id
        waiting = Waiting(event.ts, name, event.user, record.offset, record.timestamp, record.value, canonical)
        self._state.plan(event.ts // BUCKET_MS, phase, waiting)

    def _mark(self, before: int, newest: int) -> None:
        """Only a new maximum marks a tick: then the marks below any watermark are the same in every interleaving."""
        mark = (newest - self._lateness) // self._grid * self._grid
        if mark > 0 and mark != (before - self._lateness) // self._grid * self._grid:
            heappush(self._state.marks, mark)

    def advance(self) -> None:
        """Settle every bucket that ends at or below the watermark, and pass on the marked ticks between them."""
        state, due, window = self._state, self._state.due, self._state.window
        limit = self.watermark // BUCKET_MS
        while due and due[0] < limit * PLACES:
            place = heappop(due)
            second, phase = divmod(place, PLACES)
            state.frontier = (second + 1) * BUCKET_MS
            if state.marks and state.marks[0] < state.frontier:
                self._pass_ticks(state.frontier - 1)
            if second * BUCKET_MS - window.start >= self._width:
                self._pass_window(second * BUCKET_MS)
            things = state.agenda.pop(place)
            if phase <= Phase.RETURNS:
                self.counters["pending"] -= len(things)
                window.settling(phase, things, self._partition)
            self._join.settle(second, phase, things)
        state.frontier = max(state.frontier, limit * BUCKET_MS)
        self._pass_ticks(limit * BUCKET_MS)

    def _pass_window(self, now: int) -> None:
        """Asked at buckets and at ticks only: those below a watermark are the same in every interleaving."""
        if (start := now // self._width * self._width) > self._state.window.start:
            self._outputs += self._state.window.pass_to(start, self._width, self._partition)

    def _pass_ticks(self, until: int) -> None:
        marks = self._state.marks
        while marks and marks[0] <= until:
            mark = heappop(marks)
            while marks and marks[0] == mark:
                heappop(marks)
            self._pass_window(mark)
            self._outputs.append(tick(mark))
            self._count("views.ticks")

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs since the last call."""
        outputs, self._outputs[:] = list(self._outputs), []
        return outputs, []

    def dump(self) -> bytes:
        """The state as msgpack."""
        return self._state.dump()

    def load(self, data: bytes) -> None:
        """Become what `dump` returned. Under other windows than it was dumped with, the present ones hold for every view
        and order that is still open; what they make overdue is settled with the next `advance`."""
        s = self._settings
        self._become(load(data, s.click_window_s * 1_000, s.order_window_s * 1_000, s.return_window_s * 1_000))

    def _refuse(self, topic: str, record: Record, reason: str, detail: str) -> None:
        self._count(f"quarantined.{reason}")
        self._outputs.append(refuse(NAME, topic, self._partition, record, reason, detail))

    def _refuse_waiting(self, phase: int, waiting: Waiting, reason: Reason, detail: str) -> None:
        self._refuse(TOPIC_OF[phase], Record(waiting.offset, waiting.timestamp, None, waiting.raw), reason, detail)
        self._state.window.refuse(phase, waiting, reason, self._partition)

    def _repeat_waiting(self, phase: int, waiting: Waiting) -> None:
        self._count("duplicates")
        self._state.window.repeat(phase, waiting, self._partition)

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1


def _of_the_future(ts: int, now: int, tolerance_s: int) -> InvalidEvent:
    """``now``: the broker's time for the record (ms)."""
    what, ahead_s = f"event time ({_utc(ts)})", round((ts - now) / 1_000)
    bound = f"at most {tolerance_s} s ahead of now ({_utc(now)}, the broker's clock), and is {ahead_s:,} s ahead"
    remedy = "set the producer's clock and send it anew, or raise streams.attribution.future_tolerance_s and replay it"
    return InvalidEvent(Reason.FUTURE, what, ts, bound, remedy)


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds")


def _check_items(event: Impression, known: Callable[[str], bool]) -> None:
    for entry in event.items:
        if not known(entry.item):
            raise InvalidEvent(Reason.UNKNOWN_ITEM, "shown item", entry.item, "in the catalogue")


def attribution_agent(settings: AttributionSettings, known_items: Callable[[str], bool] | None = None) -> Agent:
    """The agent for the runtime."""
    rules = sha256(settings.model_dump_json().encode())[:16]
    return Agent(
        NAME, INPUTS, (VIEWS, FACTS), lambda partition: AttributionCore(partition, settings, known_items), rules=rules
    )
