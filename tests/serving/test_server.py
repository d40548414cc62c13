"""The server from outside: HTTP in, pages out, against a real Kafka and Redis and a real (tiny) policy."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer
from kafka.partitioner.default import murmur2
from structlog.testing import capture_logs

from reward.campaigns.control import in_control
from reward.counts import Counts
from reward.settings import PosteriorSettings, ServingScoreSettings
from reward.snapshot import PosteriorSnapshot
from schemas.campaigns import Campaign, Scope
from schemas.checkpoints import Manifest, Promotion
from schemas.codec import encode
from schemas.connections import Connections
from schemas.descriptions import Description
from schemas.events import Click, ItemAdded, Order, Return, Tick
from schemas.posteriors import SnapshotPointer
from schemas.topics import CLICKS, ITEMS, ORDERS, PROMOTED, SNAPSHOTS, WEIGHTS, Topic
from schemas.weights import RewardWeights
from tests.serving.logged import impressions
from trainers.identifiers.life import Life

Serve = Callable[..., AbstractContextManager[Any]]
Shop = Any
Prepared = Any

pytestmark = pytest.mark.services


class Sender:
    """Writes records and waits for them."""

    def __init__(self, kafka: str) -> None:
        self.producer = KafkaProducer(bootstrap_servers=kafka, acks="all")

    def __call__(self, topic: Topic, *records: Any, partition: int = 0) -> None:
        for record in records:
            raw = record if isinstance(record, bytes) else encode(record)
            self.producer.send(topic.name, value=raw, key=b"k", partition=partition)
        self.producer.flush(timeout=20)


@pytest.fixture
def send(fresh_topics: Connections) -> Any:
    sender = Sender(fresh_topics.kafka)
    yield sender
    sender.producer.close()


def promotion(manifest: Manifest) -> Promotion:
    return Promotion(manifest.checkpoint, manifest.step, f"checkpoints/{manifest.checkpoint}", 0, "test")


def test_page_is_logged_as_it_was_answered(serve: Serve, shop: Shop, prepared: Prepared, fresh_topics: Connections) -> None:
    """Without a promoted checkpoint the frozen one answers; the impression says what the page said, in its user's partition."""
    ts, only = shop.world.end_ms, shop.world.catalogue.items[:40]
    with serve(fresh_topics) as server:
        ready = server.wait_ready()
        assert ready["checkpoint"] == prepared.artefacts.frozen
        answer = server.search(q="red mug", user="ann", k=5, request_id="r1", ts=ts, items=", ".join(only)).json()
        ((partition, logged),) = impressions(fresh_topics)
        long = "魚" * 90  # three bytes each, and no word of this shop: 270 pieces
        whole = [server.search(q=long, user="ann", request_id="r2", ts=ts).json() for _ in range(2)]
        said = server.http.get("/metrics").text
        cut = next(i for _, i in impressions(fresh_topics) if i.request_id == "r2")
    # A query that is longer than the prompt takes: the page says so, once, and the log has all of it.
    assert [a["query_truncated"] for a in (answer, *whole)] == [False, True, True]
    assert "headrace_search_query_truncated_total 1.0" in said and cut.query == long
    assert partition == (murmur2(b"ann") & 0x7FFFFFFF) % 2
    assert (logged.request_id, logged.user, logged.query, logged.ts) == ("r1", "ann", "red mug", ts)
    assert logged.candidates == only
    assert (logged.checkpoint, logged.weights_version, logged.snapshot_version) == (prepared.artefacts.frozen, 1, 0)
    assert [(i.item, i.position, i.propensity) for i in logged.items] == [
        (i["item"], i["position"], i["propensity"]) for i in answer["items"]
    ]
    assert len(answer["items"]) == 5
    for scores in (item["scores"] for item in answer["items"]):
        terms = [scores.pop(name) for name in ("policy", "for_relevance", "for_ctr", "for_multiplier", "taken_up")]
        assert set(scores) == {"tier", "ctr", "total"} and sum(terms) == pytest.approx(scores["total"])
    assert answer["took_ms"] > 0


