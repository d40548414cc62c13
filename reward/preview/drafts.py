"""Which decision a preview looks at, and whose effect is asked for."""

from __future__ import annotations

from reward.desk.looks import Looks
from reward.desk.wishes import Wish
from schemas.campaigns import Campaign
from schemas.errors import NotFound
from schemas.weights import RewardWeights


def asked_for(desk: Looks, subject: str, wanted: Wish | None, revision: int | None, who: str) -> Campaign:
    """What is asked for: a wish; without one, a revision of the subject or its waiting draft.

    Raises:
        InvalidRequest: the wish breaks a bound, or its scope matches nothing.
        NotFound: no such revision, or no draft.
    """
    return desk.drafted(subject, revision) if wanted is None else desk.wished(subject, wanted, who)


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
