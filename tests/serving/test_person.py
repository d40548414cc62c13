"""A person at the server: no time is sent, nothing is simulated, and the wall's clock closes the window."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec
import pytest

from schemas.connections import Connections
from schemas.events import Tick
from schemas.log import scan
from schemas.topics import CLICKS, VIEWS
from schemas.views import View, ViewStatus
from streams.ticks import run_ticks
from tests.streams.conftest import Worker

pytestmark = pytest.mark.services


@contextmanager
def attribution(connections: Connections, group: str, log: Path) -> Iterator[Worker]:
    """The join with windows of seconds, and the wall's clock that closes them, as under `headrace up`."""
    worker = Worker(connections, group, log, {"INSTANCE": "one", "CLICK_WINDOW_S": "3", "LATENESS_S": "1"})
    stop = Event()
    clock = Thread(target=run_ticks, args=(connections, stop, 0.2))
    clock.start()
    try:
        yield worker
    finally:
        stop.set()
        clock.join(60)
        worker.kill()


def first_view(connections: Connections, worker: Worker) -> View:
    """The first view that comes out of the join."""
    deadline = time.monotonic() + 120
    while True:
        for entry in scan(connections, VIEWS):
            if isinstance(entry.record, View):
                return entry.record
        assert time.monotonic() < deadline, worker.log.read_text()[-3_000:]
        time.sleep(0.2)


@pytest.mark.parametrize("simulated", [False, True])
def test_what_a_person_clicks_is_in_the_view_that_the_walls_clock_closes(
    serve: Callable[..., AbstractContextManager[Any]],
    fresh_topics: Connections,
    unique: Callable[[str], str],
    tmp_path: Path,
    simulated: bool,
) -> None:
    """Also under the settings of a demo that was kept: its server takes a time, but nobody has to send one."""
    with (
        serve(fresh_topics, simulated_clock=simulated) as server,
        attribution(fresh_topics, unique("attribution"), tmp_path / "worker.log") as worker,
    ):
        server.wait_ready()
        began = int(time.time() * 1000)
        page = server.search(q="red mug", user="me", k=3).json()
        chosen = {"user": "me", "item": page["items"][1]["item"], "request_id": page["request_id"]}
        answer = server.http.post("/click", params=chosen)
        view = first_view(fresh_topics, worker)
    assert answer.status_code == 202 and answer.json()["item"] == chosen["item"]
    assert began <= view.ts <= answer.json()["ts"] <= int(time.time() * 1000)
    assert (view.request_id, view.user, view.status) == (page["request_id"], "me", ViewStatus.PROVISIONAL)
    assert [item.clicks for item in view.items] == [0, 1, 0]


BAD = [
    ({"user": ""}, "user", "1 to 128"),
    ({"item": ""}, "item", "1 to 128"),
    ({"item": "i" * 129}, "item", "at most 128"),
    ({"request_id": "r" * 129}, "request_id", "at most 128"),
]


def test_a_bad_click_names_its_bound_and_is_not_logged(
    serve: Callable[..., AbstractContextManager[Any]], fresh_topics: Connections
) -> None:
    """422 with value, bound and remedy; where the clock is real, a time is refused too. A good one is there as answered."""
    good = {"user": "me", "item": "i0000001", "request_id": "r1"}
    with serve(fresh_topics, simulated_clock=False) as server:
        for bad, what, bound in BAD:
            body = server.http.post("/click", params=good | bad).json()
            assert body["what"] == what and bound in body["bound"] and body["remedy"], body
        timed = server.http.post("/click", params=good, headers={"X-Headrace-Time": "5"})
        assert timed.status_code == 422 and timed.json()["what"] == "X-Headrace-Time"
        answer = server.http.post("/click", params=good)
    clicks = [entry.record for entry in scan(fresh_topics, CLICKS) if not isinstance(entry.record, Tick)]
    assert [msgspec.to_builtins(click) for click in clicks] == [answer.json()]
