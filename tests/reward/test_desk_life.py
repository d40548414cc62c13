"""The life of a decision, on both databases: every step is a new revision, and the book says what holds."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from reward.campaigns.force import in_force
from reward.desk.oddities import odd_defaults
from reward.desk.undone import undone
from reward.desk.wishes import wish, wish_of
from schemas.decisions import DEFAULTS, Change, State
from schemas.errors import InvalidRequest, NotFound, StartsInPast, WrongState
from schemas.weights import RewardWeights
from tests.reward.desk_toys import ANN, BOB, DAY_MS, EVE, HOUR_MS, NOW_MS, AtDesk, Clock, shoes


def test_defaults_are_version_one_and_a_change_is_a_new_version(at_desk: AtDesk) -> None:
    here = at_desk()
    assert here.book() == RewardWeights()
    second = here.set({"order": 8}, ANN, "campaign")
    third = here.set({"click": 1}, BOB, "less clickbait")
    assert (second.version, second.order, second.click, second.author, second.reason) == (2, 8.0, 3.0, "ann", "campaign")
    assert (third.version, third.order, third.click) == (3, 8.0, 1.0)
    assert third.before is not None and third.before.before is None
    assert here.books() == [RewardWeights(), second, third]
    assert third.before == msgspec.structs.replace(second, before=None)


def test_a_campaign_is_drafted_activated_and_ended(at_desk: AtDesk) -> None:
    """Draft: nothing acts. Active: it is in the book. Ended: it is out, and every revision is still there."""
    here = at_desk()
    drafted = here.draft("sale", shoes(name="Sale"), ANN, "sell shoes")
    assert (drafted.decision.revision, drafted.decision.state, drafted.book) == (1, State.DRAFT, None)
    assert here.book().version == 1 and here.standing("sale").state == State.DRAFT
    live = here.activate("sale", ANN, "agreed")
    assert live.book is not None and live.book == here.book() and live.book.version == 2
    (running,) = here.book().campaigns
    assert (running.id, running.revision, running.order, running.relevance) == ("sale", 2, 8.0, None)
    assert here.standing("sale").draft is None
    ended = here.end("sale", BOB, "sold out")
    assert ended.book is not None and ended.book.campaigns == () and ended.book.version == 3
    assert [(r.revision, r.parent, r.state, r.who, r.book_version) for r in here.revisions("sale")] == [
        (1, 0, "draft", "ann", 0), (2, 1, "active", "ann", 2), (3, 2, "ended", "bob", 3),
    ]  # fmt: skip


def test_what_is_scheduled_becomes_active_and_ends_by_the_clock(at_desk: AtDesk) -> None:
    clock = Clock()
    here = at_desk(clock)
    here.draft("sale", shoes(**{"from": "2026-11-21T12:00", "to": "2026-11-22T12:00"}), ANN, "tomorrow")
    here.schedule("sale", ANN, "go")
    (body,) = here.book().campaigns
    assert (body.starts_ms, body.ends_ms) == (NOW_MS + DAY_MS, NOW_MS + 2 * DAY_MS)
    seen = []
    for hours in (0, 24, 47, 48):
        clock.now_ms = NOW_MS + hours * HOUR_MS
        seen.append((here.standing("sale").state, len(in_force(here.book(), clock.now_ms).campaigns)))
    assert seen == [("scheduled", 0), ("active", 1), ("active", 1), ("ended", 0)]
    assert [one.subject for one in here.standings([State.ENDED])] == ["sale"]
    with pytest.raises(WrongState, match="ended"):
        here.end("sale", ANN, "too late")


def test_a_draft_beside_what_acts_waits_through_an_end(at_desk: AtDesk) -> None:
    """Revising what runs changes nothing until it is activated; ending what runs keeps the draft."""
    here = at_desk()
    here.draft("sale", shoes(), ANN, "one")
    here.activate("sale", ANN, "go")
    here.draft("sale", shoes(order=6), BOB, "milder")
    assert here.diff("sale") == (Change("order", 8.0, 6.0),)
    assert here.book().campaigns[0].order == 8.0 and here.book_with(here.drafted("sale")).campaigns[0].order == 6.0
    here.end("sale", ANN, "stop")
    now = here.standing("sale")
    assert now.state == State.ENDED and now.draft is not None and now.draft.revision == 3
    here.activate("sale", ANN, "again")
    assert here.book().campaigns[0].order == 6.0


def test_rollback_brings_the_whole_back(at_desk: AtDesk) -> None:
    """2: order 8. 3: and a campaign. 4: and another. Back to 3: the second is rolled back. Back to 4: it acts again."""
    here = at_desk()
    here.set({"order": 8}, ANN, "2")
    for name in ("first", "second"):
        here.draft(name, shoes(), ANN, "why")
        here.activate(name, ANN, "why")
    back = here.rollback(3, BOB, "undo")
    assert (back.version, [c.id for c in back.campaigns], back.order, back.author) == (5, ["first"], 8.0, "bob")
    assert [here.standing(name).state for name in ("first", "second")] == ["active", "rolled back"]
    assert len(here.revisions("first")) == 2
    again = here.rollback(4, BOB, "redo")
    assert [c.id for c in again.campaigns] == ["first", "second"] and here.standing("second").state == "active"
    first = here.rollback(1, BOB, "all")
    assert first.campaigns == () and first.order == 4.0
    assert here.standing(DEFAULTS).live.body.order == 4.0  # type: ignore[union-attr]
    with pytest.raises(WrongState, match="differs"):
        here.rollback(7, BOB, "nothing")
    with pytest.raises(NotFound, match="99"):
        here.rollback(99, BOB, "no such")
    assert here.book().version == 7


def test_defaults_with_a_period_lie_under_every_campaign_and_end(at_desk: AtDesk) -> None:
    """From tomorrow for a day order counts 6; then 4 holds again. A campaign of the same time wins."""
    here = at_desk()
    wished = wish({"order": 6, "from": "2026-11-21T12:00", "to": "2026-11-22T12:00"})
    here.draft(DEFAULTS, wished, ANN, "a day")
    here.schedule(DEFAULTS, ANN, "go")
    here.draft("sale", shoes(priority=0), ANN, "lowest")
    here.activate("sale", ANN, "go")
    assert [c.id for c in in_force(here.book(), NOW_MS + DAY_MS).campaigns] == ["sale", "weights"]
    assert [c.id for c in in_force(here.book(), NOW_MS).campaigns] == ["sale"]
    assert here.book().order == 4.0
    here.end(DEFAULTS, ANN, "no")
    assert [c.id for c in here.book().campaigns] == ["sale"]
    with pytest.raises(WrongState, match="period"):
        here.end(DEFAULTS, ANN, "again")


def test_rollback_sees_standing_defaults_below_a_period(at_desk: AtDesk) -> None:
    """2: order 6 tomorrow. 3: order 5 at once takes its place, and says so. Back to 2, to 3, to 2."""
    here = at_desk()
    here.draft(DEFAULTS, wish({"order": 6, "from": "2026-11-21T12:00"}), ANN, "tomorrow")
    here.schedule(DEFAULTS, ANN, "go")
    here.draft(DEFAULTS, wish({"order": 5}), ANN, "now")
    told = here.activate(DEFAULTS, ANN, "now").changes
    assert told == (Change("order", 6.0, 5.0), Change("from", "2026-11-21 12:00:00+00:00", None))
    assert here.book().campaigns == ()
    for version, order, waiting in ((2, 4.0, 1), (3, 5.0, 0), (4, 4.0, 1)):
        back = here.rollback(version, BOB, "there and back")
        assert (back.order, len(back.campaigns)) == (order, waiting)
        assert here.standing(DEFAULTS).state == ("scheduled" if waiting else "active")


def test_verbs_that_do_not_fit_the_state_are_refused(at_desk: AtDesk) -> None:
    here = at_desk()
    for verb in (here.activate, here.schedule, here.end):
        with pytest.raises(NotFound, match="sale"):
            verb("sale", ANN, "why")
    here.draft("sale", shoes(), ANN, "why")
    with pytest.raises(StartsInPast, match="activate"):
        here.schedule("sale", ANN, "no start")
    with pytest.raises(WrongState, match="draft"):
        here.end("sale", ANN, "why")
    here.activate("sale", ANN, "why")
    with pytest.raises(WrongState, match="draft it first"):
        here.activate("sale", ANN, "why")
    with pytest.raises(InvalidRequest, match="why"):
        here.end("sale", ANN, "  ")
    assert here.book().version == 2 and len(here.revisions("sale")) == 2


def test_what_is_scheduled_can_start_at_once(at_desk: AtDesk) -> None:
    here = at_desk()
    here.draft("sale", shoes(**{"from": "2026-11-21T12:00"}), ANN, "tomorrow")
    here.schedule("sale", ANN, "go")
    here.activate("sale", ANN, "no, now")
    assert here.standing("sale").state == "active" and here.book().campaigns[0].starts_ms == 0


def test_the_audit_has_every_step_with_its_difference(at_desk: AtDesk) -> None:
    """Newest first; filtered by subject, person, action and time."""
    clock = Clock()
    here = at_desk(clock)
    here.set({"order": 8}, ANN, "spring")
    here.draft("sale", shoes(), BOB, "shoes")
    clock.now_ms += HOUR_MS
    here.activate("sale", EVE, "go")
    told = [(a.action, a.subject, a.who, a.revision, a.book_version, a.why) for a in here.audit()]
    assert told == [
        ("activate", "sale", "eve", 2, 3, "go"), ("draft", "sale", "bob", 1, 0, "shoes"),
        ("activate", "weights", "ann", 2, 2, "spring"), ("draft", "weights", "ann", 1, 0, "spring"),
    ]  # fmt: skip
    assert here.audit()[2].changes == (Change("order", 4.0, 8.0),)
    assert Change("scope.categories", None, "shoes") in here.audit()[0].changes
    assert [a.who for a in here.audit(("sale",))] == ["eve", "bob"]
    assert [a.subject for a in here.audit(who="ann", action="activate")] == ["weights"]
    assert [a.who for a in here.audit(since_ms=NOW_MS + 1)] == ["eve"]
    assert len(here.audit(limit=2)) == 2


def test_differences_between_versions_of_the_whole(at_desk: AtDesk) -> None:
    here = at_desk()
    here.set({"order": 8}, ANN, "2")
    here.draft("sale", shoes(multipliers={"brands": {"Tessaro": 1.2}}), ANN, "3")
    here.activate("sale", ANN, "3")
    found = {change.field: (change.old, change.new) for change in here.diff_books(1, 3)}
    assert found["order"] == (4.0, 8.0) and found["campaigns.sale.multipliers.brands.Tessaro"] == (None, 1.2)
    assert here.diff_books(3, 3) == ()


def test_campaigns_that_ended_long_ago_leave_the_book(at_desk: AtDesk) -> None:
    """Seven days after its end nobody learns from its time any more."""
    clock = Clock()
    here = at_desk(clock)
    here.draft("sale", shoes(to="2026-11-21T12:00"), ANN, "a day")
    here.activate("sale", ANN, "go")
    clock.now_ms = NOW_MS + 8 * DAY_MS
    assert len(here.set({"order": 5}, ANN, "just before").campaigns) == 0
    assert here.standing("sale").state == "ended"


def test_a_rollback_names_what_it_undid(at_desk: AtDesk) -> None:
    """Velkin alone in version 2, then shoes beside it and other defaults; back to 2, on to 4, and back to the start."""
    here = at_desk()
    for subject, scope in (("velkin", {"brands": ["Velkin"]}), ("sale", {"categories": ["shoes"]})):
        here.draft(subject, wish({"scope": scope, "order": 6}), ANN, "why")
        here.activate(subject, ANN, "why")
    here.set({"click": 2}, ANN, "less")
    made = here.rollback(2, BOB, "too much")
    told = undone(here.book(4), made, 2)
    assert (told.back_to, told.instead_of, told.taken_out, told.brought_back) == (2, 4, ("sale",), ())
    assert str(told) == "back to version 2 from 4; taken out: sale; defaults: click 2 -> 3"
    again = here.rollback(4, BOB, "after all")
    assert undone(made, again, 4).brought_back == ("sale",)
    here.set({"click": 3}, ANN, "as it was")
    here.rollback(2, BOB, "campaigns alone")
    lines = here.audit((DEFAULTS,), action="rollback")
    assert ["; ".join(map(str, line.changes)) for line in lines] == [
        "as of version 7 -> 2; taken out none -> sale",
        "as of version 5 -> 4; brought back none -> sale; click 3 -> 2",
        "as of version 4 -> 2; taken out none -> sale; click 2 -> 3",
    ]
    assert [line.book_version for line in lines] == [8, 6, 5]
    assert str(here.audit(("sale",), action="rollback")[0].changes[0]) == "as of version 7 -> 2"
    assert here.told_of(8).startswith("rollback by bob: as of version 7 -> 2; taken out")
    assert here.told_of(7) == "activate weights by ann: as it was"


def test_orders_below_clicks_are_told_and_no_change_is_refused(at_desk: AtDesk) -> None:
    here = at_desk()
    assert here.draft("sale", shoes(order=2), ANN, "why").warnings == ("orders count less than clicks: order 2, click 3",)
    assert here.draft("sale", shoes(order=3), ANN, "why").warnings == ()
    with pytest.raises(InvalidRequest, match="nothing to set"):
        here.set({"order": 4}, ANN, "as it is")
    assert here.book().version == 1 and here.audit((DEFAULTS,)) == []
    assert odd_defaults(here.set({"order": 1}, ANN, "odd"))


def test_another_zone_alone_moves_no_time_and_says_so(at_desk: AtDesk) -> None:
    """Midnight of Berlin is 18:00 of New York. Given again it is New York's; Paris, whose clocks agree, is no word worth."""
    here = at_desk()
    berlin = shoes(**{"from": "2026-11-27T00:00", "to": "2026-11-30T00:00", "zone": "Europe/Berlin"})
    first = here.draft("sale", berlin, ANN, "why")
    assert first.warnings == ()
    kept = replace(wish_of(first.decision.body), zone="America/New_York")
    [told] = here.draft("sale", kept, ANN, "their morning").warnings
    assert "from 2026-11-27 00:00:00+01:00 is 2026-11-26 18:00:00-05:00 there, to 2026-11-30" in told
    assert "for the same hours in America/New_York give from and to again" in told
    moved = here.draft("sale", replace(berlin, zone="America/New_York"), ANN, "their midnight")
    assert moved.warnings == () and moved.decision.body.starts_ms == first.decision.body.starts_ms + 6 * HOUR_MS
    there = here.draft("sale", berlin, ANN, "back").decision.body
    assert here.draft("sale", replace(wish_of(there), zone="Europe/Paris"), ANN, "the same clocks").warnings == ()
