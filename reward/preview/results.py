"""What a preview says: plain records, as JSON and as tables."""

from __future__ import annotations

import msgspec

from schemas.decisions import Overlap


class ItemRewards(msgspec.Struct, frozen=True):
    """Rewards of the shown items, under the book of today and under the draft."""

    items: int
    before: float  #: mean
    after: float
    changed: float  #: share of items whose reward is another
    change: dict[str, float]  #: mean and quantiles of the difference
    edges: tuple[float, ...]  #: of the histogram of the difference: one more than counts
    counts: tuple[int, ...]


class Ranking(msgspec.Struct, frozen=True):
    """The shown items of a page in order of their reward: what a group of the learner sees. Pages of one item have no order."""

    pages: int
    changed: float  #: share of pages with a pair of items in another order, a tie made or broken
    top_changed: float  #: share of pages with another best item
    tau: float | None  #: Kendall's tau-b, mean over the pages where it is defined; None: nowhere


class Places(msgspec.Struct, frozen=True):
    """The places of the pages, if their pools were sorted by the serving score: what people see, but for exploration."""

    pages: int
    changed: float  #: share of pages on which a place changes hands
    top_changed: float  #: share of pages with another item on top
    kept: float  #: share of places held by items that stay on the page


class Move(msgspec.Struct, frozen=True):
    """What a query or a category gains or loses. A share is of all the reward, or of all the places, of the previewed pages."""

    name: str
    pages: int
    items: int  #: shown
    before: float  #: mean reward of an item
    after: float
    share_before: float
    share_after: float
    places_before: float | None  #: share of the places; None: without pools. Of a query: places kept are all its own
    places_after: float | None

    @property
    def gain(self) -> float:
        """Change of the share of the reward."""
        return self.share_after - self.share_before

    @property
    def places_gain(self) -> float:
        """Change of the share of the places; 0 without pools."""
        return (self.places_after or 0.0) - (self.places_before or 0.0)


class Moves(msgspec.Struct, frozen=True):
    """The largest gains and losses, the largest first."""

    gaining: tuple[Move, ...]
    losing: tuple[Move, ...]


class Touched(msgspec.Struct, frozen=True):
    """Pages on which the draft gives another weight or multiplier than today's book."""

    pages: int  #: to an item that was shown
    pools: int | None  #: to a candidate of the page's pool; None: no pools
    learned: int  #: to the click or the order of an item that was shown: what acts through learning alone


class Support(msgspec.Struct, frozen=True):
    """How many pages the expected effect can stand on, and why the others cannot be used."""

    pages: int  #: previewed
    without_pool: int  #: not written, or no longer kept
    sorted_pages: int  #: without exploration there is nothing to reweigh
    foreign: int  #: the page shows items that its pool does not have
    inconsistent: int  #: today's book gives other propensities than were logged, though it is said to have ordered the page
    clipped: int  #: a logged propensity is too small to be exact
    used: int


class Estimate(msgspec.Struct, frozen=True):
    """One quantity per page: as logged, under today's book, under the draft, and the difference with its 95 % interval."""

    logged: float
    before: float
    after: float
    change: float
    low: float | None  #: None: fewer than two queries
    high: float | None


class Expected(msgspec.Struct, frozen=True):
    """Self-normalised inverse propensity estimates of one kind."""

    estimator: str  #: ``sequence``: each place weighed by the draws down to it; ``list``: the page by its whole list
    values: dict[str, Estimate]
    effective: float  #: effective sample size of the draft's weights, pages
    effective_before: float  #: of today's book: the pages themselves where it ordered them all
    largest: float  #: the largest weight's share of all
    mean_weight: float  #: 1 where the support is good


class Preview(msgspec.Struct, frozen=True):
    """A draft over stored pages, against the book of today."""

    current: int  #: version
    at_ms: int  #: event time at which both books are taken
    from_ms: int  #: the pages' first and last event time
    to_ms: int
    pages: int
    queries: int
    unknown_items: int  #: shown, but not in the catalogue: no campaign that names categories or brands applies to them
    snapshot_version: (
        int  #: posterior snapshot that gives the rates; 0: there is none, and they are those stored with the pages
    )
    interaction: str  #: as the learner's setting: expected or observed
    examination_version: (
        int  #: snapshot that estimated the examination the expected interaction goes by; 0: the start's, or none
    )
    rewards: ItemRewards
    term_shares_before: dict[str, float]
    term_shares_after: dict[str, float]
    ranking: Ranking
    places: Places | None  #: None: no pools
    categories: Moves
    categories_by_places: Moves | None
    by_query: Moves
    overlaps: tuple[Overlap, ...]  #: of campaigns that the draft adds or changes
    support: Support
    touched: Touched
    expected: tuple[Expected, ...]  #: empty: nothing to stand on, or nothing that pages could tell
    not_estimated: str  #: why pages cannot tell what the draft brings, though there are pools; empty: they can
    warnings: tuple[str, ...]
