"""Settings of the shop simulator, of the dirt in its delivery, and of the driver that lets it shop."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]

DAY_MS = 86_400_000


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FolderSettings(_Settings):
    """How data from a folder is used. Its time line is moved as a whole, by whole days, to end before the present."""

    history_days: float = Field(
        default=3.0, gt=0, le=3650, description="the log before this day is history; after it people shop live (days)"
    )
    live_days: float = Field(default=10.0, gt=0, le=3650, description="length of the live part (days)")
    history_users: Share = Field(default=0.3, description="share of users whose history is replayed")
    live_users: Share = Field(default=0.1, description="share of users who shop live")
    log_history_share: Share = Field(
        default=0.6,
        description="a log without simulator: share of its page views, the first in time, that are history; later: live",
    )
    log_history_views: int = Field(
        default=5_000, ge=0, le=50_000_000, description="most page views of its history; beyond, users are drawn by the seed"
    )
    log_live_views: int = Field(
        default=2_000, ge=0, le=50_000_000, description="most page views asked live; beyond, users are drawn by the seed"
    )


class ShopSettings(_Settings):
    """The simulated shop. Same settings and same ``now_ms``: the same shop, to the bit."""

    seed: int = Field(default=7, ge=0, lt=2**63, description="all random numbers of the shop follow from it")
    items: int = Field(default=2_000, ge=100, le=1_000_000, description="items, those that appear later included")
    users: int = Field(default=1_200, ge=10, le=10_000_000, description="people who search")
    queries: int = Field(
        default=300, ge=10, le=100_000, description="distinct query texts, new ones of the live part included"
    )
    page: int = Field(default=10, ge=1, le=100, description="items on a logged page")
    history_impressions: int = Field(default=6_000, ge=0, le=50_000_000, description="page views of the logged past")
    live_requests: int = Field(default=4_000, ge=0, le=50_000_000, description="searches of the live part")
    history_days: float = Field(default=4.0, gt=0, le=365, description="length of the logged past, days of event time")
    live_days: float = Field(default=6.0, gt=0, le=365, description="length of the live part, days of event time")
    quiet_days: float = Field(
        default=5.0, ge=4.5, le=60, description="days between the last search and now; windows close in it"
    )
    zipf: float = Field(default=0.8, ge=0, le=3, description="exponent of the queries' popularity")
    own_category: Share = Field(default=0.6, description="share of sessions that stay in the user's favourite categories")
    new_query_share: Share = Field(default=0.12, description="share of query texts that nobody asked before the live part")
    new_item_share: Share = Field(default=0.08, description="share of items that appear during the live part")
    appeal_sd: float = Field(
        default=0.9, ge=0, le=5, description="spread of the items' hidden appeal, in log-odds of a click"
    )
    drift_share: Share = Field(
        default=0.4, description="share of items whose appeal is drawn anew half-way of the live part"
    )
    position_power: float = Field(default=0.85, ge=0, le=3, description="position k is examined with probability k^-power")
    temperature: float = Field(
        default=0.7, gt=0, le=100, description="of the logging policy over standardised lexical scores"
    )
    order_share: tuple[Share, Share, Share, Share] = Field(
        default=(0.005, 0.02, 0.05, 0.09), description="probability of an order after a click, by tier 0 to 3"
    )
    return_share: Share = Field(default=0.08, description="share of orders that come back")
    judged_share: Share = Field(default=0.6, description="share of the history's queries that have human labels")
    judged_items: int = Field(default=24, ge=1, le=1_000, description="labels per judged query")
    judgment_noise: Share = Field(default=0.05, description="share of labels that are one tier off")
    folder: FolderSettings = Field(default=FolderSettings(), description="for data from a folder, in place of the simulator")


class DirtSettings(_Settings):
    """Rates per event at which the delivery goes wrong. What is added comes on top of the true event."""

    late: Share = Field(default=0.004, description="held back until it is beyond the allowed lateness")
    twice: Share = Field(default=0.01, description="sent two times")
    disordered: Share = Field(default=0.05, description="sent after later events, within the allowed lateness")
    broken: Share = Field(default=0.002, description="a record that is not JSON is added")
    unknown_version: Share = Field(default=0.002, description="a record with a schema version of the far future is added")
    negative_position: Share = Field(default=0.002, description="a click on position -1 is added")
    unknown_request: Share = Field(default=0.002, description="a click for a request that never was is added")
    unknown_item: Share = Field(
        default=0.0005, description="a page view that shows an item the catalogue lacks is added (history)"
    )
    future: Share = Field(default=0.001, description="a record ten years ahead is added")
    no_request_id: Share = Field(default=0.1, description="share of clicks that come without their request id")


class DeliverySettings(_Settings):
    """How the driver lets a world shop."""

    concurrency: int = Field(default=16, ge=1, le=256, description="searches in flight at once: the size of a round")
    round_span_s: int = Field(
        default=3_600, ge=1, le=86_400, description="a round gathers requests at most this far apart (s)"
    )
    tick_s: int = Field(default=600, ge=1, le=86_400, description="ticks at least this often in event time (s)")
    lateness_s: int = Field(
        default=120, ge=2, le=86_400, description="the attribution's allowed lateness (s): later is late"
    )
    overrun: float = Field(
        default=1.5, ge=1, le=1_000, description="a live part that is behind is cut after this many times the asked time"
    )
    page: int = Field(default=10, ge=1, le=100, description="items asked for per search")
    server_patience_s: float = Field(default=120.0, gt=0, le=3_600, description="how long a search is retried (wall s)")
    request_timeout_s: float = Field(default=10.0, gt=0, le=600, description="one attempt's time limit (wall s)")
    dirt: DirtSettings = Field(default=DirtSettings(), description="rates of dirty delivery")
