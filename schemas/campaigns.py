"""A campaign: a decision about the reward for some requests and items, for some time."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Weight = Annotated[float, Meta(ge=0, le=100)]
#: Half to double: a multiplier leans on the order, it does not replace the reward.
Factor = Annotated[float, Meta(ge=0.5, le=2)]
Slug = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,63}$")]
Names = tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...]


class Scope(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a campaign applies; an empty tuple does not limit. Every part that is named must hold.

    ``queries`` are normalised queries (`reward.text.normalise`), ``segments`` and ``markets`` what the search request says of
    its user; ``categories`` and ``brands`` limit the items.
    """

    categories: Names = ()
    brands: Names = ()
    queries: Names = ()
    segments: Names = ()
    markets: Names = ()


class Multipliers(msgspec.Struct, frozen=True, omit_defaults=True):
    """Factors on an item's whole reward; 1 changes nothing."""

    margin: Factor = 1.0  #: of an item whose whole price is margin; in between, linear in its margin
    new_items: Factor = 1.0  #: of items that came into the shop less than ``new_days`` ago
    new_days: Annotated[float, Meta(gt=0, le=365)] = 14.0
    brands: dict[str, Factor] = {}


class Campaign(msgspec.Struct, frozen=True, omit_defaults=True):
    """One immutable revision. A weight that is None is left to what the campaign lies over."""

    id: Slug
    revision: int
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    owner: Annotated[str, Meta(min_length=1, max_length=100)]
    scope: Scope = Scope()
    starts_ms: int = 0  #: event time; 0: has always been
    ends_ms: int = 0  #: event time, no longer in force then; 0: open
    zone: str = "UTC"  #: IANA time zone in which its owner thinks
    priority: Annotated[int, Meta(ge=0, le=1000)] = 100  #: the higher wins
    relevance: Weight | None = None
    ctr: Weight | None = None
    click: Weight | None = None
    order: Weight | None = None
    multipliers: Multipliers = Multipliers()

    def runs(self, at_ms: int) -> bool:
        """Whether the event time ``at_ms`` lies in its period."""
        return self.starts_ms <= at_ms and (self.ends_ms == 0 or at_ms < self.ends_ms)
