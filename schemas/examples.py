"""A training example: a view whose items carry the reward's components, apart, with the versions that made them."""

from __future__ import annotations

import msgspec

from schemas.filters import Filter
from schemas.views import ViewStatus


class ExampleItem(msgspec.Struct, frozen=True, gc=False):
    """Facts about one shown item. The sum is never stored: weights may change, components are facts."""

    item: str
    position: int
    propensity: float
    tier: int  #: relevance, 0 to 3
    tier_confidence: float  #: probability of the tier, 1 for a judgment
    ctr: float  #: calibrated posterior mean, in (0, 1)
    ctr_variance: float
    clicks: int
    orders: int
    value: float
    ctr_ess: float = (
        0.0  #: decayed examined positions of this very (query, item) behind ``ctr``; 0: it stands on its parents
    )


class TrainingExample(msgspec.Struct, frozen=True, tag_field="type", tag="example"):
    """One revision of one view, ready to learn from. ``request_id`` is the key under which revisions replace another."""

    example_id: str  #: the view's id
    request_id: str
    status: ViewStatus
    revision: int
    ts: int
    emitted_at: int
    user: str
    query: str
    items: tuple[ExampleItem, ...]
    relevance_version: str
    snapshot_version: int  #: posterior snapshot behind ``ctr``
    recent_queries: tuple[str, ...] = ()
    recent_items: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    checkpoint: str = ""  #: that served the view
    weights_version: int = 0  #: that ordered the view
    trace: str = ""  #: W3C traceparent of the search that showed the view, empty when it had none
    calibrator_version: int = 0  #: calibrator within that snapshot; 0: none yet
    segment: str = ""  #: what the shop said of its user
    market: str = ""
    recent_orders: tuple[str, ...] = ()
    filter: Filter = Filter()
    v: int = 1
