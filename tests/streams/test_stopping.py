"""A stop that takes long is none that fails: what the broker takes is sent to its end, however slow that is."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from threading import Event, Timer
from typing import Any, cast

import pytest

from headrace.topics_admin import create_topics
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Conflict, Unavailable
from schemas.events import Tick
from schemas.store import Store
from schemas.topics import CLICKS, COMMITS, INPUTS, STATES
from streams.accounting import standing
from streams.runtime import writer as writers
from streams.runtime.core import Output
from streams.runtime.host import Host
from streams.runtime.writer import TransactionWriter
from streams.settings import RuntimeSettings
from tests.streams.conftest import Worker, caught_up, committed, feeder
from tests.streams.test_network import Ends, ends  # noqa: F401 - a fixture

#: 8 MB that do not pack, in the parts of a state.
PARTS = [Output(STATES.name, b"k:%d" % n, random.Random(n).randbytes(400_000)) for n in range(20)]


def commit(_: int) -> Output:
    return Output(COMMITS.name, b"k", b"{}")


@pytest.mark.services
@pytest.mark.slow
def test_a_state_is_sent_to_its_end_after_the_stop_while_the_broker_takes_it(
    ends: Ends,  # noqa: F811
    unique: Callable[[str], str],
) -> None:
    """Over a network of a MB a second, thrice as long as the broker may do nothing; the stop was asked for before. Then the
    network is cut in the midst of the next one: that is given up, soon, and told with the setting."""
    create_topics(ends.direct)
    stop = Event()
    writer = TransactionWriter(ends.by_cable, unique("writer"), 60, stop)
    writer.open(60)
    stop.set()
    ends.cable.pause_s = 0.06
    began = time.monotonic()
    assert writer.write([], PARTS, commit, 0) == 0
    assert time.monotonic() - began > writers.STALL_S + 1
    assert [len(found) for found in committed(ends.direct, STATES.name)] == [len(PARTS), 0]
    cut = Timer(1.0, ends.cable.cut)
    cut.start()
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"took nothing more before the stop.*streams\.runtime\.stop_timeout_s"):
        writer.write([], PARTS, commit, 0)
    assert time.monotonic() - began < 1 + 3 * writers.STALL_S
    ends.cable.mend()


@pytest.mark.services
@pytest.mark.slow
def test_a_last_flush_takes_no_longer_than_a_transaction_may(
    ends: Ends,  # noqa: F811
    unique: Callable[[str], str],
) -> None:
    """The same network, and a transaction of 5 s for 8 s of parts: the broker takes records all the time, and it ends nevertheless, so
    that whoever supervises a worker knows how long its stop can be (`RuntimeSettings.longest_stop_s`)."""
    create_topics(ends.direct)
    stop = Event()
    writer = TransactionWriter(ends.by_cable, unique("writer"), 5, stop)
    writer.open(60)
    stop.set()
    ends.cable.pause_s = 0.06
    began = time.monotonic()
    with pytest.raises((Conflict, Unavailable)):
        writer.write([], PARTS, commit, 0)
    assert 4 < time.monotonic() - began < 5 + 3 * writers.STALL_S
    assert [len(found) for found in committed(ends.direct, STATES.name)] == [0, 0]


@pytest.mark.services
def test_a_recovery_ends_at_the_stop_and_writes_nothing(fresh_topics: Connections, worker: Callable[..., Worker]) -> None:
    """40,000 records to replay, which come 2,000 at a time at most and take half a second each time: 10 s to go. The next start
    finds the commit that was there."""
    never, tick = {"SNAPSHOT_RECORDS": "10000000"}, encode(Tick(int(time.time() * 1_000)))
    one = worker(**never)
    one.ready()
    with feeder(fresh_topics) as send:
        for topic in INPUTS:  # or one would be far ahead of the others
            send(topic.name, 0, tick)
        for _ in range(40_000):
            send(CLICKS.name, 0, tick)
    caught_up(fresh_topics)
    one.kill()
    before = standing(fresh_topics)
    one = worker("two", script="slow_worker.py", **never)
    deadline = time.monotonic() + 60
    while "slowly" not in one.log.read_text():
        assert time.monotonic() < deadline, one.log.read_text()[-3_000:]
        time.sleep(0.05)
    began = time.monotonic()
    assert one.stop() == 0, one.log.read_text()[-3_000:]
    assert time.monotonic() - began < 5
    assert standing(fresh_topics) == before


class Slow:
    """Stands for a slot: its last flush takes a while, and fails or does not."""

    partition = 0

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self._seconds, self._error, self.flushed = seconds, error, False

    async def flush(self, *, snapshot: bool) -> None:
        """Once."""
        await asyncio.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        self.flushed = snapshot


def closed(*slots: Slow) -> Host:
    """A host that had these, after its end."""

    async def close() -> Host:
        host = Host(
            cast(Any, None), [], Connections(kafka="127.0.0.1:9"), Store("memory://"), RuntimeSettings(stop_timeout_s=1)
        )
        host.slots = cast(Any, {("a", n): slot for n, slot in enumerate(slots)})
        await host.close()
        return host

    return asyncio.run(close())


def test_a_last_flush_over_the_time_for_the_stop_is_waited_for() -> None:
    """Whether the broker still takes it is the writer's to say."""
    slow = Slow(1.5)
    assert closed(slow).failure is None and slow.flushed


def test_a_partition_whose_last_flush_fails_cuts_no_other_one() -> None:
    """The first failure is told, after the others have ended."""
    broken, slow, late = Slow(0, OSError("disk full")), Slow(0.5), Slow(0.2, OSError("too late"))
    assert str(closed(broken, slow, late).failure) == "disk full" and slow.flushed
