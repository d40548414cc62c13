"""The driver: rounds of a logical clock, searches with retries, everything delivered in step."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.shop.delivery import Delivery
from headrace.shop.driver import Driver
from headrace.shop.rounds import rounds
from headrace.shop.settings import DeliverySettings, DirtSettings, ShopSettings
from headrace.shop.world import ShopWorld
from headrace.world import Request
from schemas.errors import Unavailable
from schemas.events import Impression

NOW = 1_790_000_000_000
CLEAN = DirtSettings(**dict.fromkeys(DirtSettings.model_fields, 0.0))
#: However slow the machine is, no live part is cut for being behind its time.
SETTINGS = DeliverySettings(dirt=CLEAN, server_patience_s=60, overrun=1_000)


@pytest.fixture(scope="module")
def world() -> ShopWorld:
    shop = ShopSettings(seed=5, items=300, users=50, queries=40, history_impressions=150, live_requests=120)
    return ShopWorld(shop, NOW)


class Counterpart:
    """An HTTP server that answers every search with the first items; ``refuse`` says which ids it answers how."""

    def __init__(self, items: list[str]) -> None:
        self.items, self.seen, self.refuse = items, [], {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet an answer, or the client's delayed acknowledgement costs 40 ms

            def do_GET(self) -> None:
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                request_id = self.headers["X-Request-Id"]
                outer.seen.append((request_id, int(self.headers["X-Headrace-Time"]), query))
                status = outer.refuse.get(request_id, 200)
                shown = [{"item": item, "sid": [1], "position": n + 1} for n, item in enumerate(outer.items)]
                answer = {
                    "request_id": request_id,
                    "items": shown[: int(query["k"])],
                    "checkpoint": "c7",
                    "weights_version": 2,
                }
                body = json.dumps(answer if status == 200 else {"detail": "no"}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@contextmanager
def _serving(items) -> Iterator[Counterpart]:
    server = Counterpart(list(items))
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()


def _driver(world, sink, settings=SETTINGS) -> Driver:
    sids = {item: (n, 0, 0, 0, 0) for n, item in enumerate(world.catalogue.items)}
    return Driver(world, Delivery(sink, settings, seed=1), settings, sids, "code1")


@given(
    gaps=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 4)), max_size=80),
    size=st.integers(1, 6),
    span=st.integers(1, 2_000),
)
def test_rounds_lose_nothing_and_keep_users_sizes_spans_and_the_order_of_time(gaps, size, span):
    ts, requests = 1_000, []
    for n, (gap, user) in enumerate(gaps):
        ts += gap
        requests.append(Request(f"r{n}", ts, f"u{user}", "s", "q"))
    true = {request.request_id: request.ts for request in requests}
    groups = list(rounds(iter(requests), size, span))
    flat = [request for group in groups for request in group]
    assert sorted(request.request_id for request in flat) == sorted(true)
    assert all(a.ts < b.ts for a, b in itertools.pairwise(flat))
    for group in groups:
        assert len(group) <= size and len({request.user for request in group}) == len(group)
        assert [request.ts - group[0].ts for request in group] == list(range(len(group)))
        assert max(true[r.request_id] for r in group) - true[group[0].request_id] <= span
    for user in range(5):
        mine = [int(request.request_id[1:]) for request in flat if request.user == f"u{user}"]
        assert mine == sorted(mine)


def test_the_history_reaches_the_live_border_and_the_rest_waits_for_its_time(world, sink):
    driver = _driver(world, sink)
    driver.replay_history()
    sent = sink.bodies("impression", "click", "order", "return")
    events = list(world.history())
    assert len(sink.bodies("impression")) == sum(isinstance(event, Impression) for event in events) == 150
    assert all(body["ts"] <= world.live_ms for body in sent)
    assert driver.delivery.clock_ms == world.live_ms
    assert len(sent) + driver.delivery.waiting == len(events)
    gaps = sorted({body["ts"] for body in sink.bodies("tick")})
    assert max(b - a for a, b in itertools.pairwise(gaps)) == SETTINGS.tick_s * 1000


def test_live_searches_are_asked_and_everything_is_delivered(world, sink):
    halves, progress = [], []
    with _serving(world.catalogue.items[:30]) as server:
        driver = _driver(world, sink)
        driver.replay_history()
        log = asyncio.run(driver.shop(server.url, 0.03, progress.append, lambda: halves.append(len(progress))))
    driver.drain(NOW)
    assert log.not_asked == 0 and len(log.searches) == len(server.seen) == 120
    assert all(search.shown == world.catalogue.items[:10] and search.checkpoint == "c7" for search in log.searches)
    assert all(search.weights_version == 2 and search.attempts == 1 for search in log.searches)
    assert len(halves) == 1 and 0 < halves[0] < len(progress)
    assert progress[-1].searches == 120 and log.speed > 100

    outcomes = [world.feedback(search.request, search.shown) for search in log.searches]
    wanted = {(click.request_id, click.item, click.ts) for outcome in outcomes for click in outcome.clicks}
    live = {search.request_id for search in log.searches}
    clicks = [body for body in sink.bodies("click") if body["request_id"] in live]
    assert {(body["request_id"], body["item"], body["ts"]) for body in clicks} == wanted
    assert driver.delivery.waiting == 0 and sink.late(120_000) == []
    assert driver.delivery.clock_ms == NOW

    arrivals = {body["item"]: body["ts"] for body in sink.bodies("item_added")}
    late = {i: int(t) for i, t in zip(world.catalogue.items, world.catalogue.available_from_N, strict=True) if t}
    assert arrivals == late


def test_no_search_is_stamped_before_the_last_tick(world, sink):
    """Searches go out after a tick of the time of their round, so their impressions are never late."""
    with _serving(world.catalogue.items[:3]) as server:
        driver = _driver(world, sink)
        log = asyncio.run(driver.shop(server.url, 0.03))
    ticks = {body["ts"] for body in sink.bodies("tick")}
    starts = [clock for clock, _ in log.clock]
    assert set(starts) <= ticks
    stamps = sorted(ts for _, ts, _ in server.seen)
    assert all(any(0 <= ts - start < 16 for start in starts) for ts in stamps)


def test_a_search_that_fails_is_asked_again_under_a_new_id_and_its_clicks_name_that(world, sink):
    with _serving(world.catalogue.items[:10]) as server:
        ids = [r.request_id for r in world.requests() if world.feedback(r, world.catalogue.items[:10]).clicks]
        server.refuse = dict.fromkeys([ids[0], ids[0] + ".2", ids[1]], 503)
        driver = _driver(world, sink)
        log = asyncio.run(driver.shop(server.url, 0.03))
    driver.drain(NOW)
    by_id = {search.request.request_id: search for search in log.searches}
    assert by_id[ids[0]].request_id == ids[0] + ".3" and by_id[ids[0]].attempts == 3
    assert by_id[ids[1]].request_id == ids[1] + ".2" and log.retries == 3
    wanted = {(s.request_id, c.item) for s in log.searches for c in world.feedback(s.request, s.shown).clicks}
    assert {(body["request_id"], body["item"]) for body in sink.bodies("click")} == wanted
    assert {ids[0] + ".3", ids[1] + ".2"} <= {request_id for request_id, _ in wanted}


def test_a_server_that_stays_away_is_reported_after_the_patience(world, sink):
    settings = SETTINGS.model_copy(update={"server_patience_s": 0.5})
    with pytest.raises(Unavailable, match="no answer for 0 s, last: ConnectError"):
        asyncio.run(_driver(world, sink, settings).shop("http://127.0.0.1:9", 0.01))


def test_an_answer_that_says_the_request_is_wrong_is_not_asked_again(world, sink):
    with _serving(world.catalogue.items) as server:
        server.refuse = {request.request_id: 422 for request in world.requests()}
        with pytest.raises(Unavailable, match="HTTP 422"):
            asyncio.run(_driver(world, sink).shop(server.url, 0.03))


def test_a_live_part_far_behind_its_time_is_cut_and_says_by_how_much(world, sink):
    with _serving(world.catalogue.items[:10]) as server:
        halves: list[int] = []
        log = asyncio.run(_driver(world, sink).shop(server.url, 1e-9, on_half=lambda: halves.append(1)))
    assert log.not_asked > 0
    assert halves == [1] and log.half_at == len(log.searches)  # cut before either half: done at the end
    assert log.not_asked + len(log.searches) == 120


def test_candidates_travel_as_the_filter_and_the_users_groups_beside_them(world, sink):
    request = next(iter(world.requests()))._replace(candidates=("i0000001", "i0000002"))

    class Narrow:
        """The shop with one request that has its own candidates."""

        def __getattr__(self, name: str):
            return getattr(world, name)

        def requests(self):
            return iter([request])

    with _serving(["i0000001"]) as server:
        asyncio.run(_driver(Narrow(), sink).shop(server.url, 0.03))
    sent = {"q": request.query, "user": request.user, "k": "10", "items": "i0000001,i0000002"}
    groups = {"segment": request.segment, "market": request.market}
    assert server.seen == [(request.request_id, request.ts, sent | groups)] and all(groups.values())


def test_half_of_the_time_counts_where_the_searches_are_behind(world, sink):
    """Half of the wall's time is over before the second round of sixty and more: what is due half-way is done then, not later."""
    halves: list[int] = []
    settings = SETTINGS.model_copy(update={"concurrency": 8})
    with _serving(world.catalogue.items[:10]) as server:
        log = asyncio.run(_driver(world, sink, settings).shop(server.url, 1e-4, on_half=lambda: halves.append(1)))
    assert halves == [1] and log.half_at is not None and log.half_at <= 16
