"""The lag of a running worker as metrics: the ends of its inputs, asked for now and then, against what its slots have taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

import structlog
from confluent_kafka import KafkaException

from schemas.errors import Unavailable
from streams.runtime import metrics
from streams.runtime.behind import records_behind, seconds_behind
from streams.runtime.log import LogReader, Tail
from streams.runtime.slot import Slot

logger = structlog.get_logger(__name__)


async def watch_lag(slots: Callable[[], Collection[Slot]], reader: LogReader, every_s: float) -> None:
    """Set the gauges every ``every_s`` seconds, for ever. The broker is asked in a thread, by one short-lived client."""
    while True:
        places = sorted({(topic, slot.partition) for slot in slots() for topic in slot.next})
        try:
            tails = await asyncio.to_thread(reader.tails, places) if places else {}
        except (Unavailable, KafkaException) as error:
            logger.warning("lag not measured", error=str(error))
            tails = {}
        for slot in slots():
            show(slot, tails)
        await asyncio.sleep(every_s)


def show(slot: Slot, tails: Mapping[tuple[str, int], Tail]) -> None:
    """Set one slot's gauges; a partition that came while the broker was asked waits for the next time."""
    mine = {topic: tails[topic, slot.partition] for topic in slot.next if (topic, slot.partition) in tails}
    if len(mine) < len(slot.next):
        return
    labels = (slot.agent.name, str(slot.partition))
    for topic, tail in mine.items():
        metrics.LAG_RECORDS.labels(*labels, topic).set(records_behind(tail, slot.next[topic]))
    behind = seconds_behind(mine, slot.next, slot.reached, slot.core.watermark)
    if behind is not None:
        metrics.LAG_SECONDS.labels(*labels).set(behind)
