"""Pure changes of a book (`RewardWeights`): a decision put in, a campaign taken out, an earlier book brought back."""

from __future__ import annotations

from typing import Final

import msgspec

from reward.campaigns.weighing import NAMES
from reward.desk import diffs
from schemas.campaigns import Campaign
from schemas.decisions import DEFAULTS
from schemas.weights import RewardWeights

#: What ended so long ago is left out of the next book (ms): nobody learns from events that old by then.
KEPT_MS: Final = 7 * 86_400_000


def with_decision(book: RewardWeights, body: Campaign) -> RewardWeights:
    """The book in which ``body`` holds; its version is the old one's.

    Defaults that have a period lie over the standing ones as a campaign that loses to every other; without one they
    become the standing ones.
    """
    others = tuple(c for c in book.campaigns if c.id != body.id)
    if body.id == DEFAULTS and not (body.starts_ms or body.ends_ms):
        changed = {name: value for name in NAMES if (value := getattr(body, name)) is not None}
        return msgspec.structs.replace(book, campaigns=others, **changed)
    return msgspec.structs.replace(book, campaigns=tuple(sorted((*others, body), key=lambda c: c.id)))


def without(book: RewardWeights, subject: str) -> RewardWeights:
    """The book without a campaign."""
    return msgspec.structs.replace(book, campaigns=tuple(c for c in book.campaigns if c.id != subject))


def next_version(old: RewardWeights, content: RewardWeights, author: str, reason: str, now_ms: int) -> RewardWeights:
    """The version after ``old``, with the weights and campaigns of ``content``."""
    kept = tuple(c for c in content.campaigns if c.ends_ms == 0 or c.ends_ms + KEPT_MS > now_ms)
    return msgspec.structs.replace(
        content, version=old.version + 1, created_ms=now_ms, author=author, reason=reason, campaigns=kept,
        before=msgspec.structs.replace(old, before=None),
    )  # fmt: skip


def over(book: RewardWeights, body: Campaign) -> Campaign:
    """A decision about the defaults together with what it leaves as the standing defaults have it."""
    weights = {name: getattr(body, name) for name in NAMES}
    left = {name: getattr(book, name) for name, value in weights.items() if value is None}
    return msgspec.structs.replace(body, **left)


def bodies(book: RewardWeights) -> dict[str, Campaign]:
    """What each subject says in this book; the standing defaults as a campaign without a scope."""
    standing = over(book, Campaign(DEFAULTS, 0, DEFAULTS, DEFAULTS, priority=0))
    found = {DEFAULTS: standing} | {campaign.id: campaign for campaign in book.campaigns}
    return found | {DEFAULTS: over(book, found[DEFAULTS])}


def touched(old: RewardWeights, new: RewardWeights) -> list[str]:
    """Subjects about which two books say different things."""
    before, after = bodies(old), bodies(new)
    standing = [tuple(getattr(book, name) for name in NAMES) for book in (old, new)]
    return [
        subject
        for subject in {**before, **after}
        if not diffs.same(before.get(subject), after.get(subject)) or (subject == DEFAULTS and standing[0] != standing[1])
    ]
