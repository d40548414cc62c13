"""Which two books a preview compares, and whose effect is asked for."""

from __future__ import annotations

from reward.desk.books import with_decision
from reward.desk.looks import Looks
from reward.desk.wishes import Wish, campaign
from schemas.errors import NotFound
from schemas.weights import RewardWeights


def books(
    desk: Looks, subject: str, wanted: Wish | None, revision: int | None, who: str, now_ms: int
) -> tuple[RewardWeights, RewardWeights]:
    """The active book, and what it would be with a wish; without one, with a revision of the subject or its waiting draft.

    Raises:
        InvalidRequest: the wish breaks a bound.
        NotFound: no such revision, or no draft.
    """
    current = desk.book()
    if wanted is None:
        return current, desk.book_with(subject, revision)
    return current, with_decision(current, campaign(subject, wanted, who, now_ms))


def book_that_changed(desk: Looks, subject: str) -> RewardWeights:
    """The newest book in which this campaign differs from the book before.

    Raises:
        NotFound: it never acted.
    """
    for book in reversed(desk.books()):
        before = book.before.campaigns if book.before is not None else ()
        if [c for c in book.campaigns if c.id == subject] != [c for c in before if c.id == subject]:
            return book
    raise NotFound("effect of", subject, "a campaign that has been in force", "look it up with `headrace campaigns list`")
