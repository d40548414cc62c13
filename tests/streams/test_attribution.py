"""The rules of the join, one at a time, with times derived by hand. Times are seconds after `T`."""

from __future__ import annotations

import msgspec

from schemas.events import Click, Impression, Order, ShownItem, Tick
from schemas.filters import Filter
from schemas.topics import VIEWS
from schemas.views import View
from streams.attribution.core import AttributionCore
from tests.streams.join_log import RULES, Log, T, back, click, order, told, view


def test_a_view_is_provisional_after_its_click_window_and_final_after_its_order_window_when_it_changed() -> None:
    """Click at 10 s, order at 2,000 s: provisional when second 1,800 is over, final when 1,800 + 86,400 is."""
    log = Log()(view(), click("b", 10, "r"), order("b", 2_000)).until(400_000)
    assert told(log) == [
        ("r:provisional:1", 1_801, {"b": (1, 0, 1, 0)}),
        ("r:final:2", 88_201, {"b": (1, 1, 0, 1)}),
    ]
    assert log.views[1].items[1].value == 5.0


def test_a_view_that_did_not_change_is_not_said_again() -> None:
    """Order inside the click window: all of it is in the provisional revision."""
    log = Log()(view(), click("b", 10, "r"), order("b", 20)).until(400_000)
    assert told(log) == [("r:provisional:1", 1_801, {"b": (1, 1, 1, 1)})]


def test_a_returned_order_retracts_the_revision_that_told_of_it() -> None:
    """Return at 5,000 s of an order told at 1,801: retracted as soon as that second is over."""
    log = Log()(view(), click("b", 10, "r"), order("b", 20), back("o", 5_000)).until(400_000)
    assert told(log)[1] == ("r:retracted:2", 5_001, {"b": (1, 0, 0, -1)})
    assert len(told(log)) == 2


def test_an_order_returned_before_it_was_told_is_never_told() -> None:
    """Order at 2,000 s, return at 3,000 s: between provisional and final, where nothing is emitted."""
    log = Log()(view(), click("b", 10, "r"), order("b", 2_000), back("o", 3_000)).until(400_000)
    assert told(log) == [("r:provisional:1", 1_801, {"b": (1, 0, 1, 0)})]
    assert (log.core.counters["orders"], log.core.counters["returns"]) == (1, 1)


def test_a_click_without_request_goes_to_the_latest_view_that_shows_the_item() -> None:
    """Of views at 0, 10 and 20 s the one at 10 is the last to show it."""
    log = Log()(view("r1", 0, "ab"), view("r2", 10, "ab"), view("r3", 20, "bc"), click("a", 30)).until(2_000)
    assert {v: labels for v, _, labels in told(log)} == {
        "r1:provisional:1": {},
        "r2:provisional:1": {"a": (1, 0, 1, 0)},
        "r3:provisional:1": {},
    }


def test_the_order_of_arrival_between_topics_does_not_matter() -> None:
    """Order, click and view arrive backwards."""
    forwards = Log()(view(), click("b", 10), order("b", 20)).until(100_000)
    backwards = Log()(order("b", 20), click("b", 10), view()).until(100_000)
    assert told(forwards) == told(backwards) != []


def test_two_orders_of_one_item_both_count_and_one_can_be_returned() -> None:
    """Values 5 and 7; the 5 comes back."""
    log = Log()(view(), click("b", 10), order("b", 20, "o1", 5.0), order("b", 30, "o2", 7.0), back("o1", 5_000)).until(
        400_000
    )
    assert [(v.items[1].orders, v.items[1].value) for v in log.views] == [(2, 12.0), (1, 7.0)]


def test_a_part_of_an_order_can_come_back_and_the_rest_later() -> None:
    """Of 5.00 first 2.00, then 3.00: the order counts until nothing of it is left."""
    log = Log()(view(), click("b", 10), order("b", 20), back("o", 5_000, value=2.0), back("o", 6_000, value=3.0))
    log.until(400_000)
    assert [(v.status, v.items[1].orders, v.items[1].value, v.items[1].d_orders) for v in log.views] == [
        ("provisional", 1, 5.0, 1),
        ("retracted", 1, 3.0, 0),
        ("retracted", 0, 0.0, -1),
    ]


