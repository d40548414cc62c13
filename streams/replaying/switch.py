"""Lets `search.views` take over the labels of a rebuilt topic, through the life of labels: nobody's offsets change.

For every view whose last live revision is not what was joined anew, a correcting revision goes into the live topic; in the same
transaction of each partition go the state that was joined anew, brought in line with what the topic then says, and the commit
record that makes attribution go on from it. All partitions are prepared before any counts.

The join is done anew up to the offsets that attribution has committed, since its next record is the one after them. Most of it
is done before the workers are fenced, so that they are held up for a moment only.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from schemas.commits import Commit
from schemas.connections import Connections
from schemas.errors import Corrupt, Incompatible, InvalidRequest
from schemas.topics import INPUTS, VIEWS
from streams.attribution.alignment import Told, align, unjoined, untold
from streams.attribution.core import NAME, AttributionCore
from streams.replaying.clients import TIMEOUT_S, new_reader, new_writer
from streams.replaying.corrections import label, revisions
from streams.replaying.marks import rebuilt
from streams.replaying.plan import Plan, Switched, commit_all
from streams.replaying.side import Anew, Live
from streams.replaying.span import event_time
from streams.runtime.commit_log import last_commit, split
from streams.runtime.log import LogReader
from streams.settings import StreamSettings

#: Records from an input's first kept offset on whose newest time is taken for that of what was deleted.
LOOK = 100


def switch_views(
    connections: Connections,
    settings: StreamSettings,
    topic: str,
    name: str,
    dry_run: bool = False,
    on_partition: Callable[[int, int], None] = lambda done, total: None,
) -> list[Switched]:
    """Correct the live views to those of ``name``, a finished rebuild of all of them by these settings.

    Repeatable: where nothing differs any more nothing is sent. ``dry_run``: only count.

    Raises:
        InvalidRequest: another topic than `search.views`, or ``name`` is not a whole rebuild of it.
        Incompatible: ``name`` is unfinished, or made by other code, settings or inputs than today's.
        Corrupt: the inputs no longer keep what views that may still change are made of.
        Conflict: an attribution worker took a partition back.
        Unavailable: the broker does not answer.
    """
    reader = new_reader(connections)
    _check(reader, connections, topic, name)
    sides = [_Side(reader, connections, settings, name, partition) for partition in range(connections.partitions)]
    for done, side in enumerate(sides):
        side.follow()
        on_partition(done + 1, len(sides))
    for side in sides:
        side.check()
    if dry_run:
        return [side.plan().counts for side in sides if side.commit]
    writers = [new_writer(connections, f"{NAME}-{side.partition}", settings.runtime.transaction_timeout_s) for side in sides]
    for writer in writers:
        writer.open(TIMEOUT_S)
    for side in sides:
        side.follow()
    begun = [(writer, side.plan()) for writer, side in zip(writers, sides, strict=True) if side.commit]
    commit_all(begun)
    return [plan.counts for _, plan in begun]


def _check(reader: LogReader, connections: Connections, topic: str, name: str) -> None:
    if topic != VIEWS.name:
        remedy = "what is downstream of the views follows their corrections by itself"
        raise InvalidRequest("topic to switch", topic, VIEWS.name, remedy)
    made = rebuilt(reader, connections, name)
    if made.name == VIEWS.name or made.of is not VIEWS:
        raise InvalidRequest("topic to switch to", name, f"a rebuild of {VIEWS.name}", "make one: headrace replay --into")
    if not made.span.whole:
        raise InvalidRequest("topic to switch to", name, "a rebuild of all times", "rebuild it without --from and --to")


class _Side:
    """One partition: both sides, and what makes one of them the other."""

    def __init__(
        self, reader: LogReader, connections: Connections, settings: StreamSettings, name: str, partition: int
    ) -> None:
        self._reader, self._connections, self._settings, self.partition = reader, connections, settings, partition
        self.commit: Commit | None = None  #: None: attribution never wrote there, so there is nothing to switch
        starts = {t.name: reader.bounds(t.name, partition)[0] for t in INPUTS}
        core = AttributionCore(partition, settings.attribution)
        self._live, self._anew = Live(reader, partition), Anew(reader, core, name, partition, starts)
        self._horizon = max([0, *(self._kept_from(topic, low) for topic, low in starts.items() if low)])

    def _kept_from(self, topic: str, low: int) -> int:
        """Event time from which all of a topic that has lost its beginning is there."""
        rules, times = self._settings.attribution, [0]
        high = self._reader.bounds(topic, self.partition)[1]
        for batch in self._reader.read(topic, self.partition, low, min(high, low + LOOK)):
            told = ((event_time(r.value), r.timestamp + rules.future_tolerance_s * 1_000) for r in batch)
            times += [ts for ts, latest in told if ts <= latest]
        return max(times) + rules.lateness_s * 1_000

    def follow(self) -> None:
        """Bring both sides to the last commit."""
        self.commit = last_commit(self._reader, NAME, self.partition, self._connections.partitions)
        if self.commit:
            self._anew.follow(self.commit)
            self._live.follow()

    def check(self) -> None:
        """Whether there could be a plan; nobody is fenced before this has been asked.

        Raises:
            Corrupt: views that may still change are older than what the inputs keep.
            Incompatible: the live topic tells views that the join done anew has not come to.
        """
        rules = self._settings.attribution
        if waiting := unjoined(self._anew.core) & self._live.views.keys():
            raise Incompatible(
                f"view {min(waiting)} of partition {self.partition}", "an impression below the watermark", "one above it",
                f"streams.attribution.lateness_s, {rules.lateness_s}, was raised by more than a click window: raise it in smaller steps",
            )  # fmt: skip
        windows_ms = (rules.click_window_s + rules.order_window_s + rules.return_window_s) * 1_000
        oldest = self._anew.core.watermark - windows_ms
        if self._horizon and self._horizon > oldest:
            raise Corrupt(
                f"inputs of {NAME}, partition {self.partition}",
                f"kept whole from event time {self._horizon}, but views back to {oldest} may still change",
                "lengthen the retention of the event topics, and wait for as long",
            )

    def plan(self) -> Plan:
        """What to write; the state joined anew is brought in line, so this side is done with. Raises as `check`."""
        assert self.commit is not None  # who asks for a plan has looked
        horizon = max(self._horizon, self._live.first if self._live.low else 0)
        self.check()
        changes = self._changes(horizon)
        at = max(self._live.newest, self._anew.newest)
        live = self._live.again(r for r in changes if r in self._live.views)
        anew = self._anew.again(r for r in changes if r in self._anew.views)
        corrections = [view for r in changes for view in revisions(live.get(r), anew.get(r), at)]
        told = {r: Told(said.revision) for r, said in self._live.views.items()}
        told |= {r: Told(v.revision, label(v)) for r, v in self._live.again(self._still_to_come()).items()}
        told |= {v.request_id: Told(v.revision) for v in corrections}
        core = self._anew.core
        align(core, told, at)
        counts = Switched(
            self.partition,
            corrected=len(live.keys() & anew.keys()),
            taken_back=len(live.keys() - anew.keys()),
            introduced=len(anew.keys() - live.keys()),
            before_horizon=sum(said.ts < horizon for said in ({**self._live.views, **self._anew.views}).values()),
        )
        last, state = self.commit, core.dump()
        commit = Commit(
            NAME, self.partition, last.sequence + 1, last.next_offsets, -1, core.watermark, dict(core.counters),
            int(time.time() * 1_000), reached=last.reached, topic_ids=last.topic_ids,
        )  # fmt: skip
        size = self._settings.runtime.snapshot_part_bytes
        parts = split(NAME, self.partition, commit.sequence, commit.next_offsets, state, size)
        return Plan(counts, corrections, parts, commit, self._connections.partitions)

    def _changes(self, horizon: int) -> list[str]:
        """Views that the two sides say different things of."""
        live, anew = self._live.views, self._anew.views
        gone = {r for r, old in live.items() if old.gone}
        unchanged = {r for r, new in anew.items() if r in live and live[r].digest == new.digest}
        views = {**anew, **live}.items()
        settled = unchanged | ((gone | set(self._still_to_come())) - anew.keys())
        return [request for request, said in views if said.ts >= horizon and request not in settled]

    def _still_to_come(self) -> list[str]:
        """Views that the live topic tells already, and that are still in their click window by today's rules."""
        return [request for request in untold(self._anew.core) if request in self._live.views]
