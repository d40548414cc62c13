"""What is allowed and seldom meant: told with a decision, never a reason to refuse it."""

from __future__ import annotations

from reward.desk.books import over
from schemas.campaigns import Campaign
from schemas.weights import RewardWeights


def oddities(book: RewardWeights, body: Campaign) -> tuple[str, ...]:
    """Of a decision over the standing defaults of ``book``."""
    whole = over(book, body)
    if whole.click is None or whole.order is None or whole.order >= whole.click:
        return ()
    if body.click is None and body.order is None:
        return ()  # it is the defaults that are odd
    return (f"orders count less than clicks: order {whole.order:g}, click {whole.click:g}",)


def odd_defaults(book: RewardWeights) -> tuple[str, ...]:
    """Of the standing defaults themselves."""
    return oddities(book, Campaign("weights", 0, "weights", "weights", click=book.click, order=book.order))
