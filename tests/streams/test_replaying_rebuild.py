"""Derived topics rebuilt from what their inputs keep, and compared with the live ones, on a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from confluent_kafka import Producer

from headrace.rebuilding import make_room
from schemas.catalogue import Catalogue
from schemas.codec import decode, encode
from schemas.connections import Connections
from schemas.errors import Incompatible, InvalidRequest
from schemas.events import Tick
from schemas.store import Store
from schemas.topics import DELTAS, EXAMPLES, INPUTS, VIEWS, Topic
from schemas.views import View
from streams.accounting import standing
from streams.attribution.core import attribution_agent
from streams.lag import lags
from streams.posteriors.counts_core import CountsCore
from streams.producing import EventProducer
from streams.replaying.diff import diff_topics
from streams.replaying.inputs import kept, side_by_side
from streams.replaying.rebuild import Result, rebuild
from streams.replaying.span import Span
from streams.rewarding.core import RewardingCore
from streams.runtime.core import Agent, Record
from streams.runtime.log import LogReader
from tests.streams.attribution_worker import RULES
from tests.streams.conftest import Worker, caught_up, committed, feeder
from tests.streams.event_log import START, event_log
from tests.streams.test_rewarding import SETTINGS, RowTiers, snapshot_of

pytestmark = pytest.mark.services

ATTRIBUTION = attribution_agent(RULES)


def make(connections: Connections, agent: Agent, of: Topic, into: str, **options: object) -> Result:
    """A rebuild into a topic made for it."""
    make_room(connections, replace(of, name=into), overwrite=bool(options.pop("overwrite", False)))
    return rebuild(connections, Store(connections.store), agent, of, into, **options)  # type: ignore[arg-type]


def views(log: Sequence[tuple[bytes | None, bytes]]) -> list[View]:
    said = [decode(VIEWS.kind, raw) for _, raw in log]
    return [event for event in said if isinstance(event, View)]


def test_rebuilt_views_are_the_live_ones_byte_for_byte_and_an_unfinished_rebuild_is_refused(
    fresh_topics: Connections, worker: Callable[..., Worker], unique: Callable[[str], str]
) -> None:
    """A worker's views against a rebuild by the same rules: whole, of 5 s of views, and given up half way."""
    with feeder(fresh_topics) as send:
        for topic, partition, raw in event_log(21, 300):
            send(topic, partition, raw)
    one = worker()
    caught_up(fresh_topics)
    assert one.stop() == 0
    live, name, told = committed(fresh_topics, VIEWS.name), unique("views"), list[tuple[int, int]]()

    made = make(fresh_topics, ATTRIBUTION, VIEWS, name, on_progress=lambda done, total: told.append((done, total)))
    assert committed(fresh_topics, name) == live
    assert told[-1] == (made.read, made.read) and made.written == sum(map(len, live))
    assert made.counters == {k: sum(c.counters.get(k, 0) for c in standing(fresh_topics)) for k in made.counters}
    same = diff_topics(fresh_topics, VIEWS.name, name)
    assert same.equal and same.same == len({v.request_id for p in live for v in views(p)}) > 200
    assert {lag.agent for lag in lags(fresh_topics)} == {"attribution"}  # the marks are no agents
    with pytest.raises(InvalidRequest, match="--overwrite"):
        make(fresh_topics, ATTRIBUTION, VIEWS, name)

    some, span = unique("views"), Span(START + 5_000, START + 10_000)
    make(fresh_topics, ATTRIBUTION, VIEWS, some, span=span)
    chosen = [[v for v in views(p) if span.start <= v.ts < span.end] for p in live]
    assert [views(p) for p in committed(fresh_topics, some)] == chosen
    part = diff_topics(fresh_topics, VIEWS.name, some)
    assert part.equal and part.span == span and part.same == len({v.request_id for p in chosen for v in p}) > 50

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(fresh_topics, ATTRIBUTION, VIEWS, name, overwrite=True, on_progress=stop)
    with pytest.raises(Incompatible, match="unfinished"):
        diff_topics(fresh_topics, VIEWS.name, name)
    make(fresh_topics, ATTRIBUTION, VIEWS, name, overwrite=True)
    assert committed(fresh_topics, name) == live
    with EventProducer(fresh_topics) as producer:
        producer.send(name, encode(Tick(START)), b"", 1)
    with pytest.raises(Incompatible, match=f"end of partition 1.*--into {name} --overwrite"):
        diff_topics(fresh_topics, VIEWS.name, name)


def test_names_that_would_hurt_are_refused(fresh_topics: Connections, unique: Callable[[str], str]) -> None:
    """A live topic, one that no rebuild made, one that Kafka refuses, one that was never rebuilt, one of another kind."""
    with pytest.raises(InvalidRequest, match="in use"):
        rebuild(fresh_topics, Store(fresh_topics.store), ATTRIBUTION, VIEWS, VIEWS.name)
    with pytest.raises(InvalidRequest, match="A-Z"):
        rebuild(fresh_topics, Store(fresh_topics.store), ATTRIBUTION, VIEWS, "no name")
    foreign = unique("foreign")
    make_room(fresh_topics, replace(VIEWS, name=foreign), overwrite=False)
    with EventProducer(fresh_topics) as producer:
        producer.send(foreign, b"x", b"k", 0)
    with pytest.raises(InvalidRequest, match="one that a rebuild made"):
        make_room(fresh_topics, replace(VIEWS, name=foreign), overwrite=True)
    assert committed(fresh_topics, foreign)[0] == [(b"k", b"x")]
    with pytest.raises(InvalidRequest, match="--into"):
        diff_topics(fresh_topics, VIEWS.name, foreign)
    with pytest.raises(InvalidRequest, match="of one kind"):
        diff_topics(fresh_topics, VIEWS.name, EXAMPLES.name)


