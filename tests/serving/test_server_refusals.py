"""What the server refuses from outside, and what it says when something it needs is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from headrace.services.ports import free_port
from schemas.connections import Connections
from serving.app import OF_CLICK, OF_SEARCH, OFTEN
from tests.serving.logged import impressions

Serve = Callable[..., AbstractContextManager[Any]]
Shop = Any
Prepared = Any

pytestmark = pytest.mark.services


BAD = [
    ({"q": ""}, "q", "1 to 200"),
    ({"q": "   "}, "q", "1 to 200"),
    ({"q": "x" * 10_000}, "q", "at most 200 characters"),
    ({"k": 0}, "k", "1 to 100"),
    ({"k": -3}, "k", "1 to 100"),
    ({"k": 10_000}, "k", "1 to 100"),
    ({"k": "many"}, "k", "a valid integer"),
    ({"user": ""}, "user", "1 to 128"),
    ({"user": "u" * 129}, "user", "at most 128"),
    ({"request_id": "r" * 129}, "X-Request-Id", "at most 128"),
    ({"ts": -1}, "X-Headrace-Time", "0 to"),
    ({"ts": 10**15}, "X-Headrace-Time", "0 to"),
    ({"items": ",,"}, "items", "separated by commas"),
    ({"items": ",".join(map(str, range(2_001)))}, "items", "at most 2000"),
    ({"ban": ","}, "ban", "separated by commas"),
    ({"ban": ",".join(map(str, range(2_001)))}, "ban", "at most 2000"),
    ({"category": ["lamps", ""]}, "category", "a category's name"),
    ({"category": [f"c{n}" for n in range(2_001)]}, "category", "at most 2000"),
    ({"min_price": -1}, "min_price", "at least 0"),
    ({"max_price": "nan"}, "max_price", "finite"),
    ({"max_price": "inf"}, "max_price", "finite"),
    ({"max_price": "cheap"}, "max_price", "valid number"),
    ({"min_price": 5, "max_price": 4}, "min_price", "at most max_price, 4"),
    ({"in_stock": "perhaps"}, "in_stock", "a valid boolean"),
    ({"ban": ["a", "b"]}, "ban", "one value"),
    ({"q": ["lamp", "rug"]}, "q", "one value"),
    ({"pin": "a,b,c", "k": 2}, "pin", "at most k, 2"),
    ({"pin": "a,b", "ban": "b"}, "pin", "not banned"),
]


def test_bad_input_names_the_bound_and_is_not_logged(serve: Serve, shop: Shop, fresh_topics: Connections) -> None:
    """422 with value, bound and remedy for each; an empty list with its reason for a filter that leaves nothing."""
    good = {"q": "lamp", "user": "ann", "ts": shop.world.end_ms}
    with serve(fresh_topics) as server:
        server.wait_ready()
        for bad, what, bound in BAD:
            response = server.search(**(good | bad))
            body = response.json()
            assert response.status_code == 422, (bad, body)
            assert (body["kind"], body["what"]) == ("InvalidRequest", what) and bound in body["bound"], (bad, body)
            assert body["remedy"] and "Traceback" not in response.text
        empty = server.search(**good, items="no-such-item").json()
        dear = server.search(**good, min_price=1e9, in_stock="true").json()
        odd = server.search(**(good | {"q": "!?% \x00 <a_3>", "max_prize": 3}))
        twice = server.http.post("/click", params=[("user", "ann"), ("item", "a"), ("item", "b")])
        known = server.http.get("/openapi.json").json()["paths"]
    assert empty["items"] == [] and "none of the 1 items" in empty["reason"]
    assert dear["items"] == [] and "no item of the catalogue that is available costs 1000000000 or more" in dear["reason"]
    assert odd.status_code == 200 and len(odd.json()["items"]) == 10
    assert odd.json()["notes"] == ["parameter 'max_prize' is not known and was not used"]
    assert twice.status_code == 422 and twice.json()["bound"] == "one value"
    for path, verb, names in (("/search", "get", OF_SEARCH | OFTEN), ("/click", "post", OF_CLICK)):
        assert {p["name"] for p in known[path][verb]["parameters"] if p["in"] == "query"} == names
    assert [i.query for _, i in impressions(fresh_topics)] == ["!?% \x00 <a_3>"]


#: Any character that a client can send; queries and ids beyond their bounds as well.
WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30) | st.text("ab ", min_size=120, max_size=260)
#: Header values: printable ASCII is what HTTP clients agree on.
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=140)


def test_whatever_is_asked_is_answered_or_refused_with_its_bound(
    serve: Serve, shop: Shop, fresh_topics: Connections
) -> None:
    """Any text as query, user, filter, session and segment, any k: a page, an empty one that says why, or 422 with what,
    value, bound and remedy. Nobody knows these users, and they are served all the same."""
    ts, met = shop.world.end_ms, set[int]()
    with serve(fresh_topics) as server:
        server.wait_ready()

        @settings(max_examples=60, derandomize=True, deadline=None, database=None, phases=[Phase.explicit, Phase.generate])
        @given(q=WORDS, user=WORDS, items=WORDS, segment=WORDS, session=WORDS, k=st.integers(-5, 120) | WORDS, name=NAMES)
        @example(q="lamp", user="never seen", items="", segment="", session="", k=10, name="one")
        def answers(name: str, **asked: Any) -> None:
            response = server.search(ts=ts, request_id=name, **asked)
            body = response.json()
            met.add(response.status_code)
            assert response.status_code in (200, 409, 422), response.text
            assert "Traceback" not in response.text
            if response.status_code == 422:
                assert body["what"] and body["bound"] and body["remedy"] and "value" in body
            elif response.status_code == 200:
                assert body["items"] or body["reason"]
                assert len(body["items"]) <= int(asked["k"])

        answers()
    assert {200, 422} <= met


def test_real_clock_refuses_a_given_time(serve: Serve, fresh_topics: Connections) -> None:
    """Unless the clock is simulated, nobody may choose a request's time."""
    with serve(fresh_topics, simulated_clock=False) as server:
        server.wait_ready()
        assert server.search(q="lamp", user="ann", ts=5).json()["what"] == "X-Headrace-Time"
        assert server.search(q="lamp", user="ann").status_code == 200
    ((_, logged),) = impressions(fresh_topics)
    assert abs(logged.ts / 1000 - time.time()) < 60


