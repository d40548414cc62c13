"""What a page was drawn from goes into ``search.pools``, beside its impression: the preview of other weights needs it.

Nobody waits for it, as no answer depends on it: what the broker does not take is counted and told, and the preview says
how many of its pages have no pool. Letters: C candidates of a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import structlog
from confluent_kafka import KafkaError, KafkaException, Message
from numpy.typing import ArrayLike
from prometheus_client import Counter

from reward.composite import Excess
from schemas.codec import encode
from schemas.pools import Pool
from schemas.topics import POOLS
from serving.impressions import ImpressionLog
from serving.requests import SearchRequest

log = structlog.get_logger()


class PoolSink(Protocol):
    """Where an engine leaves its pools."""

    def wants(self, request_id: str) -> bool:
        """Whether the pool of this page is kept."""

    def keep(self, user: str, pool: Pool) -> None:
        """Take it, without waiting."""


class PoolLog:
    """Writes through the impressions' producer. ``share`` of the pages, by hash of the request id, so that a repeated
    request is decided alike; ``written`` counts by the label ``outcome``: kept or lost."""

    def __init__(self, impressions: ImpressionLog, share: float, written: Counter) -> None:
        self._impressions, self._bound = impressions, int(share * 2**64)
        self._kept, self._lost = written.labels("kept"), written.labels("lost")

    def wants(self, request_id: str) -> bool:
        """Whether the pool of this page is kept."""
        digest = hashlib.blake2b(request_id.encode(), digest_size=8, person=b"pools").digest()
        return int.from_bytes(digest, "little") < self._bound

    def keep(self, user: str, pool: Pool) -> None:
        """Hand it to the producer."""
        try:
            self._impressions.post(POOLS.name, user.encode(), encode(pool), self._reported)
        except (BufferError, KafkaException) as error:
            self._refused(str(error))

    def _reported(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self._kept.inc()
        else:
            self._refused(error.str())

    def _refused(self, why: str) -> None:
        self._lost.inc()
        log.warning("pool lost", error=why)


def pool_of(
    request: SearchRequest, items: Sequence[str], columns: tuple[ArrayLike, ArrayLike, ArrayLike], excess: Excess | None,
    temperature: float, checkpoint: str, weights_version: int,
) -> Pool:  # fmt: skip
    """The record of a request's pool; ``columns``: log-probability, tier and CTR [C]."""
    logp_C, tier_C, ctr_C = columns
    return Pool(
        ts=request.ts,
        request_id=request.request_id,
        query=request.query,
        items=tuple(items),
        logp=_bytes(logp_C),
        tier=_bytes(tier_C, "i1"),
        ctr=_bytes(ctr_C),
        temperature=temperature,
        checkpoint=checkpoint,
        weights_version=weights_version,
        segment=request.segment,
        market=request.market,
        excess_relevance=_bytes(excess.relevance) if excess else b"",
        excess_click=_bytes(excess.click) if excess else b"",
    )


def _bytes(values: ArrayLike, kind: str = "f8") -> bytes:
    return np.asarray(values).astype(f"<{kind}", copy=False).tobytes()
