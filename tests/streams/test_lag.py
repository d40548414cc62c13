"""Lag as status and metrics tell it, against a real broker: in records, in event time, per partition."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.services.ports import free_port
from schemas.codec import encode
from schemas.commits import Commit
from schemas.connections import Connections
from schemas.events import Click, Impression, ShownItem, Tick
from schemas.examples import TrainingExample
from schemas.journal import StepIntent, StepResult
from schemas.topics import CLICKS, EXAMPLES, IMPRESSIONS, INPUTS, ORDERS, STEPS
from schemas.views import ViewStatus
from schemas.weights import RewardWeights
from streams.followers import followers, group_offsets
from streams.lag import lags
from streams.runtime.behind import event_time, seconds_behind
from streams.runtime.core import Record
from streams.runtime.log import Tail
from tests.streams.conftest import Worker, caught_up, feeder
from tests.streams.event_log import START
from tests.streams.scraping import scrape, until

HOUR_MS = 3_600_000


def send_ticks(connections: Connections, ts: int, partitions: tuple[int, ...], topics: tuple[str, ...]) -> None:
    with feeder(connections) as send:
        for topic in topics:
            for partition in partitions:
                send(topic, partition, msgspec.json.encode(Tick(ts)))


ALL = tuple(topic.name for topic in INPUTS)


@pytest.mark.services
def test_a_partition_that_is_behind_shows_it_and_the_others_do_not(
    fresh_topics: Connections, worker: Callable[..., Worker], tmp_path: Path
) -> None:
    """Lateness is 10 s. With the worker down, partition 1 gets ticks of an hour later and two clicks: 5 records, an hour after
    what was taken last. Whoever has taken everything is 0 s behind, though the watermark stays 10 s before the old tick. After
    the worker's return partition 0 is the one behind the other."""
    send_ticks(fresh_topics, START, (0, 1), ALL)
    one = worker()
    caught_up(fresh_topics)
    assert one.stop() == 0
    send_ticks(fresh_topics, START + HOUR_MS, (1,), ALL)
    with feeder(fresh_topics) as send:
        for n in range(2):
            send(CLICKS.name, 1, msgspec.json.encode(Click(START + n, "u", "a")))

    even, behind = lags(fresh_topics)
    assert (even.agent, even.partition, even.lag, even.lag_s, even.skew_s) == ("attribution", 0, 0, 0, 0)
    assert (behind.partition, behind.lag, behind.lag_s, behind.skew_s) == (1, 5, 3_600, 0)
    assert behind.topics == {IMPRESSIONS.name: 1, CLICKS.name: 3, ORDERS.name: 1}
    assert behind.watermark == START - 10_000
    assert even.state_bytes and even.age_s is not None and even.age_s < 600
    # The first flush dumped the state; what it had taken by then is not replayed.
    assert even.since_snapshot is not None and 0 <= even.since_snapshot <= 3

    port = free_port()
    worker(METRICS_PORT=str(port))
    caught_up(fresh_topics)
    even, behind = lags(fresh_topics)
    assert (even.lag, even.skew_s) == (0, 3_600)
    assert (behind.lag, behind.lag_s, behind.skew_s) == (0, 0, 0)

    # The same from the worker's port; then only one topic of partition 0 goes on. It is taken, and the silent ones hold the
    # watermark: that is no lag.
    until(port, "headrace_lag_seconds", {"agent": "attribution", "partition": "1"}, 0.0)
    send_ticks(fresh_topics, START + 2 * HOUR_MS, (0,), (CLICKS.name,))
    caught_up(fresh_topics)
    until(port, "headrace_lag_seconds", {"agent": "attribution", "partition": "0"}, 0.0)
    assert lags(fresh_topics)[0].watermark == START - 10_000
    found, where = scrape(port), (("agent", "attribution"), ("partition", "1"))
    assert found["headrace_lag_seconds", *where] == 0
    assert found["headrace_watermark_seconds", *where] == (START + HOUR_MS) / 1_000 - 10
    assert found["headrace_lag_records", *where, ("topic", CLICKS.name)] == 0
    assert time.time() - 600 < found["headrace_last_commit_timestamp_seconds", *where] <= time.time()
    assert found["headrace_snapshot_bytes", *where] > 0 and found["headrace_recovery_seconds", *where] > 0
    # The two late clicks: counted by reason.
    assert found["headrace_quarantined_records_total", *where, ("reason", "late")] == 2
    assert "process_start_time_seconds" in {name for name, *_ in found}
    assert scrape(free_port()) == {} == scrape(port, "127.0.0.2")  # nor on another address than the default

    answer = tmp_path / "status.json"
    env = {"HEADRACE_KAFKA": fresh_topics.kafka, "HEADRACE_STORE": fresh_topics.store, "HEADRACE_SERVICES": "external"}
    done = CliRunner().invoke(app, ["status", "--json", str(answer)], env=env)
    assert done.exit_code == 0, done.output
    rows = json.loads(answer.read_bytes())
    assert [(row["agent"], row["partition"], row["lag"]) for row in rows] == [("attribution", 0, 0), ("attribution", 1, 0)]
    told = [line.split()[:4] for line in done.output.splitlines()[2:]]
    assert told == [["attribution", "0", "0", "0.0"], ["attribution", "1", "0", "0.0"]]
    assert {"agent", "partition", "lag", "watermark", "sequence", "age_s", "topics", "lag_s", "state_bytes"} <= set(rows[0])


