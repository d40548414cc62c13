"""Settings of the event plane: the chunk runtime and the attribution rules."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.codec import MAX_RECORD_BYTES
from streams.integrity.settings import IntegritySettings
from streams.keywords.settings import KeywordSettings

#: Of a state's part: it travels as base64, four bytes for three, beside the part's other fields, and larger records are not read.
MAX_PART_BYTES: Final = (MAX_RECORD_BYTES - 10_000) * 3 // 4


class RuntimeSettings(BaseModel):
    """How chunks are fetched, flushed, snapshotted and recovered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fetch_wait_ms: int = Field(
        default=50, ge=1, le=5_000, description="ms the broker may hold an empty fetch; higher: fewer requests"
    )
    fetch_bytes: int = Field(
        default=4_194_304, ge=65_536, le=64_000_000, description="bytes one fetch of a partition may bring"
    )
    fetch_records: int = Field(
        default=20_000, ge=1, le=1_000_000, description="records one poll may return over all partitions"
    )
    buffer_chunks: int = Field(
        default=32,
        ge=1,
        le=4_096,
        description="chunks waiting per agent: from four fifths of it on each input partition is paused with its next chunk; a chunk has "
        "fetch_bytes of records as they come, 128 MiB at most where they were compressed",
    )
    ahead_s: int = Field(
        default=900,
        ge=1,
        le=31_536_000,
        description="s of event time an input may be ahead of the slowest before it is paused",
    )
    linger_ms: int = Field(default=50, ge=0, le=10_000, description="ms between an output and its flush, at most")
    quiet_ms: int = Field(default=500, ge=0, le=60_000, description="ms between a chunk without any output and its flush")
    flush_outputs: int = Field(
        default=5_000, ge=1, le=1_000_000, description="unsent outputs of a partition that flush at once"
    )
    unsent_outputs: int = Field(
        default=50_000, ge=1, le=5_000_000, description="unsent outputs of a partition past which chunks wait"
    )
    unsent_bytes: int = Field(
        default=268_435_456,
        ge=1,
        le=64_000_000_000,
        description="bytes of unsent outputs of a partition that flush at once, and past which chunks wait; as much may be on its way",
    )
    snapshot_records: int = Field(
        default=100_000,
        ge=1,
        le=100_000_000,
        description="input records of a partition, replayed ones included, between two snapshots; one for each kB of state "
        "where that is more",
    )
    snapshot_every_s: float = Field(
        default=3_600,
        ge=1,
        le=604_800,
        description="s (wall time) after which a state is dumped again if anything was taken since, be it few records; must stay "
        "well below the retention of the inputs",
    )
    snapshot_part_bytes: int = Field(
        default=600_000, ge=1_000, le=MAX_PART_BYTES, description="bytes of one part of a dumped state"
    )
    session_timeout_s: float = Field(
        default=6.0, ge=1, le=300, description="s of silence after which the group drops a worker"
    )
    transaction_timeout_s: float = Field(
        default=60.0, ge=5, le=900, description="s after which the broker aborts an open transaction"
    )
    recovery_timeout_s: float = Field(default=300.0, ge=5, le=86_400, description="s a recovery may wait for the broker")
    stop_timeout_s: float = Field(
        default=8.0,
        ge=1,
        le=300,
        description="s after SIGTERM for the last flush, then it goes on only while the broker takes records; and for the clean end",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="TCP port of a worker's Prometheus metrics, 0 for none; `headrace up` counts on from it, one a worker",
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address that the metrics' port listens on; 0.0.0.0 for every interface",
    )
    lag_every_s: float = Field(
        default=10.0, ge=0.1, le=3_600, description="s between two measurements of the lag, where there is a metrics port"
    )

    @property
    def longest_stop_s(self) -> float:
        """s from SIGTERM to the end of a worker whose broker takes its records however slowly, without what dumping and packing take: the
        flush that is under way and the last one, each a transaction that the broker ends at its timeout; tries after an abort; the end
        of the consumer."""
        return 2 * (self.transaction_timeout_s + self.stop_timeout_s)


class AttributionSettings(BaseModel):
    """Windows of the join, in seconds of event time. To change one, stop all workers, change it, start them: the states they
    leave behind take the new windows (docs/streams.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    click_window_s: int = Field(
        default=1_800, ge=1, le=86_400, description="s after an impression in which its clicks count"
    )
    order_window_s: int = Field(default=86_400, ge=1, le=2_592_000, description="s after a click in which its orders count")
    return_window_s: int = Field(
        default=259_200, ge=1, le=31_536_000, description="s after an order in which it can be returned"
    )
    lateness_s: int = Field(
        default=120, ge=0, le=86_400, description="s an event may be behind its topic's newest and still count"
    )
    future_tolerance_s: int = Field(
        default=60,
        ge=0,
        le=31_536_000,
        description="s an event time may be ahead of the broker's clock; above lateness_s one fast clock makes all others late",
    )
    integrity_window_s: int = Field(
        default=3_600,
        ge=1,
        le=604_800,
        description="s of event time that are judged together: sooner found, or with more evidence",
    )
    tick_grid_s: int = Field(default=60, ge=1, le=86_400, description="s; ticks on search.views are multiples of this")


class StreamSettings(BaseModel):
    """Everything of `streams`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runtime: RuntimeSettings = Field(default=RuntimeSettings(), description="the chunk runtime")
    attribution: AttributionSettings = Field(default=AttributionSettings(), description="the join")
    integrity: IntegritySettings = Field(default=IntegritySettings(), description="the log-integrity breaker")
    keywords: KeywordSettings = Field(default=KeywordSettings(), description="the keyword worker")