def test_more_than_is_left_cannot_come_back() -> None:
    """Of 5.00 first 2.00, then 4.00; told twice, the first counts once."""
    first = back("o", 30, value=2.0)
    log = Log()(view(), click("b", 10), order("b", 20), first, first, back("o", 40, value=4.0)).until(400_000)
    assert log.reasons == ["contradiction"]
    assert [(v.items[1].orders, v.items[1].value) for v in log.views] == [(1, 3.0)]
    assert (log.core.counters["returns"], log.core.counters["duplicates"]) == (1, 1)


def test_a_click_after_its_window_counts_nowhere_and_neither_does_the_order_that_it_explains() -> None:
    """Clicked 1,801 s after the view, by request and without; ordered after it."""
    log = Log()(view(), click("b", 1_801, "r"), click("b", 1_801), order("b", 1_900)).until(400_000)
    assert sorted(log.reasons) == ["no_click", "not_shown", "outside_window"]
    assert told(log) == [("r:provisional:1", 1_801, {})]


def test_a_user_with_ten_thousand_events_an_hour_is_joined_exactly() -> None:
    """One page every 0.72 s, each clicked on its own item with and without its request id in turn, a tenth of them bought."""
    log, pages = Log(), 5_000
    for n in range(pages):
        page = Impression(T + n * 720, f"r{n}", "u", "shoes", (ShownItem("all", 1, 0.5), ShownItem(f"i{n}", 2, 0.5)))
        log(page, Click(T + n * 720 + 300, "u", f"i{n}", "" if n % 2 else f"r{n}"))
        if n % 10 == 0:
            log(Order(T + n * 720 + 500, "u", f"i{n}", f"o{n}", 1.0))
    log.until(400_000)
    assert log.reasons == []
    assert len(log.views) == pages
    assert all((v.items[0].clicks, v.items[1].clicks) == (0, 1) for v in log.views)
    assert sum(v.items[1].orders for v in log.views) == pages // 10


def test_under_other_windows_a_loaded_state_settles_what_is_overdue_at_once_and_the_rest_by_the_new_ones() -> None:
    """Views at 0 and 600 s, state taken at 1,000 s (watermark 880). Under a click window of 300 s the first is overdue, and goes
    out with the next second; the second is due at 900 s. Its click at 700 s counts, one at 950 s no longer."""
    before = Log()(view("r1"), view("r2", 600), click("a", 700, "r2")).until(1_000)
    assert told(before) == []
    core = AttributionCore(0, RULES.model_copy(update={"click_window_s": 300}))
    core.load(before.core.dump())
    after = Log(core)(click("a", 950, "r2")).until(400_000)
    assert told(after) == [("r1:provisional:1", 881, {}), ("r2:provisional:1", 901, {"a": (1, 0, 1, 0)})]
    assert after.reasons == ["outside_window"]


def test_under_shorter_order_and_return_windows_nothing_is_emitted_into_the_past() -> None:
    """View at 0 with an order told at 1,801 s; state taken at 50,120 s, and the order window cut to 10 s: final is overdue, and
    so is the return at 50,100 s, which the old window would have let in."""
    before = Log()(view(), click("b", 10), order("b", 20)).until(50_120)
    core = AttributionCore(0, RULES.model_copy(update={"order_window_s": 10, "return_window_s": 10}))
    core.load(before.core.dump())
    after = Log(core)(back("o", 50_100)).until(400_000)
    assert told(before) == [("r:provisional:1", 1_801, {"b": (1, 1, 1, 1)})]
    assert (told(after), after.reasons) == ([], ["unknown_order"])


