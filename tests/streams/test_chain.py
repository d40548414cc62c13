"""Agents that read what other agents write, in one process: transactions as inputs, unequal partition counts, files."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.connections import Connections
from schemas.store import Store
from schemas.topics import CLICKS, POOLS, SNAPSHOTS
from streams.accounting import totals
from streams.lag import lags
from tests.streams.conftest import Worker, committed, feeder

pytestmark = pytest.mark.services


def test_a_chain_of_agents_passes_each_record_on_exactly_once_over_kills(
    fresh_topics: Connections, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """600 records in two partitions, through three agents, the last writing to both partitions; a fourth takes what the second
    takes, too; three kills."""
    rng, group = random.Random(8), unique("chain")

    def start() -> Worker:
        return Worker(fresh_topics, group, tmp_path / "worker.log", {"INSTANCE": "one"}, "chain_worker.py")

    one = start()
    try:
        for round_ in range(4):
            with feeder(fresh_topics) as send:
                for n in range(round_ * 150, (round_ + 1) * 150):
                    send(CLICKS.name, n % 2, b"%05d" % n)
            if round_ < 3:
                one.ready()
                time.sleep(0.6 * rng.random())
                one.kill()
                one = start()
        deadline = time.monotonic() + 120
        while any(totals(fresh_topics).get(last, {}).get("seen", 0) < 600 for last in ("chain-third", "chain-beside")):
            assert time.monotonic() < deadline, one.log.read_text()[-3_000:]
            time.sleep(0.2)
        assert one.stop() == 0, one.log.read_text()[-3_000:]
    finally:
        one.kill()
    out = [[value for _, value in partition] for partition in committed(fresh_topics, SNAPSHOTS.name)]
    assert out[0] == out[1]
    assert sorted(out[0]) == [b"%05d" % n for n in range(600)]
    for parity in (0, 1):  # what came in by one partition stays in its order
        assert [v for v in out[0] if int(v) % 2 == parity] == [b"%05d" % n for n in range(600) if n % 2 == parity]
    beside = [value for partition in committed(fresh_topics, POOLS.name) for _, value in partition]
    assert sorted(beside) == [b"%05d" % n for n in range(600)]
    assert {(lag.agent, lag.partition): lag.lag for lag in lags(fresh_topics)} == {
        ("chain-first", 0): 0, ("chain-first", 1): 0, ("chain-second", 0): 0, ("chain-second", 1): 0, ("chain-third", 0): 0,
        ("chain-beside", 0): 0, ("chain-beside", 1): 0,
    }  # fmt: skip
    # Of 300 records a partition: 3 files each of the first and the second agent; of 600: 6 of the third. The name holds
    # agent topic, count and record, so what a replay after a kill writes again has the same name.
    names = Store(fresh_topics.store).names("chain")
    assert len([n for n in names if n.startswith(SNAPSHOTS.name)]) == 6
