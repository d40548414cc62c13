"""What a slot has in the log: whole or not at all, whatever fails on the way; and a state that is never too old."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.topics_admin import create_topics, delete_topics
from reward.settings import PosteriorSettings
from schemas.codec import encode
from schemas.commits import Commit
from schemas.connections import Connections
from schemas.errors import Corrupt, Unavailable
from schemas.posteriors import CountDelta, PosteriorDelta
from schemas.store import Store
from schemas.topics import DELTAS, SNAPSHOTS
from streams.posteriors.merger_core import MergerCore
from streams.runtime.core import Agent, Record
from streams.runtime.log import LogReader
from streams.runtime.slot import Slot
from streams.runtime.topic_ids import check_same
from streams.runtime.writer import TransactionWriter
from streams.settings import RuntimeSettings
from tests.streams.conftest import committed, feeder
from tests.streams.test_gap import delete

pytestmark = pytest.mark.services

RULES = PosteriorSettings()
Start = Callable[..., Slot]


class Breaking(Store):
    """A store whose first write fails."""

    broken = False

    def write(self, path: str, data: bytes) -> None:
        """See `Store.write`."""
        if not self.broken:
            self.broken = True
            raise OSError("connection reset")
        super().write(path, data)


@pytest.fixture
def start(fresh_topics: Connections, unique: Callable[[str], str], tmp_path: Path) -> Start:
    """Starts the merger's slot as the next process would: it fences the one before, and recovers."""
    usual, ours = Store(str(tmp_path)), unique("merger")

    def slot(store: Store = usual, name: str = ours, settings: RuntimeSettings = RuntimeSettings()) -> Slot:  # noqa: B008 - never changed
        agent = Agent(name, (DELTAS,), (SNAPSHOTS,), lambda _: MergerCore(1, RULES))
        writer = TransactionWriter(fresh_topics, name, 20)
        reader = LogReader(fresh_topics, 30)
        one = Slot(agent, 0, fresh_topics.partitions, reader, writer, store, settings)
        one.open()
        one.recover(reader.topic_ids([DELTAS.name]))
        return one

    return slot


def deltas(first: int, last: int) -> list[Record]:
    """A stamp each: every one of them is a snapshot to tell."""
    step = RULES.snapshot_every_s * 1_000
    said = {n: PosteriorDelta(0, (n + 1) * step, (CountDelta("q", "a", 1, 1, 0, 0, 0, 1),)) for n in range(first, last + 1)}
    return [Record(n, 0, None, encode(delta)) for n, delta in said.items()]


def test_nothing_is_written_behind_outputs_whose_write_failed(
    fresh_topics: Connections, start: Start, tmp_path: Path
) -> None:
    """The store fails while a second flush waits for the first, as at a rebalance or a stop: that one may not commit past
    what is in neither slot nor log. The next start tells both snapshots."""

    async def fail() -> None:
        one = start(Breaking(str(tmp_path)))
        one.take(DELTAS.name, 0, deltas(0, 0), 1)
        first = asyncio.create_task(one.flush())
        await asyncio.sleep(0)  # it has gathered, and writes
        one.take(DELTAS.name, 1, deltas(1, 1), 2)
        with pytest.raises(Unavailable, match="connection reset"):
            await one.flush(snapshot=True)
        with pytest.raises(OSError, match="connection reset"):
            await first

    asyncio.run(fail())
    again = start()
    assert (again.sequence, again.next) == (0, {DELTAS.name: 0})
    assert again.take(DELTAS.name, 0, deltas(0, 1), 2)
    asyncio.run(again.flush())
    assert [len(partition) for partition in committed(fresh_topics, SNAPSHOTS.name)] == [2, 0]


def test_nothing_is_written_behind_half_a_chunk(start: Start) -> None:
    """A core that raises in the middle of a chunk has counted a part of it: no commit may say so."""
    one = start()
    one.take(DELTAS.name, 0, deltas(0, 0), 1)
    with pytest.raises(AttributeError):
        one.take(DELTAS.name, 1, [*deltas(1, 1), None], 3)  # type: ignore[list-item]
    with pytest.raises(Unavailable, match="AttributeError"):
        asyncio.run(one.flush())
    assert one.standing() is None


