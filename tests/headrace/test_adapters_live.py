"""The live part of a world that is a log: where it is cut, who is asked, and how the log answers another order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headrace.adapters.log_split import LoggedView, sample_users, split_log
from headrace.adapters.logged import LoggedWorld
from headrace.adapters.opening import open_world
from headrace.shop.settings import DAY_MS, FolderSettings, ShopSettings
from headrace.world import Outcome, Request
from reward.judgments import Judgment
from reward.text import normalise
from schemas.catalogue import Catalogue
from schemas.errors import InvalidValue
from schemas.events import Click, Impression, Order, Return, ShownItem

NOW = 1_790_000_000_000
T = NOW - 10 * DAY_MS
DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
#: The formats themselves are tested on small files that the tests write; these add the real ones, where somebody has them.
needs_data = pytest.mark.skipif(
    not DATA.is_dir(),
    reason=f"the data sets may not be redistributed: put trivago_lists_day1 and kuaisearch_demo into {DATA}",
)


def _view(n: int, ts: int, user: str = "u", items: str = "abc", clicked: str = "", bought: str = "") -> LoggedView:
    """A page of one-letter items: clicked ones 7 s after it, bought ones a minute after it and back an hour later."""
    shown = tuple(ShownItem(item, place) for place, item in enumerate(items, start=1))
    return LoggedView(
        Impression(ts, f"v{n}", user, "lamp", shown, "s"),
        Outcome(
            tuple(Click(ts + 7_000, user, item, f"v{n}", items.index(item) + 1) for item in clicked),
            tuple(Order(ts + 60_000, user, item, f"o-v{n}-{item}", 5.0) for item in bought),
            tuple(Return(ts + 3_600_000, user, f"o-v{n}-{item}") for item in bought),
        ),
    )


def _world(views: list[LoggedView], judgments: tuple[Judgment, ...] = (), **settings: object) -> LoggedWorld:
    items = sorted({shown.item for view in views for shown in view.impression.items})
    n = len(items)
    catalogue = Catalogue(
        tuple(items), tuple(items), ("",) * n, ("",) * n, np.zeros(n, np.float32), np.zeros(n, np.int64), ({},) * n
    )
    return LoggedWorld("log", catalogue, judgments, split_log(views, FolderSettings(**settings), 1))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.3, 3), (0.6, 6), (1.0, 10)])
def test_the_first_share_of_page_views_is_history(share, expected):
    views = [_view(n, T + 1_000 * n) for n in reversed(range(10))]
    split = split_log(views, FolderSettings(log_history_share=share), 1)
    assert [view.impression.request_id for view in split.history] == [f"v{n}" for n in range(expected)]
    assert [view.impression.request_id for view in split.live] == [f"v{n}" for n in range(expected, 10)]
    assert split.end_ms == T + 9_001
    assert split.live_ms == (T + 1_000 * expected if expected < 10 else split.end_ms)


def test_views_of_one_moment_are_on_one_side_of_the_border():
    """Six of ten would be history; the fourth to the eighth share a millisecond, so three are."""
    views = [_view(n, T + (3 if 3 <= n < 8 else n), f"u{n}") for n in range(10)]
    split = split_log(views, FolderSettings(), 1)
    assert len(split.history) == 3 and len(split.live) == 7 and split.live_ms == T + 3


def test_what_became_of_a_live_view_is_not_in_the_history_and_the_other_way_round():
    """Each view's click, order and return come after later views; by their own time they would be on the wrong side."""
    world = _world([_view(n, T + 1_000 * n, f"u{n}", clicked="b", bought="b") for n in range(10)])
    history = list(world.history())
    assert [event.ts for event in history] == sorted(event.ts for event in history)
    past = {f"v{n}" for n in range(6)}
    assert {event.request_id for event in history if isinstance(event, Impression | Click)} == past
    assert {event.order_id for event in history if isinstance(event, Order | Return)} == {f"o-{v}-b" for v in past}
    requests = list(world.requests())
    assert {request.request_id for request in requests} == {f"v{n}" for n in range(6, 10)}
    assert all(world.live_ms <= request.ts < world.end_ms for request in requests)
    assert all(event.ts < world.live_ms for event in history if isinstance(event, Impression))
    assert world.start_ms == T and world.drift_ms == world.end_ms


