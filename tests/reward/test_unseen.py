"""A scope held against the pages that are stored."""

from __future__ import annotations

from reward.preview.unseen import unseen
from schemas.campaigns import Scope
from tests.reward import preview_toys


def test_parts_that_nobody_was_seen_with_are_named() -> None:
    """The toys ask for "query 0" to "query 4", from north and south, new or without a segment."""
    pages = preview_toys.make(200, queries=5).examples
    assert list(unseen(Scope(queries=("query 3",), markets=("north", "south"), segments=("new",)), pages)) == []
    assert list(unseen(Scope(categories=("nowhere",)), pages)) == []
    said = list(
        unseen(Scope(queries=("a", "query 3", "b", "c", "d"), segments=("vip",), markets=("atlantis", "north")), pages)
    )
    assert said == [
        'no stored page of the last 200 has any of the queries "a", "b", "c" and 1 more',
        'no stored page of the last 200 has segment "vip"',
        'no stored page of the last 200 has market "atlantis"',
    ]
    assert list(unseen(Scope(markets=("north",)), ())) == [
        "no page is stored yet to hold queries, segments and markets of the scope against"
    ]
