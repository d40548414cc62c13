"""Prometheus metrics of the keyword worker; records, lag and watermark are those of every worker, agent ``keywords``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from confluent_kafka import KafkaException
from prometheus_client import Counter, Histogram

from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.topics import IMPRESSIONS
from streams.followers import group_offsets, reading
from streams.lag import Lag
from streams.runtime import metrics
from streams.runtime.log import LogReader

logger = structlog.get_logger(__name__)

AGENT = "keywords"
CHAINS = Counter(
    "headrace_keywords_chains_total", "Queries by what became of their chain: written, failed, known", ["outcome"]
)
UNREADABLE = Counter("headrace_keywords_unreadable_records_total", "Impressions passed over; attribution quarantines them")
WRITE = Histogram(
    "headrace_keywords_write_seconds", "Time a writer took for one query", buckets=(0.01, 0.1, 0.3, 1, 3, 10, 30)
)

#: Longest wait for the broker when the lag is measured (s); a stop may have to wait for it.
TIMEOUT_S = 5.0


async def watch_lag(connections: Connections, group: str, owned: Callable[[], set[int]], every_s: float) -> None:
    """Set the gauges of the partitions that this process owns every ``every_s`` seconds, for ever."""
    shown: set[int] = set()
    while True:
        try:
            rows = await asyncio.to_thread(_rows, connections, group, owned())
        except (Unavailable, KafkaException) as error:
            logger.warning("lag not measured", error=str(error))
            rows = []
        for partition in shown - owned():
            metrics.forget(AGENT, partition)
        shown = owned()
        for row in rows:
            if row.partition in shown:
                _show(row)
        await asyncio.sleep(every_s)


def _rows(connections: Connections, group: str, owned: set[int]) -> list[Lag]:
    offsets = group_offsets(connections, group, IMPRESSIONS.name, TIMEOUT_S)
    mine = {partition: offset for partition, offset in offsets.items() if partition in owned}
    return reading(LogReader(connections, TIMEOUT_S), AGENT, IMPRESSIONS.name, mine)


def _show(row: Lag) -> None:
    labels = (AGENT, str(row.partition))
    metrics.LAG_RECORDS.labels(*labels, IMPRESSIONS.name).set(row.lag)
    if row.watermark:
        metrics.WATERMARK.labels(*labels).set(row.watermark / 1_000)
    if row.lag_s is not None:
        metrics.LAG_SECONDS.labels(*labels).set(row.lag_s)
