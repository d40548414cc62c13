"""What would keep a draft from acting is told when it is written and looked at, in the words of the refusal itself."""

from __future__ import annotations

import pytest

from reward.desk.desk import Desk
from reward.desk.wishes import wish
from schemas.decisions import DEFAULTS
from schemas.errors import EmptyScope, EndsInPast, InvalidRequest, NoMargins, StartsInPast, WorthlessRelevance
from tests.reward.desk_toys import ANN, DAY_MS, EVE, HOUR_MS, NOW_MS, AtDesk, Clock, shoes


def refused(here: Desk, subject: str, verb: str, error: type[InvalidRequest]) -> str:
    """The sentence of a refusal, without what the record of a number of revisions adds."""
    with pytest.raises(error) as caught:
        (here.activate if verb == "activate" else here.schedule)(subject, ANN, "why")
    return f"{verb} would refuse this: {caught.value}"


def test_relevance_that_would_be_worthless_is_told_with_who_may_override_it(at_desk: AtDesk) -> None:
    """3 / (3 + 1 + 27) is below 0.1: of a campaign and of the defaults. An approver overrides it, and then it is not told again."""
    here = at_desk()
    drafted = here.draft("sale", shoes(order=27), ANN, "why")
    (told,) = drafted.refusals
    assert told == refused(here, "sale", "activate", WorthlessRelevance)
    assert "0.097" in told and "an approver may override it" in told
    assert here.draft(DEFAULTS, wish({"order": 27}), ANN, "why").refusals[0] == refused(
        here, DEFAULTS, "activate", WorthlessRelevance
    )
    here.activate("sale", EVE, "on purpose", override=True)
    assert here.draft("sale", shoes(order=27, click=2), ANN, "no worse than what was overridden").refusals == ()


def test_a_draft_that_may_act_is_told_nothing(at_desk: AtDesk) -> None:
    here = at_desk()
    assert here.draft("sale", shoes(), ANN, "why").refusals == ()
    later = shoes(**{"from": "2026-11-21T12:00", "to": "2026-11-22T12:00"})
    assert here.draft("later", later, ANN, "why").refusals == ()


def test_time_that_passed_since_the_draft_is_told(at_desk: AtDesk) -> None:
    """From tomorrow for a day. After its start only the schedule is too late; after its end both verbs are."""
    clock = Clock()
    here = at_desk(clock)
    here.draft("sale", shoes(**{"from": "2026-11-21T12:00", "to": "2026-11-22T12:00"}), ANN, "why")
    clock.now_ms = NOW_MS + DAY_MS + HOUR_MS
    assert here.refusals(here.drafted("sale")) == (refused(here, "sale", "schedule", StartsInPast),)
    clock.now_ms = NOW_MS + 2 * DAY_MS
    assert here.refusals(here.drafted("sale")) == (
        refused(here, "sale", "activate", EndsInPast),
        refused(here, "sale", "schedule", StartsInPast),
    )


def test_what_both_verbs_would_refuse_is_told_once(at_desk: AtDesk) -> None:
    drafted = at_desk().draft("sale", shoes(order=27, **{"from": "2026-11-21T12:00"}), ANN, "why")
    (told,) = drafted.refusals
    assert told.startswith("activate and schedule would refuse this: the share of relevance")


def test_a_catalogue_that_lost_the_margins_is_told(at_desk: AtDesk) -> None:
    """The draft was made over another one."""
    at_desk().draft("lean", shoes(multipliers={"margin": 1.5}), ANN, "why")
    here = at_desk(margins=False)
    assert here.refusals(here.drafted("lean")) == (refused(here, "lean", "activate", NoMargins),)


def test_a_scope_that_matches_nothing_any_more_is_told(at_desk: AtDesk) -> None:
    """The shop's list of markets has changed since."""
    at_desk().draft("german", shoes(scope={"markets": ["de"]}), ANN, "why")
    here = at_desk(markets=("fr",))
    assert here.refusals(here.drafted("german")) == (refused(here, "german", "activate", EmptyScope),)


def test_a_book_too_large_for_its_topic_is_told(at_desk: AtDesk) -> None:
    """To the byte but for author and reason, which the draft does not know."""
    here = at_desk()
    (told,) = here.draft("much", shoes(scope={"queries": [f"{n:0150d}" for n in range(7_000)]}), ANN, "why").refusals
    assert "size of all campaigns is 1" in told and told.endswith(
        refused(here, "much", "activate", InvalidRequest).partition("must be")[2]
    )


def test_a_draft_is_looked_at_as_it_would_go_live(at_desk: AtDesk) -> None:
    """A start to come stays; one that has passed is now."""
    here = at_desk()
    here.draft("later", shoes(**{"from": "2026-11-21T12:00"}), ANN, "why")
    here.draft("sooner", shoes(**{"from": "2026-11-19T12:00"}), ANN, "why")
    assert here.book_with(here.drafted("later")).campaigns[0].starts_ms == NOW_MS + DAY_MS
    assert here.book_with(here.drafted("sooner")).campaigns[0].starts_ms == 0
    assert here.book_with(here.wished("later", shoes(**{"from": "2026-11-21T12:00"}), "ann")).campaigns[0].starts_ms > 0
