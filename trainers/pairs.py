"""Supervised pairs: a prompt's context and the identifier it should lead to, from logs, titles and judgments.

`PairSampler` draws batches by a counter, without state: batch n is the same whoever asks for it and however often, which
is what lets the learner mix warm-start batches into its updates and still be replayed exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from schemas.catalogue import Catalogue
from schemas.errors import InvalidValue
from schemas.events import Click, Impression
from trainers.policies.base import PromptContext, context_of

SidOf = Callable[[str], Sequence[int] | None]  #: identifier of an item, None where it has none


@dataclass(frozen=True)
class Pair:
    """One supervised example; ``sid`` are codes, one a level."""

    context: PromptContext
    sid: tuple[int, ...]


def sids_of(pairs: Sequence[Pair]) -> Tensor:
    """sids_NL of N pairs, int64."""
    return torch.tensor([pair.sid for pair in pairs], dtype=torch.int64)


class Judged(Protocol):
    """What is needed of `reward.judgments.Judgment`."""

    @property
    def query(self) -> str: ...

    @property
    def item(self) -> str: ...

    @property
    def tier(self) -> int: ...


def click_pairs(events: Iterable[object], sid_of: SidOf) -> list[Pair]:
    """One pair for every logged click, under the context of the page it was made on; ``events`` in order of time.

    A click without a request id belongs to the user's latest page that shows the item. Other events, and clicks that
    belong to no page or whose item has no identifier, are left out; a page's click on one item counts once.
    """
    pages: dict[str, Impression] = {}
    latest: dict[tuple[str, str], Impression] = {}
    seen: set[tuple[str, str]] = set()
    pairs = []
    for event in events:
        if isinstance(event, Impression):
            pages[event.request_id] = event
            latest.update({(event.user, shown.item): event for shown in event.items})
        elif isinstance(event, Click):
            page = pages.get(event.request_id) if event.request_id else latest.get((event.user, event.item))
            sid = sid_of(event.item)
            if page is None or sid is None or (page.request_id, event.item) in seen:
                continue
            seen.add((page.request_id, event.item))
            pairs.append(Pair(context_of(page), tuple(map(int, sid))))
    return pairs


def title_pairs(catalogue: Catalogue, sid_of: SidOf, until_ms: int | None = None) -> list[Pair]:
    """Title -> identifier for every item that has one; with ``until_ms`` only items available at that event time."""
    pairs = []
    for row, (item, title) in enumerate(zip(catalogue.items, catalogue.titles, strict=True)):
        sid = sid_of(item)
        if sid is not None and (until_ms is None or catalogue.available_from_N[row] <= until_ms):
            pairs.append(Pair(PromptContext(title, ts=until_ms or 0), tuple(map(int, sid))))
    return pairs


def judgment_pairs(judgments: Iterable[Judged], sid_of: SidOf, least_tier: int = 2) -> list[Pair]:
    """Query -> identifier for every judgment of at least that tier."""
    good = ((PromptContext(j.query), sid_of(j.item)) for j in judgments if j.tier >= least_tier)
    return [Pair(context, tuple(map(int, sid))) for context, sid in good if sid is not None]


class PairSampler:
    """Batches that mix sources by their shares; batch ``counter`` is a function of (pairs, shares, seed, counter)."""

    def __init__(self, sources: Mapping[str, Sequence[Pair]], shares: Mapping[str, float], seed: int) -> None:
        """``shares`` are relative weights; a source without pairs is left out.

        Raises:
            InvalidValue: no source has pairs and a positive share, or a share is negative or missing.
        """
        missing = sorted(set(sources) - set(shares))
        if missing or any(share < 0 for share in shares.values()):
            raise InvalidValue(
                "shares of the sources", dict(shares), "at least 0, one for each source", f"missing: {missing}"
            )
        self._sources = [sources[name] for name in sorted(sources) if sources[name] and shares[name] > 0]
        weights = [shares[name] for name in sorted(sources) if sources[name] and shares[name] > 0]
        if not self._sources:
            raise InvalidValue("supervised pairs", 0, "at least 1", "log clicks first, or give titles or judgments a share")
        self._share = np.asarray(weights, dtype=np.float64) / sum(weights)
        self._seed = seed
        self._moved: Mapping[tuple[int, ...], tuple[int, ...] | None] = {}

    def over(self, moved: Mapping[tuple[int, ...], tuple[int, ...] | None]) -> PairSampler:
        """The same draws where identifiers have become others; a pair whose identifier has become None is left out."""
        other = copy.copy(self)
        other._moved = moved
        return other

    def batch(self, counter: int, size: int) -> list[Pair]:
        """``size`` pairs, drawn with replacement; fewer where identifiers are gone."""
        rng = np.random.default_rng([self._seed, counter])
        source_N = rng.choice(len(self._sources), size=size, p=self._share)
        drawn = [self._sources[n][int(rng.integers(len(self._sources[n])))] for n in source_N]
        now = [(pair, self._moved.get(pair.sid, pair.sid)) for pair in drawn]
        return [pair if sid == pair.sid else Pair(pair.context, sid) for pair, sid in now if sid is not None]
