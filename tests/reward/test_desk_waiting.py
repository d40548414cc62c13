"""A draft of the defaults waits beside a set by somebody else, and does not act over it unseen."""

from __future__ import annotations

import pytest

from reward.desk.wishes import wish
from schemas.decisions import DEFAULTS, Change
from schemas.errors import Superseded
from tests.reward.desk_toys import ANN, BOB, AtDesk


def test_a_set_leaves_a_draft_that_waits_where_it_is(at_desk: AtDesk) -> None:
    """Also a second set, and one beside a draft that was edited; a later edit goes on from the draft."""
    here = at_desk()
    here.draft(DEFAULTS, wish({"order": 8}), ANN, "spring")
    here.draft(DEFAULTS, wish({"order": 9}), ANN, "warm spring")
    for click in (2.0, 1.0):
        assert (made := here.set({"click": click}, BOB, "less clickbait")).click == click and made.order == 4
        waiting = here.standing(DEFAULTS).draft
        assert waiting is not None and (waiting.revision, waiting.who, waiting.body.order) == (2, "ann", 9)
    assert here.diff(DEFAULTS) == (Change("order", 4.0, 9.0),)
    assert here.draft(DEFAULTS, wish({"order": 7}), ANN, "seen").decision.parent == 2
    here.activate(DEFAULTS, ANN, "written over Bob's click")
    assert (here.book().order, here.book().click, here.standing(DEFAULTS).draft) == (7, 1, None)


def test_a_draft_that_others_moved_under_is_told_with_what_they_changed(at_desk: AtDesk) -> None:
    """Without an expectation, and with that of the draft; who expects the newest has seen it."""
    here = at_desk()
    here.draft(DEFAULTS, wish({"order": 8}), ANN, "spring")
    here.set({"order": 2, "click": 2}, BOB, "less")
    for expected in (None, 1):
        with pytest.raises(Superseded, match=r"stands at revision 3 by bob .*order") as caught:
            here.activate(DEFAULTS, ANN, "why", expected)
        assert caught.value.who == "bob"
    with pytest.raises(Superseded, match=r"after the draft \(revision 1 by ann: spring\).*click 3 -> 2") as caught:
        here.activate(DEFAULTS, ANN, "why")
    assert set(caught.value.changes) == {Change("click", 3.0, 2.0), Change("order", 4.0, 2.0)}
    here.activate(DEFAULTS, ANN, "still meant", 3)
    assert (here.book().order, here.book().click) == (8, 2)


def test_defaults_that_are_again_as_the_draft_saw_them_have_not_moved(at_desk: AtDesk) -> None:
    here = at_desk()
    here.set({"ctr": 2}, BOB, "before the draft")
    here.draft(DEFAULTS, wish({"order": 8}), ANN, "spring")
    here.set({"click": 2}, BOB, "less")
    here.rollback(2, BOB, "as it was")
    here.activate(DEFAULTS, ANN, "spring")
    assert (here.book().ctr, here.book().order, here.book().click) == (2, 8, 3)
