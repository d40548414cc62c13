"""A preview of a change that touches no page says which reason that has."""

from __future__ import annotations

from reward.preview.results import Touched
from schemas.campaigns import Scope
from tests.reward import preview_toys
from tests.reward.test_preview import TODAY, book, campaign, run


def test_a_draft_that_meets_no_page_says_so() -> None:
    """Nobody asked from the east; of those from the south, every third page of twelve is."""
    toys = preview_toys.make(12)
    nowhere = run(toys, book(campaign(scope=Scope(markets=("east",)), relevance=2.0)))
    assert nowhere.touched == Touched(0, 0, 0) and nowhere.expected == ()
    assert nowhere.not_estimated.startswith("0 of 12 pages meet this change") and nowhere.not_estimated in nowhere.warnings
    south = run(toys, book(campaign(scope=Scope(markets=("south",)), relevance=2.0)))
    assert (south.touched.pages, south.touched.pools, south.not_estimated) == (4, 4, "")


def test_a_draft_whose_scope_others_win_names_them() -> None:
    """Every page with a lamp is counted; the one that wins there by the rule is named, with equal values and with others."""
    toys = preview_toys.make(12)
    lamps = sum(any(int(item.item[1:]) % 3 == 0 for item in e.items) for e in toys.examples)
    scope = Scope(categories=("lamps",))
    first = campaign("bb", scope, order=100.0)
    for value in (100.0, 7.0):
        found = run(toys, book(first, campaign("bb2", scope, order=value)), book(first))
        assert found.touched.pages == 0
        assert any(
            warning.startswith(f"0 of 12 pages change: {lamps} show an item in its scope") and '"bb" wins there' in warning
            for warning in found.warnings
        ), found.warnings
    # The defaults' order lies under a campaign on everything.
    everywhere = campaign("all", order=100.0)
    (told,) = (w for w in run(toys, book(everywhere, order=9.0), book(everywhere)).warnings if w.startswith("0 of 12"))
    assert '12 show an item in its scope, but "all" wins there' in told


def test_a_draft_that_sets_what_holds_already_says_so() -> None:
    """It wins, by its priority or alone, and the weight is the one that was there: nobody else is to blame."""
    toys = preview_toys.make(12)
    lamps = sum(any(int(item.item[1:]) % 3 == 0 for item in e.items) for e in toys.examples)
    scope, same = Scope(categories=("lamps",)), "it gives those no other weight or multiplier than they have"
    first, other = campaign("bb", scope, order=100.0), campaign("other", scope, ctr=2.0, priority=900)
    for rest, draft in (
        ((first, other), campaign("bb2", scope, order=100.0, priority=500)),
        ((other,), campaign("bb2", scope, order=TODAY.order)),
    ):
        (told,) = (w for w in run(toys, book(*rest, draft), book(*rest)).warnings if w.startswith("0 of 12"))
        assert told == f"0 of 12 pages change: {lamps} show an item in its scope, but {same}"
