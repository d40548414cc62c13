"""Which campaigns are in force, and which wins where two of them meet.

The rule: higher priority; then the narrower scope (more of its parts named); then the later start; then the id. Each
weight and each kind of multiplier is taken from the first campaign in that order that sets it, so campaigns that set
different things do not hide each other.
"""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.campaigns import Campaign
from schemas.weights import RewardWeights

#: How `precedence` is told to people.
RULE: Final = "higher priority, then narrower scope, then later start, then id"


def precedence(campaign: Campaign) -> tuple[int, int, int, str]:
    """Sort key: the smallest wins."""
    scope = campaign.scope
    named = sum(map(bool, (scope.categories, scope.brands, scope.queries, scope.segments, scope.markets)))
    return -campaign.priority, -named, -campaign.starts_ms, campaign.id


def in_force(weights: RewardWeights, at_ms: int) -> RewardWeights:
    """What holds at the event time ``at_ms``: campaigns of that time in order of precedence, their periods opened.

    Of what shapes a gradient this is what is kept: it means the same whenever it is read again. An opened campaign starts in the
    last moments before 1970, a later one where it wins by its start: the order stays, at any event time.
    """
    running = sorted((c for c in weights.campaigns if c.runs(at_ms)), key=precedence)
    opened = tuple(msgspec.structs.replace(c, starts_ms=-n, ends_ms=0) for n, c in enumerate(running))
    return msgspec.structs.replace(weights, campaigns=opened, before=None)