@pytest.mark.services
def test_learner_and_keyword_worker_are_told_by_journal_and_group(fresh_topics: Connections) -> None:
    """Four examples a minute apart in each partition; the journal's last intent has read up to offsets 3 and 1. Of two
    impressions the group has acknowledged the first."""
    from confluent_kafka import Consumer, TopicPartition

    assert followers(fresh_topics) == []
    now = int(time.time() * 1_000)
    with feeder(fresh_topics) as send:
        for n in range(4):
            at = START + 60_000 * n
            for p in (0, 1):
                about = TrainingExample("e", "r", ViewStatus.FINAL, 1, at - 1, at, "u", "q", (), "", 0)
                send(EXAMPLES.name, p, encode(about))
        for number, offsets in enumerate(({0: 1, 1: 0}, {0: 3, 1: 1}), 1):
            send(STEPS.name, 0, encode(StepIntent(number, offsets, RewardWeights(), None, 0, number, now)))
            send(STEPS.name, 0, encode(StepResult(number, 0, 0, 1, {}, now)))
        for n in range(2):
            send(IMPRESSIONS.name, 1, encode(Impression(START + 1_000 * n, f"r{n}", "u", "q", (ShownItem("a", 1),))))
    group = Consumer({"bootstrap.servers": fresh_topics.kafka, "group.id": "headrace-keywords"})
    group.commit(offsets=[TopicPartition(IMPRESSIONS.name, 1, 1)], asynchronous=False)
    group.close()

    keywords, *learner = followers(fresh_topics)
    assert (keywords.agent, keywords.partition, keywords.lag, keywords.lag_s) == ("keywords", 1, 1, 1)
    assert keywords.watermark == START and keywords.age_s is None
    assert [(r.agent, r.partition, r.sequence, r.lag, r.lag_s, r.skew_s) for r in learner] == [
        ("learner", 0, 2, 1, 60, 0), ("learner", 1, 2, 3, 180, 120),
    ]  # fmt: skip
    assert learner[0].age_s is not None and learner[0].age_s < 600
    assert group_offsets(fresh_topics, "nobody", IMPRESSIONS.name, 20) == {}


def test_a_commit_of_before_the_new_fields_is_read() -> None:
    """Old commit records stand in the topic until their agent commits again."""
    raw = b'{"type":"commit","agent":"a","partition":0,"sequence":3,"next_offsets":{},"snapshot_offset":0,"watermark":5,"counters":{},"created_ms":7,"v":1}'
    commit = msgspec.json.decode(raw, type=Commit)
    assert (commit.sequence, commit.snapshot_bytes, commit.since_snapshot, commit.reached) == (3, 0, 0, {})


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (b'{"type":"click","ts":70}', 70),
        (b'{"type":"view","ts":5,"emitted_at":90}', 90),  # a view tells the time at which it was emitted
        (b'{"stamp":80}', 80),
        (b'{"ts":3600171}', 0),  # an hour and 71 ms ahead of its record's 100: one bad clock is not the present
        (b'{"ts":"x"}', 0),
        (b"\xff{", 0),
        (b"7", 0),
    ],
)
def test_event_time_of_a_record(value: bytes, ms: int) -> None:
    """Whatever lies in the topic, it is a time or 0."""
    assert event_time(Record(0, 100, None, value)) == ms


def ending(*times: int) -> Tail:
    """An input with a tick of each of these times (ms)."""
    return Tail(len(times), [Record(n, t, None, b'{"ts":%d}' % t) for n, t in enumerate(times)])


def test_seconds_behind_are_those_of_the_input_with_most_to_go() -> None:
    """Of inputs that end at 7.5 s and 9 s: from 2 s and 8 s on, 5.5 and 1; where the second has no time told, from the
    watermark of 1 s on, 8. What was taken whole counts nothing, whatever its times; and what lies behind may be out of order."""
    tails = {"a": ending(2_000, 7_500), "b": ending(8_000, 9_000)}
    assert seconds_behind(tails, {"a": 1, "b": 1}, {"a": 2_000, "b": 8_000}, 1_000) == 5.5
    assert seconds_behind(tails, {"a": 1, "b": 1}, {"a": 2_000}, 1_000) == 8
    assert seconds_behind(tails, {"a": 2, "b": 1}, {"a": 7_500, "b": 8_000}, 1_000) == 1
    assert seconds_behind(tails, {"a": 2, "b": 2}, {}, 0) == 0
    assert seconds_behind({"a": ending(9_000, 8_000)}, {"a": 1}, {"a": 9_500}, 0) == 0


def test_seconds_behind_are_told_only_where_the_times_are_known() -> None:
    """Nothing taken yet, or nothing readable at the end; an input with times is told beside one without."""
    assert seconds_behind({"a": ending(7_500)}, {"a": 0}, {}, 0) is None
    assert seconds_behind({"a": ending(0)}, {"a": 0}, {"a": 5_000}, 5_000) is None
    assert seconds_behind({"a": ending(0), "b": ending(9_000)}, {"a": 0, "b": 0}, {"b": 8_000}, 0) == 1