def test_a_live_request_is_the_logged_view_with_its_items_as_candidates():
    world = _world([_view(0, T), _view(1, T + 5, "ann", "cab")], log_history_share=0.5)
    assert list(world.requests()) == [Request("v1", T + 5, "ann", "s", "lamp", ("c", "a", "b"))]


def test_logged_clicks_and_orders_follow_their_item_to_its_new_place():
    """The request is asked 40 s later than the view was: what follows keeps its delay, 7 s, a minute, an hour."""
    world = _world([_view(0, T, items="abcd", clicked="bd", bought="b")], log_history_share=0)
    [request] = world.requests()
    asked = request._replace(ts=T + 40_000)
    outcome = world.feedback(asked, ["d", "a", "b"])
    assert outcome.clicks == (Click(T + 47_000, "u", "b", "v0", 3), Click(T + 47_000, "u", "d", "v0", 1))
    assert outcome.orders == (Order(T + 100_000, "u", "b", "o-v0-b", 5.0),)
    assert outcome.returns == (Return(T + 3_640_000, "u", "o-v0-b"),)
    assert world.feedback(asked, ["d", "a", "b"]) == outcome


def test_what_the_new_page_does_not_show_does_not_happen():
    world = _world([_view(0, T, items="abcd", clicked="bd", bought="b")], log_history_share=0)
    [request] = world.requests()
    assert world.feedback(request, ["a", "d"]) == Outcome((Click(T + 7_000, "u", "d", "v0", 2),), (), ())
    assert world.feedback(request, ["a", "c"]) == world.feedback(request, []) == Outcome((), (), ())


def test_the_truth_is_the_judgments_and_the_logged_clicks():
    judgments = (Judgment("lamp", "b", 2), Judgment("door", "a", 3))
    world = _world([_view(0, T, clicked="c"), _view(1, T, items="ac")], judgments, log_history_share=0)
    with_label, without = world.requests()
    assert world.tiers("lamp", ["a", "b", "c"]).tolist() == [0, 2, 0]
    assert (world.labelled(with_label), world.labelled(without)) == (True, False)
    assert world.click_probability(with_label, ["c", "a"]).tolist() == [1.0, 0.0]
    assert world.click_probability(without, ["c", "a"]).tolist() == [0.0, 0.0]
    assert "1 of 2 live page views" in world.notes[-1]


def test_requests_of_another_world_are_refused():
    world = _world([_view(0, T)])
    for ask in (world.feedback, world.click_probability):
        with pytest.raises(InvalidValue, match=r"requests\(\)"):
            ask(Request("elsewhere", T, "u", "", "lamp"), ["a"])


def test_bounds_leave_whole_users_but_one_and_say_so():
    """Ten users with three views each: room for 11 views is three users and two views of a fourth."""
    views = [_view(n, T + n, f"u{n % 10}") for n in range(30)]
    kept = sample_users(views, 11, seed=4)
    assert [view.impression.ts for view in kept] == sorted(view.impression.ts for view in kept)
    counts = sorted([view.impression.user for view in kept].count(f"u{n}") for n in range(10))
    assert counts == [0] * 6 + [2, 3, 3, 3]
    assert sample_users(views, 11, seed=4) == kept != sample_users(views, 11, seed=5)
    assert sample_users(views, 30, seed=4) == views
    split = split_log(views, FolderSettings(log_history_share=0.5, log_history_views=4, log_live_views=0), 4)
    assert (len(split.history), len(split.live)) == (4, 0) and split.live_ms == T + 15
    assert all(part in split.note for part in ("30 page views", "first 15", "4 of them", "0 are asked live"))


