"""The live views take over labels that were joined anew: what is said, how consumers move, and how a worker goes on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec import structs

from headrace.rebuilding import make_room
from schemas.codec import decode, encode
from schemas.commits import Commit
from schemas.connections import Connections
from schemas.errors import Conflict, Corrupt, Incompatible, InvalidRequest
from schemas.events import Tick
from schemas.store import Store
from schemas.topics import COMMITS, EXAMPLES, IMPRESSIONS, INPUTS, STATES, VIEWS
from schemas.views import View, ViewItem, ViewStatus
from streams.accounting import accounted, records, standing, totals
from streams.attribution.core import attribution_agent
from streams.replaying.clients import new_writer
from streams.replaying.corrections import correct, introduce, label, revisions, take_back
from streams.replaying.diff import diff_topics
from streams.replaying.plan import Plan, Switched, commit_all
from streams.replaying.rebuild import rebuild
from streams.replaying.side import said_of
from streams.replaying.switch import switch_views
from streams.runtime.core import Output, Record
from streams.runtime.log import LogReader
from streams.settings import AttributionSettings, StreamSettings
from tests.streams.attribution_oracle import whole_log
from tests.streams.attribution_worker import RULES
from tests.streams.conftest import Worker, caught_up, committed, feeder
from tests.streams.event_log import START, event_log

Label = dict[str, tuple[int, int, float]]


def last_said(connections: Connections, topic: str) -> dict[str, View]:
    """Request id -> its last revision in a topic, after looking that the differences of all of them sum to its label, the
    revisions count on from 1, and time never falls."""
    last: dict[str, View] = {}
    sums: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for log in committed(connections, topic):
        newest = 0
        for _, raw in log:
            event: View | Tick = decode(VIEWS.kind, raw)
            at = event.ts if isinstance(event, Tick) else event.emitted_at
            assert at >= newest
            newest = at
            if isinstance(event, View):
                assert event.revision == (last[event.request_id].revision + 1 if event.request_id in last else 1)
                last[event.request_id] = event
                for item in event.items:
                    sums[event.request_id] += Counter({(item.item, "clicks"): 0})
                    sums[event.request_id][item.item, "clicks"] += item.d_clicks
                    sums[event.request_id][item.item, "orders"] += item.d_orders
    for request, view in last.items():
        summed = {item: (sums[request][item, "clicks"], sums[request][item, "orders"]) for item, _ in sums[request]}
        assert {item: counts for item, counts in summed.items() if any(counts)} == {i: c[:2] for i, c in label(view).items()}
    return last


def oracle(connections: Connections, rules: AttributionSettings) -> dict[str, tuple[str, Label]]:
    """Request id -> (status, label) of its last revision, by the slow join over everything sent so far."""
    reader, said = LogReader(connections, 20), dict[str, tuple[str, Label]]()
    for p in range(connections.partitions):
        logs: dict[str, list[Record]] = {
            t.name: [r for b in reader.read(t.name, p, *reader.bounds(t.name, p)) for r in b] for t in INPUTS
        }
        for e in whole_log(logs, rules).emitted:
            said[e.request] = (e.status, {item: (clicks, orders, value) for item, clicks, orders, value in e.label})
    return said


def said(views: dict[str, View]) -> dict[str, tuple[str, Label]]:
    return {request: (str(view.status), label(view)) for request, view in views.items()}


def counted(view: tuple[str, Label], n: int) -> dict[str, float]:
    """Item -> its clicks (0), orders (1) or value (2), where there are any."""
    return {item: counts[n] for item, counts in view[1].items() if counts[n]}


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.parametrize("click_window_s", [7, 45])
def test_a_switch_to_another_click_window_and_on_to_the_same_end(
    fresh_topics: Connections, worker: Callable[..., Worker], unique: Callable[[str], str], click_window_s: int
) -> None:
    """Half of a log by a worker with a window of 30 s; rebuilt with another one, compared with what the slow join says of
    both, switched while the worker runs; the other half by a worker with the new window. In between and at the end
    the last revisions are those of an undisturbed join by the new rules."""
    rules = RULES.model_copy(update={"click_window_s": click_window_s})
    settings, log, name = StreamSettings(attribution=rules), event_log(31, 300), unique("views")
    # Views of the first 15 s: at 40 s the old rules have closed some, the new ones of 7 s all; at 55 s the old ones all, and
    # the new ones of 45 s some. The watermark is 10 s behind the ticks.
    pause = b'{"type":"tick","ts":%d' % (START + (50_000 if click_window_s < 30 else 65_000))
    half = next(n for n, (_, _, raw) in enumerate(log) if raw.startswith(pause))
    with feeder(fresh_topics) as send:
        for topic, partition, raw in log[:half]:
            send(topic, partition, raw)
    one = worker("one")
    caught_up(fresh_topics)
    old, new = oracle(fresh_topics, RULES), oracle(fresh_topics, rules)
    assert said(last_said(fresh_topics, VIEWS.name)) == old

    make_room(fresh_topics, replace(VIEWS, name=name), overwrite=False)
    rebuild(fresh_topics, Store(fresh_topics.store), attribution_agent(rules), VIEWS, name)
    found = diff_topics(fresh_topics, VIEWS.name, name, limit=10_000)
    assert said(last_said(fresh_topics, name)) == new
    differing = {r for r in old.keys() & new.keys() if old[r] != new[r]}
    assert {e.key for e in found.examples["different"] if e.changes} == differing
    assert {e.key for e in found.examples["only_a"]} == old.keys() - new.keys()
    assert {e.key for e in found.examples["only_b"]} == new.keys() - old.keys()
    assert found.same == len(old.keys() & new.keys()) - len(differing)
    for n, field in enumerate(("clicks", "orders", "value")):
        assert found.fields.get(field, 0) == sum(counted(old[r], n) != counted(new[r], n) for r in differing)
    assert found.fields.get("status", 0) == sum(old[r][0] != new[r][0] for r in differing) and "items" not in found.fields
    assert differing and (new.keys() - old.keys() if click_window_s < 30 else old.keys() - new.keys())

    before, commits = committed(fresh_topics, VIEWS.name), standing(fresh_topics)
    tried = switch_views(fresh_topics, settings, VIEWS.name, name, dry_run=True)
    assert committed(fresh_topics, VIEWS.name) == before and standing(fresh_topics) == commits
    done = switch_views(fresh_topics, settings, VIEWS.name, name)
    assert done == tried
    assert sum(s.corrected for s in done) == len(differing) and sum(s.taken_back for s in done) == 0
    assert sum(s.introduced for s in done) == len(new.keys() - old.keys())
    # What the new rules have yet to close keeps its label until then.
    kept = {r: old[r] for r in old.keys() - new.keys()}
    assert said(last_said(fresh_topics, VIEWS.name)) == {**new, **kept}
    after = diff_topics(fresh_topics, VIEWS.name, name)
    assert (after.different, after.only_a, after.only_b) == (0, len(kept), 0)
    assert sum(s.corrections for s in switch_views(fresh_topics, settings, VIEWS.name, name)) == 0

    with feeder(fresh_topics) as send:
        for topic, partition, raw in log[half:]:
            send(topic, partition, raw)
    assert one.process.wait(60) == 1  # it finds itself fenced
    assert "held by another process, which has taken this partition over" in one.log.read_text()
    two = worker("two", CLICK_WINDOW_S=str(click_window_s))
    caught_up(fresh_topics)
    assert two.stop() == 0, two.log.read_text()[-3_000:]
    assert said(last_said(fresh_topics, VIEWS.name)) == oracle(fresh_topics, rules)
    counters = totals(fresh_topics)["attribution"]
    assert accounted(counters) == records(fresh_topics, tuple(t.name for t in INPUTS)) and counters["pending"] == 0


@pytest.mark.services
def test_a_switch_takes_back_what_the_rebuilt_log_lacks_and_refuses_what_was_not_looked_at(
    fresh_topics: Connections, worker: Callable[..., Worker], unique: Callable[[str], str]
) -> None:
    """A shorter lateness refuses impressions that were on time before: their views come to nothing, and the topics then
    compare as equal. Refused: a rebuild by other rules, a topic that is none, another live topic, and a switch for which
    the inputs do not reach back far enough."""
    strict = RULES.model_copy(update={"lateness_s": 1})
    name, stretch = unique("views"), unique("views")
    with feeder(fresh_topics) as send:
        for topic, partition, raw in event_log(32, 500):
            send(topic, partition, raw)
    one = worker()
    caught_up(fresh_topics)
    assert one.stop() == 0
    for into in (name, stretch):
        make_room(fresh_topics, replace(VIEWS, name=into), overwrite=False)
    store = Store(fresh_topics.store)
    rebuild(fresh_topics, store, attribution_agent(strict), VIEWS, name)
    old, new = oracle(fresh_topics, RULES), oracle(fresh_topics, strict)
    gone = old.keys() - new.keys()
    assert gone and any(old[r][1] for r in gone)

    with pytest.raises(Incompatible, match="rebuild it, and compare again"):
        switch_views(fresh_topics, StreamSettings(attribution=RULES), VIEWS.name, name)
    for topic, other, why in (
        (EXAMPLES.name, name, "follows their corrections by itself"),
        (VIEWS.name, VIEWS.name, "a rebuild of search.views"),
        (VIEWS.name, "nothing", "--into"),
    ):
        with pytest.raises(InvalidRequest, match=why):
            switch_views(fresh_topics, StreamSettings(attribution=strict), topic, other)

    settings = StreamSettings(attribution=strict)
    done = switch_views(fresh_topics, settings, VIEWS.name, name)
    assert sum(s.taken_back for s in done) == len(gone)
    last = said(last_said(fresh_topics, VIEWS.name))
    assert last == {**new, **dict.fromkeys(gone, ("retracted", {}))}
    assert diff_topics(fresh_topics, VIEWS.name, name).equal
    assert sum(s.corrections for s in switch_views(fresh_topics, settings, VIEWS.name, name)) == 0

    # The impressions lose their beginning: views older than what is left are nobody's fault, and stay as they are.
    admin = AdminClient({"bootstrap.servers": fresh_topics.kafka})
    for cut in admin.delete_records([TopicPartition(IMPRESSIONS.name, p, 60) for p in (0, 1)]).values():
        cut.result(30)
    make_room(fresh_topics, replace(VIEWS, name=name), overwrite=True)
    rebuild(fresh_topics, store, attribution_agent(strict), VIEWS, name)
    assert diff_topics(fresh_topics, VIEWS.name, name).only_a > 50
    done = switch_views(fresh_topics, settings, VIEWS.name, name, dry_run=True)
    assert sum(s.corrections for s in done) == 0 and 50 < sum(s.before_horizon for s in done) < len(last) - 50
    long = strict.model_copy(update={"return_window_s": 100_000})
    rebuild(fresh_topics, store, attribution_agent(long), VIEWS, stretch)
    with pytest.raises(Corrupt, match="lengthen the retention"):
        switch_views(fresh_topics, StreamSettings(attribution=long), VIEWS.name, stretch)


@pytest.mark.services
def test_a_switch_that_cannot_be_disturbs_nobody(
    fresh_topics: Connections, worker: Callable[..., Worker], unique: Callable[[str], str]
) -> None:
    """The lateness raised by three click windows: the live topic tells views that the new rules have yet to join. That is said
    by a dry run and by a switch alike, and the worker goes on."""
    rules, name, log = RULES.model_copy(update={"lateness_s": 100}), unique("views"), event_log(33, 200)
    half = len(log) // 2
    with feeder(fresh_topics) as send:
        for topic, partition, raw in log[:half]:
            send(topic, partition, raw)
    one = worker("one")
    caught_up(fresh_topics)
    make_room(fresh_topics, replace(VIEWS, name=name), overwrite=False)
    rebuild(fresh_topics, Store(fresh_topics.store), attribution_agent(rules), VIEWS, name)
    for dry_run in (True, False):
        with pytest.raises(Incompatible, match=r"lateness_s, 100, was raised by more than a click window"):
            switch_views(fresh_topics, StreamSettings(attribution=rules), VIEWS.name, name, dry_run)
    with feeder(fresh_topics) as send:
        for topic, partition, raw in log[half:]:
            send(topic, partition, raw)
    caught_up(fresh_topics)
    assert one.stop() == 0, one.log.read_text()[-3_000:]
    assert said(last_said(fresh_topics, VIEWS.name)) == oracle(fresh_topics, RULES)


@pytest.mark.services
def test_a_worker_that_starts_meanwhile_keeps_its_partition(fresh_topics: Connections, unique: Callable[[str], str]) -> None:
    """Two partitions made ready; an owner of the second id appears: nothing of either counts, and it is said what to do."""
    ids = [unique("attribution") for _ in range(2)]
    writers = [new_writer(fresh_topics, name, 20) for name in ids]
    for writer in writers:
        writer.open(60)
    ready = new_writer(fresh_topics, ids[1], 20)
    ready.open(60)
    view = View("r:final:1", "r", ViewStatus.FINAL, 1, 0, 0, "u", "", ())
    plans = [Plan(Switched(p), [view], [b"part"], Commit("attribution", p, 9, {}, -1, 0, {}, 0), 2) for p in range(2)]
    with pytest.raises(Conflict, match=r"nothing is switched.*stop the attribution workers first"):
        commit_all(list(zip(writers, plans, strict=True)))
    for topic in (VIEWS, COMMITS, STATES):
        assert committed(fresh_topics, topic.name) == [[], []]
    ready.prepare([], [], lambda _: Output(VIEWS.name, b"u", encode(view)), 0)
    late = new_writer(fresh_topics, ids[1], 20)
    late.open(60)
    with pytest.raises(Conflict):  # prepared, then fenced: nothing counts
        ready.commit()
    assert committed(fresh_topics, VIEWS.name) == [[], []]


A, B = ViewItem("a", 1, 0.5, clicks=2, orders=1, value=9.0, d_clicks=1, d_orders=1), ViewItem("b", 2, 0.5)
LIVE = View("r:final:3", "r", ViewStatus.FINAL, 3, 10, 50, "u", "shoe", (A, B))


def test_a_correction_moves_by_the_difference() -> None:
    """2 clicks and 1 order on a, said; 1 click on a and 1 on b, joined anew: -1 and -1 on a, +1 on b."""
    anew = replace_items(LIVE, ("a", 1, 0), ("b", 1, 0), revision=1, status=ViewStatus.PROVISIONAL)
    (one,) = revisions(LIVE, anew, 70)
    assert (one.view_id, one.revision, one.status, one.emitted_at) == ("r:provisional:4", 4, "provisional", 70)
    assert [(i.item, i.clicks, i.d_clicks, i.d_orders) for i in one.items] == [("a", 1, -1, -1), ("b", 1, 1, 0)]
    assert correct(LIVE, anew, 70) == [one]


def test_a_view_that_one_side_lacks_comes_to_nothing_or_begins() -> None:
    """Taken back: no clicks, no value, what was said comes off. Introduced: its first revision, by the whole label."""
    (gone,) = revisions(LIVE, None, 70)
    assert gone == take_back(LIVE, 70) and said_of(gone, 0).gone
    assert [(i.clicks, i.orders, i.value, i.d_clicks, i.d_orders) for i in gone.items] == [
        (0, 0, 0.0, -2, -1),
        (0, 0, 0.0, 0, 0),
    ]
    (begun,) = revisions(None, LIVE, 70)
    assert begun == introduce(LIVE, 70) and begun.view_id == "r:final:1"
    assert [(i.d_clicks, i.d_orders) for i in begun.items] == [(2, 1), (0, 0)]


def test_a_page_without_an_item_that_was_counted_is_taken_back_first() -> None:
    """The differences of an item that the new page lacks have nowhere else to stand."""
    anew = replace_items(LIVE, ("c", 1, 0))
    first, second = correct(LIVE, anew, 70)
    assert first == take_back(LIVE, 70)
    assert (second.revision, [(i.item, i.d_clicks) for i in second.items]) == (5, [("c", 1)])


def test_what_stands_twice_on_a_page_has_its_difference_at_its_first_place() -> None:
    """Two clicks said of a, at its first place; three joined anew."""
    twice = replace_items(LIVE, ("a", 2, 0), ("a", 0, 0))
    (one,) = correct(twice, replace_items(LIVE, ("a", 3, 0), ("a", 0, 0)), 70)
    assert [(i.clicks, i.d_clicks) for i in one.items] == [(3, 1), (0, 0)]


def replace_items(view: View, *counts: tuple[str, int, int], **changes: object) -> View:
    """The view with these (item, clicks, orders)."""
    items = tuple(ViewItem(item, n + 1, 0.5, clicks, orders) for n, (item, clicks, orders) in enumerate(counts))
    return structs.replace(view, items=items, **changes)
