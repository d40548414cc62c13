"""What is allowed and seldom meant: told with a decision, never a reason to refuse it."""

from __future__ import annotations

from reward.desk.books import over
from reward.desk.periods import shown
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


def moved_zone(old: Campaign | None, new: Campaign) -> tuple[str, ...]:
    """Of a draft in another zone than ``old``, over which it was written: its times stayed the moments that they were."""
    if old is None or old.zone == new.zone:
        return ()
    times = {"from": (old.starts_ms, new.starts_ms), "to": (old.ends_ms, new.ends_ms)}
    kept = {name: at_ms for name, (was, at_ms) in times.items() if at_ms and was == at_ms}
    read = {name: (shown(at_ms, old.zone), shown(at_ms, new.zone)) for name, at_ms in kept.items()}
    told = [f"{name} {before} is {after} there" for name, (before, after) in read.items() if before != after]
    if not told:
        return ()
    again = f"for the same hours in {new.zone} give {' and '.join(read)} again, without an offset"
    return (f"the zone is now {new.zone}, and the times stay the moments they were: {', '.join(told)}; {again}",)
