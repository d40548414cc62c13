"""The candidates that a page was drawn from: what it takes to say how other weights would have ordered them."""

from __future__ import annotations

import msgspec


class Pool(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="pool", omit_defaults=True):
    """The pool of one page, C candidates in any order; columns are arrays as bytes, little-endian.

    The page was drawn from Plackett-Luce over `reward.composite.serving_score` of these columns, divided by ``temperature``.
    The pool was found by log-probability alone, so other weights would have ordered the same candidates.
    """

    ts: int  #: event time of the request (ms)
    request_id: str
    query: str
    items: tuple[str, ...]
    logp: bytes  #: float64 [C]: the policy's log-probability, nats
    tier: bytes  #: int8 [C]
    ctr: bytes  #: float64 [C]
    temperature: float  #: of the draw, nats; 0: the page was sorted, not drawn
    checkpoint: str
    weights_version: int
    segment: str = ""
    market: str = ""
    excess_relevance: bytes = b""  #: float64 [C]: `reward.composite.Excess`; [1]: the same for all; empty: none
    excess_click: bytes = b""
    v: int = 1