def test_history_enters_the_next_impression(serve: Serve, shop: Shop, fresh_topics: Connections, send: Sender) -> None:
    """Queries newest first, once each; clicks from the topic by event time, idempotent; bad records are passed over, counted by
    reason, and told in one line."""
    ts, items = shop.world.live_ms, shop.world.catalogue.items
    with capture_logs() as lines, serve(fresh_topics) as server:
        server.wait_ready()
        assert server.app.state.server.clicks.joined.wait(60)
        for n, query in enumerate(("mug", "lamp", "mug")):
            assert server.search(q=query, user="ann", request_id=f"q{n}", ts=ts + n).status_code == 200
        first, second = Click(ts + 10, "ann", items[0]), Click(ts + 11, "ann", items[1])
        send(
            CLICKS,
            second,
            b"{broken",
            first,
            Tick(ts + 12),
            b"{broken",
            second,
            b"{broken",
            Click(ts + 99, "ann", items[2]),
            partition=1,
        )
        send(ORDERS, Order(ts + 20, "ann", items[0], "o1", 9.0), Return(ts + 21, "ann", "o1"), partition=1)
        counted = "headrace_history_clicks_total 4.0"
        said = server.wait(lambda: server.http.get("/metrics"), lambda r: counted in r.text).text
        server.wait(lambda: server.http.get("/metrics"), lambda r: "headrace_history_orders_total 1.0" in r.text)
        assert 'headrace_history_unreadable_records_total{reason="unreadable"} 3.0' in said
        assert server.search(q="sofa", user="ann", request_id="last", ts=ts + 50).status_code == 200
    assert [line["reason"] for line in lines if line["event"] == "records passed over"] == ["unreadable"]
    logged = {i.request_id: i for _, i in impressions(fresh_topics)}
    assert logged["q0"].recent_queries == ()
    assert logged["q2"].recent_queries == ("lamp", "mug")
    assert logged["last"].recent_queries == ("mug", "lamp")
    assert logged["last"].recent_orders == (items[0],)
    assert logged["last"].recent_items == (items[1], items[0])  # not the click at ts + 99, which is to come


def test_a_change_acts_on_the_next_search_but_for_the_control_share(
    serve: Serve, shop: Shop, fresh_topics: Connections, send: Sender
) -> None:
    """Within a second of being in the topic it orders a treated user's page; the control share keeps the book before, and each
    page is logged with the version that ordered it. A campaign asks for the market of the request."""
    ts, users = shop.world.end_ms, [f"u{n}" for n in range(100)]
    treated = next(user for user in users if not in_control(user, 0.3))
    control = next(user for user in users if in_control(user, 0.3))
    mine = Campaign("north", 1, "north", "me", Scope(markets=("north",)), relevance=9)
    book = RewardWeights(version=2, ctr=3, campaigns=(mine,), before=RewardWeights())
    with serve(fresh_topics, control_share=0.3, engine={"exploration": 0}) as server:
        server.wait_ready()

        def search(user: str, number: int, market: str = "north") -> Any:
            found = server.search(q="red mug", user=user, segment="new", market=market, request_id=f"{user}-{number}", ts=ts)
            return found.json()

        assert [search(user, 0)["weights_version"] for user in (treated, control)] == [1, 1]
        send(WEIGHTS, book)
        sent, number, version = time.monotonic(), 0, 1
        while version == 1:
            number += 1
            version = search(treated, number)["weights_version"]
        assert time.monotonic() - sent < 1.0
        pages = {"treated": search(treated, 99), "control": search(control, 99)}
        assert search(treated, 98, "south")["campaigns"] == []
        assert "market" in server.search(q="x", user="u", market="m" * 65).json()["what"]
        told = {name: (page["weights_version"], page["campaigns"]) for name, page in pages.items()}
        assert told["treated"] == (2, ["north"]) and told["control"] == (1, [])
        logged = {i.request_id: i for _, i in impressions(fresh_topics)}
    scale = ServingScoreSettings()
    for name, weights in (("treated", RewardWeights(relevance=9, ctr=3)), ("control", RewardWeights())):
        for scores in (item["scores"] for item in pages[name]["items"]):
            assert scores["for_relevance"] == pytest.approx(scale.relevance_scale * weights.relevance * scores["tier"])
            assert scores["for_ctr"] == pytest.approx(scale.ctr_scale * weights.ctr * math.log(scores["ctr"]))
            assert scores["taken_up"] == 0
    assert [logged[f"{user}-99"].weights_version for user in (treated, control)] == [2, 1]
    assert (logged[f"{control}-99"].segment, logged[f"{control}-99"].market) == ("new", "north")