def test_a_state_is_dumped_when_the_last_one_is_old_though_few_records_came(fresh_topics: Connections, start: Start) -> None:
    """Two stamps in an hour, and an input that is kept for days: the second is not in the first dump. It comes into one when that
    is old, without a third record, in this process or in the next; then nothing is left to replay, and nothing to dump."""
    feed(fresh_topics, 3)
    one = start()
    one.take(DELTAS.name, 0, deltas(0, 0), 1)
    asyncio.run(one.flush())
    one.take(DELTAS.name, 1, deltas(1, 1), 2)
    asyncio.run(one.flush())
    assert _standing(one).since_snapshot == 1

    async def few() -> Slot:
        again = start(settings=RuntimeSettings(snapshot_every_s=1))
        flusher = asyncio.create_task(again.keep_flushing())
        await _until(again, lambda commit: commit.since_snapshot == 0)
        again.take(DELTAS.name, 2, deltas(2, 2), 3)
        await _until(again, lambda commit: commit.next_offsets == {DELTAS.name: 3} and commit.since_snapshot == 0)
        flusher.cancel()
        await again.flush(snapshot=True)
        return again

    again = asyncio.run(few())
    last = start()
    assert last.sequence == again.sequence
    assert last.core.dump() == again.core.dump()


def test_an_input_that_no_longer_has_the_next_record_is_told_at_the_start(
    fresh_topics: Connections, start: Start, unique: Callable[[str], str]
) -> None:
    """A clean stop behind the first of three stamps: with all three deleted the next start would pass over some. An agent that never
    committed wants nothing that is gone."""

    def take(one: Slot, count: int) -> None:
        one.take(DELTAS.name, one.next[DELTAS.name], deltas(one.next[DELTAS.name], count - 1), count)
        asyncio.run(one.flush(snapshot=True))

    feed(fresh_topics, 3)
    take(start(), 1)
    take(start(), 2)  # all is there: nothing to tell
    delete(fresh_topics, DELTAS.name, 3)
    with pytest.raises(Corrupt, match=rf"{DELTAS.name}/0 .*offset 2 needed, 3 is the first kept, 3 the end"):
        start()
    assert start(name=unique("merger")).next == {DELTAS.name: 3}


def test_an_input_that_was_made_anew_is_told_at_the_start_though_it_has_grown_past_the_commit(
    fresh_topics: Connections, start: Start
) -> None:
    """Three stamps taken, and five in the topic that took the old one's place: its fourth is not the one that comes next. A commit
    from before ids were told, or of a broker without them, is held to its offsets alone."""
    feed(fresh_topics, 3)
    one = start()
    one.take(DELTAS.name, 0, deltas(0, 2), 3)
    asyncio.run(one.flush(snapshot=True))
    then = _standing(start()).topic_ids[DELTAS.name]
    delete_topics(fresh_topics, [DELTAS.name])
    create_topics(fresh_topics)
    feed(fresh_topics, 5)
    (now,) = LogReader(fresh_topics, 30).topic_ids([DELTAS.name]).values()
    with pytest.raises(Corrupt, match=re.escape(f"its id is {now}, and was {then}: it was deleted and made anew")):
        start()
    check_same({}, {DELTAS.name: now})
    check_same({DELTAS.name: then}, {})


def feed(connections: Connections, count: int) -> None:
    """The first stamps, where a recovery reads them again."""
    with feeder(connections) as send:
        for record in deltas(0, count - 1):
            send(DELTAS.name, 0, record.value)


def _standing(slot: Slot) -> Commit:
    commit = slot.standing()
    assert commit is not None
    return commit


async def _until(slot: Slot, done: Callable[[Commit], bool]) -> None:
    """Wait until its last commit is so."""
    async with asyncio.timeout(60):
        while not done(await asyncio.to_thread(_standing, slot)):
            await asyncio.sleep(0.05)
