"""Settings of the search server."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

#: Longest query that an `schemas.events.Impression` can carry (characters).
QUERY_LIMIT = 1_000
#: Most items on one page: bound of the settings, and of ``k``.
PAGE_LIMIT = 1_000


class EngineSettings(BaseModel):
    """How a search is answered; shared with the offline evaluation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beam: int = Field(50, ge=1, le=512, description="identifiers the beam keeps; a larger k widens it")
    temperature: float = Field(1.0, gt=0, le=100, description="of the policy's logits when identifiers are scored")
    exploration: float = Field(
        0.2, ge=0, le=100, description="temperature of the Plackett-Luce draw over total scores, nats; 0: no exploration"
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of the exploration noise, together with request and item")
    recent_queries: int = Field(5, ge=0, le=100, description="recent queries that a request brings along, newest first")
    recent_items: int = Field(10, ge=0, le=100, description="recent clicked items that a request brings along")
    recent_orders: int = Field(10, ge=0, le=100, description="recent ordered items that a request brings along")


class ServingSettings(BaseModel):
    """The server process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: EngineSettings = Field(EngineSettings(), description="ranking and exploration")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(8080, ge=0, le=65_535, description="TCP port to listen on; 0: any free one")
    control_share: float = Field(
        0.05, ge=0, le=0.5,
        description="share of users, by hash of their id, who keep the weights before the last change; 0: none",
    )  # fmt: skip
    simulated_clock: bool = Field(
        False, description="true: the X-Headrace-Time header (ms) is the request's time; false: such a header is refused"
    )
    default_k: int = Field(10, ge=1, le=PAGE_LIMIT, description="items on a page when k is not given")
    max_k: int = Field(100, ge=1, le=PAGE_LIMIT, description="largest k")
    max_query: int = Field(200, ge=1, le=QUERY_LIMIT, description="longest query, characters")
    max_filter: int = Field(2_000, ge=1, le=100_000, description="most items in a request's filter")
    batch: int = Field(16, ge=1, le=256, description="requests answered in one pass of the model, at most")
    queue: int = Field(512, ge=1, le=100_000, description="requests that may wait; one more is told 503")
    replies: int = Field(
        1_024, ge=1, le=1_000_000, description="recent answers kept, so that a repeated request id is the same"
    )
    impression_timeout_s: float = Field(
        30.0, ge=1, le=300, description="s an answer waits for its impression to be in Kafka; then 503, never a silent loss"
    )
    pool_share: float = Field(
        1.0, ge=0, le=1, description="share of the pages whose candidates go into search.pools, for the preview of weights"
    )
    history_ttl_s: int = Field(2_592_000, ge=1, le=315_360_000, description="s of silence after which a user is forgotten")
    history_prefix: str = Field("headrace:user", min_length=1, max_length=100, description="start of the Redis keys")
    click_group: str = Field(
        "headrace-serving",
        min_length=1,
        max_length=200,
        description="Kafka consumer group of the servers that share a Redis",
    )
    poll_s: float = Field(0.2, gt=0, le=10, description="s between looks for new checkpoints, weights, snapshots, items")
    threads: int = Field(1, ge=1, le=256, description="torch threads of the model")