def test_hot_swaps_under_load_fail_no_request(
    serve: Serve, shop: Shop, prepared: Prepared, fresh_topics: Connections, send: Sender
) -> None:
    """Eight clients search while checkpoints, weights, a snapshot and an item come in; every answer is of one whole state."""
    ts, version = shop.world.end_ms, shop.identifiers.version
    sid = tuple(shop.identifiers.sids_NL[0].tolist())
    data = PosteriorSnapshot.build(Counts(), 77, PosteriorSettings())
    prepared.store.write("posteriors/1.bin", data)
    checksum = PosteriorSnapshot(data).sha256
    queries = [query.text for query in shop.world.queries]
    with serve(fresh_topics, replies=10_000) as server, ThreadPoolExecutor(8) as clients:
        server.wait_ready()
        going, seen = True, list[tuple[int, str, int, int]]()

        def client(number: int) -> None:
            n = 0
            while going:
                n += 1
                response = server.search(q=queries[n % len(queries)], user=f"u{number}", request_id=f"{number}-{n}", ts=ts)
                body = response.json()
                seen.append(
                    (response.status_code, body.get("checkpoint"), body.get("weights_version"), len(body.get("items", ())))
                )

        def answered_by(checkpoint: str, weights: int) -> None:
            deadline = time.monotonic() + 60
            while (checkpoint, weights) not in {entry[1:3] for entry in list(seen)}:
                assert time.monotonic() < deadline, f"no answer of {checkpoint} under weights {weights}"
                time.sleep(0.02)

        first, second = (manifest.checkpoint for manifest in prepared.promoted)
        work = [clients.submit(client, number) for number in range(8)]
        try:
            answered_by(prepared.artefacts.frozen, 1)
            send(PROMOTED, promotion(prepared.promoted[0]))
            answered_by(first, 1)
            send(WEIGHTS, RewardWeights(version=2, relevance=5.0))
            send(SNAPSHOTS, SnapshotPointer(1, 77, "posteriors/1.bin", checksum, 0, 0))
            send(ITEMS, ItemAdded(ts, shop.world.catalogue.items[0], "known", sid, version))
            send(PROMOTED, promotion(prepared.foreign), promotion(prepared.promoted[1]), promotion(prepared.foreign))
            state = {"step": 20, "weights_version": 2, "snapshot_version": 1}
            server.wait(lambda: server.http.get("/readyz"), lambda r: state.items() <= r.json().items())
            answered_by(second, 2)
        finally:
            going = False
        for job in work:
            job.result(timeout=60)
        # The same foreign one, in one look or in two, and perhaps only after the last good one is served.
        refused = re.compile(r'headrace_served_refused_total{what="checkpoint"} [12]\.')
        metrics = server.wait(lambda: server.http.get("/metrics"), lambda r: refused.search(r.text) is not None).text
    assert {status for status, *_ in seen} == {200}
    assert {count for *_, count in seen} == {10}
    good = {prepared.artefacts.frozen, *(manifest.checkpoint for manifest in prepared.promoted)}
    assert {checkpoint for _, checkpoint, *_ in seen} == good
    assert {weights for _, _, weights, _ in seen} == {1, 2}
    assert 'headrace_served_swaps_total{what="checkpoint"} 2.0' in metrics
    assert "headrace_served_step 20.0" in metrics
    logged = [i.request_id for _, i in impressions(fresh_topics)]
    assert len(logged) == len(set(logged)) == len(seen)