def test_what_is_later_than_the_live_days_is_left_out_and_said():
    """History is the first of four; the live part begins with the second and lasts two days, its end not included."""
    views = [_view(n, T + n * DAY_MS, f"u{n}") for n in range(4)]
    split = split_log(views, FolderSettings(log_history_share=0.25, live_days=2), 1)
    assert [view.impression.request_id for view in split.live] == ["v1", "v2"]
    assert (split.live_ms, split.end_ms) == (T + DAY_MS, T + 2 * DAY_MS + 1)
    assert "of the 3 later ones 2 lie within 2 days, 2 are asked live" in split.note


def test_both_parts_keep_the_same_people():
    views = [_view(n, T + n, f"u{n % 10}") for n in range(40)]
    split = split_log(views, FolderSettings(log_history_share=0.5, log_history_views=6, log_live_views=6), 4)
    people = [{view.impression.user for view in part} for part in (split.history, split.live)]
    assert people[0] == people[1] and len(people[0]) == 3


@needs_data
@pytest.mark.parametrize("name", ["trivago_lists_day1", "kuaisearch_demo"])
def test_real_logs_have_a_live_part_that_answers_as_logged(name):
    """Shown as logged, the replay gives back the log's own clicks: 60 % before the border, nobody lost in between."""
    world = open_world(str(DATA / name), ShopSettings(), NOW, 7)
    pages = [event for event in world.history() if isinstance(event, Impression)]
    requests = list(world.requests())
    whole = open_world(str(DATA / name), ShopSettings(folder=FolderSettings(log_history_share=1)), NOW, 7)
    logged = {page.request_id: page for page in whole.history() if isinstance(page, Impression)}
    clicks = [event for event in whole.history() if isinstance(event, Click)]
    assert {page.request_id for page in pages} | {r.request_id for r in requests} == set(logged)
    assert abs(len(pages) / len(logged) - 0.6) < 0.01
    assert max(page.ts for page in pages) < world.live_ms <= requests[0].ts and requests[-1].ts < world.end_ms
    assert all(set(request.candidates) <= set(world.catalogue.items) for request in requests)
    assert all(normalise(request.query) for request in requests if any(map(str.isalnum, request.query)))
    replayed = [click for request in requests for click in world.feedback(request, request.candidates).clicks]
    live = {request.request_id for request in requests}
    assert sorted(replayed, key=str) == sorted((click for click in clicks if click.request_id in live), key=str)
    probability = sum(world.click_probability(request, request.candidates).sum() for request in requests)
    assert probability == len(replayed)  # both logs have one click at most on an item of a page


@needs_data
@pytest.mark.parametrize("name", ["trivago_lists_day1", "kuaisearch_demo"])
def test_the_catalogue_does_not_tell_in_which_order_a_page_was_logged(name):
    """Who breaks ties by catalogue row must not repeat the log: over all neighbours on pages, half of the steps go down."""
    world = open_world(str(DATA / name), ShopSettings(), NOW, 7)
    pages = [[world.catalogue.row[item] for item in request.candidates] for request in world.requests()]
    steps = np.concatenate([np.diff(page) for page in pages])
    assert abs(np.mean(steps > 0) - 0.5) < 3 * 0.5 / np.sqrt(len(steps))


@needs_data
def test_the_catalogue_of_a_bounded_log_holds_what_its_used_pages_show():
    bounds = FolderSettings(log_history_views=50, log_live_views=20)
    world = open_world(str(DATA / "trivago_lists_day1"), ShopSettings(folder=bounds), NOW, 7)
    pages = [event for event in world.history() if isinstance(event, Impression)]
    shown = {entry.item for page in pages for entry in page.items}
    shown |= {item for request in world.requests() for item in request.candidates}
    assert (len(pages), len(list(world.requests()))) == (50, 20) and set(world.catalogue.items) == shown
