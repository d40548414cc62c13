"""Relevance keeps its worth at every instant from now on: when a campaign ends by the clock, by hand, or by a rollback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.campaigns.force import in_force
from reward.desk.desk import Desk
from reward.desk.meeting import effective
from reward.desk.wishes import wish
from reward.desk.worth import relevance_share, worthless
from schemas.campaigns import Campaign, Scope
from schemas.decisions import DEFAULTS
from schemas.errors import Forbidden, WorthlessRelevance
from schemas.weights import RewardWeights
from tests.reward.desk_toys import ANN, EVE, NOW_MS, AtDesk, Clock, facts, shoes

FACTS = facts()
#: 25 s after the clock of the toys.
SOON = "2026-11-20T12:00:25"
#: The last instant of the small world: whatever ends has ended.
LAST = 8


@st.composite
def books(draw: st.DrawFn) -> RewardWeights:
    """Up to four campaigns of which some carry relevance and others would drown it."""
    made = []
    for n in range(draw(st.integers(1, 4))):
        starts = draw(st.integers(0, 4))
        made.append(
            Campaign(
                f"c{n}", 1, "c", "o", Scope(categories=draw(st.sampled_from(((), ("shoes",), ("tools",))))),
                starts, draw(st.sampled_from((0, starts + 1, starts + 3))), priority=draw(st.integers(0, 1)),
                relevance=draw(st.sampled_from((None, 0.5, 50.0))), order=draw(st.sampled_from((None, 20.0, 100.0))),
            )
        )  # fmt: skip
    return RewardWeights(campaigns=tuple(made))


@given(books(), st.integers(0, LAST))
def test_the_bound_is_asked_of_every_instant(book: RewardWeights, now: int) -> None:
    """The oracle opens the book at each instant and looks at what holds there; the worst of all is what is told."""
    told = worthless(RewardWeights(), book, lambda: FACTS, 0.1, now)
    worst = min(
        relevance_share(found) for at in range(now, LAST + 1) for found in effective(in_force(book, at), FACTS, at).values()
    )
    assert (told is not None) == (worst < 0.1)
    if told is not None:
        assert str(told.value).startswith(f"{worst:.3f} ")


def lifted(here: Desk) -> None:
    """Shoes whose relevance counts 50, for 25 seconds."""
    here.draft("aa", shoes(order=None, relevance=50, to=SOON), ANN, "why")
    here.activate("aa", ANN, "why")
    here.draft("bb", shoes(order=100), ANN, "why")


def test_what_would_be_left_after_an_end_by_the_clock_is_refused(at_desk: AtDesk) -> None:
    """Beside aa the share is 150 / 251; bb alone leaves 3 / 104, which draft and both verbs say beforehand."""
    here = at_desk()
    lifted(here)
    with pytest.raises(WorthlessRelevance, match=r"under bb is '0\.029"):
        here.activate("bb", ANN, "aa stands beside it, for now")
    assert any("under bb is '0.029" in told for told in here.refusals(here.drafted("bb")))
    here.draft("bb", shoes(order=100, to=SOON), ANN, "no longer than aa")
    assert here.activate("bb", ANN, "they end together").decision.override is False


def test_defaults_with_a_period_hold_up_relevance_only_until_their_end(at_desk: AtDesk) -> None:
    here = at_desk()
    here.draft(DEFAULTS, wish({"relevance": 50, "to": SOON}), ANN, "why")
    here.activate(DEFAULTS, ANN, "why")
    here.draft("bb", shoes(order=100), ANN, "why")
    with pytest.raises(WorthlessRelevance, match=r"under bb is '0\.029"):
        here.activate("bb", ANN, "why")


def test_an_end_that_leaves_relevance_worthless_takes_an_approver(at_desk: AtDesk) -> None:
    """aa without an end lets bb through; who then ends aa decides what was refused, and the audit has it."""
    here = at_desk()
    for subject, wished in (("aa", shoes(order=None, relevance=50)), ("bb", shoes(order=100))):
        here.draft(subject, wished, ANN, "why")
        here.activate(subject, ANN, "why")
    with pytest.raises(WorthlessRelevance, match=r"under bb is '0\.029"):
        here.end("aa", ANN, "why")
    with pytest.raises(Forbidden, match=r"end with override.*role approver"):
        here.end("aa", ANN, "why", override=True)
    assert here.book().version == 3
    assert here.end("aa", EVE, "on purpose", override=True).decision.override
    assert [(one.who, one.override) for one in here.audit(("aa",), action="end")] == [("eve", True)]
    assert not here.end("bb", ANN, "what is left is better").decision.override


def test_a_rollback_to_what_time_has_made_worthless_is_refused(at_desk: AtDesk) -> None:
    """Version 3 was overridden; back to it is decided anew, before and after."""
    clock = Clock()
    here = at_desk(clock)
    lifted(here)
    here.activate("bb", EVE, "on purpose", override=True)
    here.end("bb", ANN, "why")
    for seconds in (0, 30):
        clock.now_ms = NOW_MS + 1000 * seconds
        with pytest.raises(WorthlessRelevance, match=r"under bb is '0\.029"):
            here.rollback(3, ANN, "why")
    here.rollback(3, EVE, "on purpose", override=True)
    assert [one.override for one in here.audit(("bb",), action="rollback")] == [True]
