"""Reward weights: a versioned decision over stored facts."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Weight = Annotated[float, Meta(ge=0, le=100)]


class RewardWeights(msgspec.Struct, frozen=True, tag_field="type", tag="weights"):
    """``R = relevance * tier + ctr * CTR + (order if ordered, else click if clicked, else 0)`` (EQUATIONS 3).

    Defaults are the paper's unit weights and interaction values, with orders above clicks.
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
