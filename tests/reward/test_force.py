"""What the learner keeps of a book decides as the book does, ties of precedence too."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reward.campaigns.facts import Asked
from reward.campaigns.force import in_force
from reward.campaigns.weighing import NAMES, Weighing
from schemas.campaigns import Campaign, Scope
from schemas.weights import RewardWeights
from tests.reward.desk_toys import DAY_MS, ITEMS, NOW_MS, facts

FACTS, EVERY = facts(), np.arange(len(ITEMS))


@st.composite
def books(draw: st.DrawFn) -> RewardWeights:
    """Up to four campaigns, most of them of one priority and as narrow as each other, begun one after another."""
    return RewardWeights(campaigns=tuple(
        Campaign(
            f"c{n}", 1, "c", "o", Scope(categories=(draw(st.sampled_from(("shoes", "tools"))),)),
            starts_ms=NOW_MS + draw(st.integers(-3, 1)) * DAY_MS, priority=draw(st.sampled_from((1, 1, 2))), order=5.0 + n,
        )
        for n in range(draw(st.integers(0, 4)))
    ))  # fmt: skip


@given(books())
def test_what_is_in_force_decides_as_the_book(book: RewardWeights) -> None:
    """At the moment that it was taken, and read again later."""
    kept = in_force(book, NOW_MS)
    asked = Asked("red shoes")
    for name in NAMES:
        want = getattr(Weighing(book, FACTS).of(asked, EVERY, NOW_MS), name)
        for at_ms in (NOW_MS, NOW_MS + 100 * DAY_MS):
            np.testing.assert_array_equal(getattr(Weighing(kept, FACTS).of(asked, EVERY, at_ms), name), want)
    assert in_force(kept, NOW_MS) == kept and kept.before is None