def test_repeats_count_once() -> None:
    """The view, the click by request and without, the order and its return, each twice."""
    log = Log()(
        view(), view(), click("b", 10), click("b", 10, "r"), order("b", 20), order("b", 20), back("o", 30), back("o", 30)
    )
    counters = log.until(400_000).core.counters
    assert [counters[n] for n in ("impressions", "clicks", "orders", "returns", "duplicates")] == [1, 1, 1, 1, 4]


def test_ticks_are_passed_on_in_whole_minutes_behind_the_watermark() -> None:
    """The watermark is 120 s behind: tick 0 at 120 s, tick 120 at 299 s (179 s is within its minute), across a long jump one."""
    log = Log().until(120).until(299).until(100_000)
    said = [msgspec.json.decode(o.value, type=Tick).ts for o in log.out if o.topic == VIEWS.name]
    assert [(ts - T) // 1_000 for ts in said] == [0, 120, 99_840]


def test_a_raw_view_is_written_as_a_view_is() -> None:
    """Same fields, order and tag: what comes out is byte for byte what encoding the decoded view gives, as long as the
    impression was written by `schemas.codec.encode`."""
    log = Log()(view(), view("r2"), click("b", 10, "r"), order("b", 20)).until(400_000)
    said = [o.value for o in log.out if b'"view"' in o.value]
    again = [msgspec.json.encode(msgspec.json.decode(raw, type=View)) for raw in said]
    assert len(said) == 2
    assert said == again


def test_what_the_shop_said_of_the_user_goes_with_every_revision() -> None:
    """Segment and market, as they were written; empty where the impression has none. Longer ones are refused at the door."""
    told_of = msgspec.structs.replace(view(), segment='loyal "a"', market="north")
    log = Log()(told_of, view("r2"), click("b", 10, "r"), order("b", 2_000)).until(400_000)
    said = [(v.request_id, v.revision, v.segment, v.market) for v in log.views]
    assert sorted(said) == [("r", 1, 'loyal "a"', "north"), ("r", 2, 'loyal "a"', "north"), ("r2", 1, "", "")]
    assert Log()(msgspec.structs.replace(view(), segment="s" * 65)).reasons == ["invalid"]


def test_the_filter_of_a_page_goes_with_every_revision() -> None:
    """As it was written, bytes and all; an impression without one, of an older producer say, had none."""
    asked = Filter(("lamps",), min_price=2.5, ban=("z",), pin=("a",))
    told_of = msgspec.structs.replace(view(), filter=asked)
    log = Log()(told_of, view("r2"), click("b", 10, "r"), order("b", 2_000)).until(400_000)
    said = sorted((v.request_id, v.revision, v.filter) for v in log.views)
    assert said == [("r", 1, asked), ("r", 2, asked), ("r2", 1, Filter())]


def test_state_is_let_go_when_everything_is_settled() -> None:
    """After all windows the dump is as small as that of a core that saw ticks alone."""
    busy = Log()(view(), click("b", 10), order("b", 20), back("o", 30), click("z", 40)).until(600_000)
    idle = Log().until(600_000)
    assert len(busy.core.dump()) - len(idle.core.dump()) < 120  # counters


def test_a_return_of_a_repeated_order_id_takes_back_the_later_order_alone() -> None:
    """Return window 6 s: o at 20 s is forgotten when o at 30 s comes and is returned."""
    log = Log(AttributionCore(0, RULES.model_copy(update={"return_window_s": 6})))
    log(view(), click("b", 10), order("b", 20), order("b", 30), back("o", 31)).until(400_000)
    assert told(log) == [("r:provisional:1", 1_801, {"b": (1, 1, 1, 1)})]


def test_an_order_id_that_comes_again_after_it_was_forgotten_is_another_order() -> None:
    """Return window 1 s: the id is forgotten at 21 s, and the second order at 30 s counts beside the first."""
    rules = RULES.model_copy(update={"return_window_s": 1})
    log = Log(AttributionCore(0, rules))(view(), click("b", 10), order("b", 20), order("b", 30)).until(400_000)
    assert told(log) == [("r:provisional:1", 1_801, {"b": (1, 2, 1, 2)})]
    assert log.views[0].items[1].value == 10.0