def test_a_rebuilt_topic_stands_in_for_an_input(fresh_topics: Connections, unique: Callable[[str], str]) -> None:
    """Counts and examples of rebuilt views are what their cores make of these, and the live views (there are none) are
    not asked; an example that says something else is shown as different by the field it differs in."""
    with feeder(fresh_topics) as send:
        for topic, partition, raw in event_log(22, 100):
            send(topic, partition, raw)
    base, deltas, examples = unique("views"), unique("deltas"), unique("examples")
    make(fresh_topics, ATTRIBUTION, VIEWS, base)
    logs = [[Record(n, 0, k, v) for n, (k, v) in enumerate(p)] for p in committed(fresh_topics, base)]

    counting = Agent("posteriors", (VIEWS,), (DELTAS,), lambda p: CountsCore(p, SETTINGS))
    make(fresh_topics, counting, DELTAS, deltas, upstream=[base])
    want = list[bytes]()
    for partition, log in enumerate(logs):
        core = CountsCore(partition, SETTINGS)
        core.apply(VIEWS.name, log)
        want += [o.value for o in core.drain()[0] if o.topic == DELTAS.name]
    first = committed(fresh_topics.model_copy(update={"partitions": 1}), deltas)[0]
    assert [raw for _, raw in first] == want and len(want) > 10
    with EventProducer(fresh_topics) as producer:
        for raw in want[1:]:
            producer.send(DELTAS.name, raw, b"0", 0)
    missing = diff_topics(fresh_topics, deltas, DELTAS.name)
    assert (missing.same, missing.different, missing.only_a, missing.only_b) == (len(want) - 1, 0, 1, 0)
    (lone,) = missing.examples["only_a"]
    assert (lone.a, lone.b, lone.changes) == (decode(DELTAS.kind, want[0]), None, {}) and "source 0" in lone.key

    rules = SETTINGS.model_copy(update={"snapshot_every_s": 100 * 365 * 86_400})  # so that no view waits for a snapshot
    items = tuple(sorted({item.item for p in committed(fresh_topics, base) for v in views(p) for item in v.items}))
    n = len(items)
    catalogue = Catalogue(items, items, ("x",) * n, ("",) * n, np.ones(n, np.float32), np.zeros(n, np.int64), ({},) * n)
    rewarding = Agent(
        "rewarding", (VIEWS,), (EXAMPLES,), lambda _: RewardingCore(0, catalogue, RowTiers(), snapshot_of, rules)
    )
    make(fresh_topics, rewarding, EXAMPLES, examples, upstream=[base])
    made = [[decode(EXAMPLES.kind, raw) for _, raw in p] for p in committed(fresh_topics, examples)]
    assert [[e.example_id for e in p] for p in made] == [
        [v.view_id for v in views(p)] for p in committed(fresh_topics, base)
    ]
    odd = made[1][-1].request_id
    with EventProducer(fresh_topics) as producer:
        for partition, log in enumerate(made):
            for e in log:
                said = msgspec.structs.replace(e, relevance_version="other") if e.request_id == odd else e
                producer.send(EXAMPLES.name, encode(said), b"u", partition)
    found = diff_topics(fresh_topics, EXAMPLES.name, examples)
    assert (found.different, found.only_a, found.only_b, found.fields) == (1, 0, 0, {"versions": 1})
    (example,) = found.examples["different"]
    assert (example.key, example.a.relevance_version) == (odd, "other")
    assert example.changes == {"relevance_version": ("other", made[1][-1].relevance_version)}
    with pytest.raises(InvalidRequest, match="a rebuild of one of"):
        make(fresh_topics, rewarding, EXAMPLES, unique("examples"), upstream=[deltas])


def test_inputs_are_read_side_by_side(fresh_topics: Connections) -> None:
    """Of 3 x 5,000 records a batch is always of the input that is furthest behind; each input comes whole and in order."""
    producer = Producer({"bootstrap.servers": fresh_topics.kafka, "log_level": 2})
    now = int(time.time() * 1_000)
    for n in range(5_000):
        for k, topic in enumerate(INPUTS):
            producer.produce(topic.name, b"%d" % n, partition=0, timestamp=now - 50_000 + n * (k + 1))
    assert producer.flush(60) == 0
    reader = LogReader(fresh_topics, 20)
    last, got = dict.fromkeys((t.name for t in INPUTS), -1), {t.name: list[bytes]() for t in INPUTS}
    for name, batch in side_by_side(reader, kept(reader, ATTRIBUTION, 0, {}), 0):
        assert last[name] == min(at for topic, at in last.items() if len(got[topic]) < 5_000)
        last[name] = batch[-1].timestamp
        got[name] += [record.value for record in batch]
    assert all(values == [b"%d" % n for n in range(5_000)] for values in got.values())
