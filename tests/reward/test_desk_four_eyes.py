"""With four eyes nobody makes act, alone, what they drafted: not at another time, not edited by another, not by going back."""

from __future__ import annotations

import pytest

from reward.desk.desk import Desk
from reward.desk.wishes import Wish, wish
from schemas.decisions import DEFAULTS, Actor, Role
from schemas.errors import FourEyes
from tests.reward.desk_toys import DAN, AtDesk, Clock, shoes

ANN, BOB = Actor("ann", Role.APPROVER), Actor("bob", Role.APPROVER)
DECEMBER = {"from": "2026-12-01T00:00", "to": "2026-12-05T00:00"}
WISHES = {DEFAULTS: wish({"order": 8}), "sale": shoes()}


def live(here: Desk, subject: str, wished: Wish, drafts: Actor, approves: Actor) -> None:
    here.draft(subject, wished, drafts, "why")
    here.activate(subject, approves, "seen")


@pytest.mark.parametrize(("subject", "wished"), [("sale", shoes(**DECEMBER)), (DEFAULTS, wish({"order": 8} | DECEMBER))])
def test_another_time_than_the_approved_one_is_a_draft_anew(at_desk: AtDesk, subject: str, wished: Wish) -> None:
    """Bob approved December; now takes somebody other than who drafted it."""
    here = at_desk(four_eyes=True)
    here.draft(subject, wished, ANN, "why")
    here.schedule(subject, BOB, "in December")
    with pytest.raises(FourEyes, match=r"ann .*activate their own draft"):
        here.activate(subject, ANN, "now")
    assert here.activate(subject, BOB, "now after all").decision.approved_by == "bob"


def test_whoever_edited_a_draft_may_not_let_it_act(at_desk: AtDesk) -> None:
    """Bob renames what Ann drafted: neither of them; once it acts, what each adds to it is asked about alone."""
    here = at_desk(four_eyes=True)
    here.draft("sale", shoes(), ANN, "why")
    here.draft("sale", shoes(name="Sale"), BOB, "a name")
    for actor in (ANN, BOB):
        with pytest.raises(FourEyes, match="their own draft"):
            here.activate("sale", actor, "why")
    here.activate("sale", DAN, "seen")
    live(here, "sale", shoes(name="Sale", order=6), BOB, ANN)
    assert here.revisions("sale")[-1].who == "ann"


@pytest.mark.parametrize("further", [{"scope": {}}, {"priority": 500}, {"to": "2027-01-01"}])
def test_a_campaign_that_reaches_further_is_a_draft_anew(at_desk: AtDesk, further: dict[str, object]) -> None:
    """Ann's orders were approved for shoes, behind others, to the end of the year; Bob's edit takes them further."""
    here, until = at_desk(four_eyes=True), {"to": "2026-12-31"}
    live(here, "sale", shoes(**until), ANN, BOB)
    here.draft("sale", shoes(**until | further), BOB, "further")
    with pytest.raises(FourEyes):
        here.activate("sale", ANN, "why")
    here.activate("sale", DAN, "seen")


@pytest.mark.parametrize("subject", WISHES)
def test_going_back_to_ones_own_draft_takes_another(at_desk: AtDesk, subject: str) -> None:
    """Ann's version 2 is undone by Bob. Again in force it is hers; Bob, who had approved it, and Dan may."""
    here = at_desk(four_eyes=True)
    live(here, subject, WISHES[subject], ANN, BOB)
    with pytest.raises(FourEyes, match="roll back what they drafted"):
        here.rollback(1, ANN, "her own, undone")
    here.rollback(1, BOB, "undo")
    with pytest.raises(FourEyes, match="roll back what they drafted"):
        here.rollback(2, ANN, "back, alone")
    here.rollback(2, BOB, "after all")
    with pytest.raises(FourEyes):
        here.rollback(3, ANN, "undo, what a rollback brought back")
    here.rollback(3, DAN, "undo")
    with pytest.raises(FourEyes):
        here.rollback(4, ANN, "back, to the version of a rollback")


@pytest.mark.parametrize("subject", WISHES)
def test_every_step_between_two_versions_is_asked_about(at_desk: AtDesk, subject: str) -> None:
    """Version 2 by Ann, 3 of something else by Dan: neither undoes both, Bob does; and neither brings both back."""
    here = at_desk(four_eyes=True)
    live(here, subject, WISHES[subject], ANN, BOB)
    live(here, "tools", shoes(scope={"categories": ["tools"]}), DAN, BOB)
    for version in (1, 3):
        for actor in (ANN, DAN):
            with pytest.raises(FourEyes):
                here.rollback(version, actor, "why")
        if version == 1:
            here.rollback(1, BOB, "undo")


def test_what_was_ended_and_comes_back_is_its_drafters(at_desk: AtDesk) -> None:
    """By going back, or as a draft that another wrote on top of what ended."""
    here = at_desk(four_eyes=True)
    live(here, "sale", shoes(), ANN, BOB)
    here.end("sale", ANN, "an editor may stop at any time")
    with pytest.raises(FourEyes):
        here.rollback(2, ANN, "back")
    here.draft("sale", shoes(name="Sale"), BOB, "a name")
    with pytest.raises(FourEyes):
        here.activate("sale", ANN, "back")
    here.activate("sale", DAN, "seen")


def test_undoing_an_edit_of_another_is_not_ones_own_draft(at_desk: AtDesk) -> None:
    """Ann's sale acts; Bob's edit of its orders is undone by her: nothing of hers newly acts. He may not."""
    here = at_desk(four_eyes=True)
    live(here, "sale", shoes(), ANN, DAN)
    live(here, "sale", shoes(order=6), BOB, DAN)
    with pytest.raises(FourEyes):
        here.rollback(2, BOB, "undo")
    assert here.rollback(2, ANN, "undo").campaigns[0].order == 8
    with pytest.raises(FourEyes):
        here.rollback(3, BOB, "back")


def test_a_period_that_is_over_is_nobodys(at_desk: AtDesk) -> None:
    """Sale is over by itself; going back to when it ran brings nothing of it back."""
    clock = Clock()
    here = at_desk(clock, four_eyes=True)
    live(here, "sale", shoes(to="2026-11-20T13:00"), ANN, BOB)
    live(here, "tools", shoes(scope={"categories": ["tools"]}), BOB, DAN)
    clock.now_ms += 2 * 3_600_000
    assert here.rollback(1, ANN, "undo").version == 4