def test_a_start_serves_the_newest_promotion_that_is_whole(
    serve: Serve, prepared: Prepared, fresh_topics: Connections, send: Sender
) -> None:
    """One is of other identifiers, one is not in the store and two, whole, are of another warm start's line, as the promotion or the
    manifest alone says: the one before them is served, with the newest weights, though two publishers crossed."""
    ghost = Promotion("00000099-00000000", 99, "checkpoints/00000099-00000000", 0, "test")
    first, second = (promotion(manifest) for manifest in prepared.promoted)
    ours = msgspec.structs.replace(second, start=prepared.artefacts.frozen)
    elsewhere = msgspec.structs.replace(first, start="00000000-e1e4e6e8")
    send(PROMOTED, first, ours, ghost, promotion(prepared.foreign), elsewhere, promotion(prepared.elsewhere))
    send(WEIGHTS, RewardWeights(version=5), RewardWeights(version=6), RewardWeights(version=5))
    with serve(fresh_topics) as server:
        ready = server.wait_ready()
    assert (ready["checkpoint"], ready["weights_version"]) == (prepared.promoted[1].checkpoint, 6)


def test_a_new_item_is_found_at_once(serve: Serve, shop: Shop, fresh_topics: Connections, send: Sender) -> None:
    """An item that the run's catalogue did not know comes in by its topic and answers a search that asks for it."""
    ts = shop.world.end_ms
    taken = {tuple(sid) for sid in shop.identifiers.sids_NL.tolist()}
    first = next(iter(sorted(taken)))
    sizes = shop.identifiers.level_sizes
    sid = next((*first[:-1], code) for code in range(sizes[-1]) if (*first[:-1], code) not in taken)
    with serve(fresh_topics) as server:
        server.wait_ready()
        send(ITEMS, ItemAdded(ts, "brand-new", "a brand new lamp", sid, shop.identifiers.version))
        params = {"q": "lamp", "user": "ann", "items": "brand-new", "ts": ts}
        answer = server.wait(lambda: server.search(**params), lambda r: bool(r.json()["items"])).json()
        assert server.search(**(params | {"ts": ts - 1})).json()["reason"].endswith("available at the request's time")
    (item,) = answer["items"]
    assert (item["item"], item["title"], tuple(item["sid"])) == ("brand-new", "a brand new lamp", sid)
    assert item["propensity"] == 1.0


def test_an_item_moves_and_goes_while_it_is_served(
    serve: Serve, shop: Shop, fresh_topics: Connections, send: Sender
) -> None:
    """As the identifiers' one writer publishes it: another title is shown under the new identifier, and scored by the new words;
    a removed item is not found."""
    ts, item, encoder = shop.world.end_ms, shop.world.catalogue.items[0], shop.encoder
    life, title = Life(shop.identifiers, shop.world.catalogue), "a brand new title of a purple aquarium"
    before = life.sid_of(item)
    moved = life.put(item, Description(title), encoder.encode([title])[0], ts)
    gone = life.remove(shop.world.catalogue.items[1], ts)
    assert moved is not None and gone is not None and moved.freed == before
    with serve(fresh_topics) as server:
        server.wait_ready()
        params = {"q": title, "user": "ann", "items": ",".join(shop.world.catalogue.items[:2]), "ts": ts}
        assert {found["item"] for found in server.search(**params).json()["items"]} == set(shop.world.catalogue.items[:2])
        send(ITEMS, moved, gone)
        answer = server.wait(lambda: server.search(**params), lambda r: len(r.json()["items"]) == 1).json()
    (found,) = answer["items"]
    assert (found["item"], found["title"], tuple(found["sid"])) == (item, title, moved.sid)


def test_a_repeated_request_id_is_one_page_view(serve: Serve, shop: Shop, fresh_topics: Connections) -> None:
    """Asked again, at once or together: the same page and one impression. For another search the id is taken (409)."""
    params = {"q": "blue chair", "user": "ann", "request_id": "same", "ts": shop.world.end_ms}
    with serve(fresh_topics) as server:
        server.wait_ready()
        with ThreadPoolExecutor(4) as clients:
            answers = [job.result().json() for job in [clients.submit(server.search, **params) for _ in range(4)]]
        other = server.search(**(params | {"q": "another"}))
    assert all(answer["items"] == answers[0]["items"] for answer in answers)
    assert len(impressions(fresh_topics)) == 1
    assert other.status_code == 409 and "same" in other.json()["error"]