def test_redis_away_is_said_not_hidden(serve: Serve, shop: Shop, fresh_topics: Connections) -> None:
    """The search is answered without history, with a note and a count; /readyz says 503."""
    away = fresh_topics.model_copy(update={"redis": f"redis://127.0.0.1:{free_port()}/0"})
    with serve(away) as server:
        server.wait(lambda: server.search(q="lamp", user="ann", ts=shop.world.end_ms), lambda r: r.status_code == 200)
        answer = server.search(q="mug", user="ann", ts=shop.world.end_ms).json()
        assert len(answer["items"]) == 10 and "Redis" in answer["notes"][0]
        ready = server.http.get("/readyz")
        assert ready.status_code == 503 and "Redis" in ready.json()["error"]
        assert server.http.get("/healthz").status_code == 200


def test_broker_away_is_503_with_the_reason(serve: Serve, redis_url: str) -> None:
    """Alive but not ready; a search is refused with the reason, not answered without a log."""
    with serve(Connections(kafka=f"127.0.0.1:{free_port()}", redis=redis_url)) as server:
        refused = server.search(q="lamp", user="ann", ts=5)
        assert refused.status_code == 503 and "no checkpoint is loaded yet" in refused.json()["reason"]
        assert server.http.get("/healthz").status_code == 200
        assert server.http.get("/readyz").status_code == 503


def test_artefacts_that_are_missing_end_the_server_with_their_name(
    serve: Serve, prepared: Prepared, fresh_topics: Connections
) -> None:
    """A frozen checkpoint that is not in the store: the failure is kept for `run` to raise, and the page says it."""
    lost = msgspec.structs.replace(prepared.artefacts, frozen="00000000-deadbeef")
    with serve(fresh_topics, artefacts=lost) as server:
        state = server.app.state.server
        while state.failure is None:
            time.sleep(0.05)
        refused = server.http.get("/readyz")
    assert "00000000-deadbeef" in str(state.failure)
    assert refused.status_code == 503 and "a background thread failed" in refused.json()["reason"]
