"""Reward weights: a versioned decision over stored facts."""

from __future__ import annotations

import msgspec

from schemas.campaigns import Campaign, Weight


class RewardWeights(msgspec.Struct, frozen=True, tag_field="type", tag="weights"):
    """``R = relevance * tier + ctr * CTR + (order if ordered, else click if clicked, else 0)``, of an item.

    Defaults are the paper's unit weights and interaction values, with orders above clicks. Campaigns lie over them
    (`reward.campaigns`); a version is the whole of it, so one number names everything that was decided.
    """

    version: int = 1
    relevance: Weight = 1.0
    ctr: Weight = 1.0
    click: Weight = 3.0
    order: Weight = 4.0
    created_ms: int = 0  #: wall time
    author: str = "headrace"
    reason: str = "defaults"
    v: int = 1
    campaigns: tuple[Campaign, ...] = ()
    #: The version that this one replaced, for the control share; its own ``before`` is None.
    before: RewardWeights | None = None

    @property
    def multiplier(self) -> float:
        """1: the defaults lean on no item."""
        return 1.0
