"""Stored examples as columns: what a preview computes with.

Letters: M pages, P shown items of all pages, K places of the longest page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward.campaigns.facts import Asked
from reward.text import normalise
from schemas.errors import InvalidRequest
from schemas.examples import TrainingExample

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pages:
    """Pages by (time, request id), each once; their items page after page, by position."""

    requests: tuple[str, ...]
    asked: tuple[Asked, ...]
    ts_M: Ints
    version_M: Ints  #: of the weights that ordered the page
    page_P: Ints
    items: tuple[str, ...]  #: of P
    row_P: Ints  #: in the catalogue; one past its end: not known there
    position_P: Ints
    propensity_P: Floats
    tier_P: Floats
    ctr_P: Floats
    clicks_P: Floats
    orders_P: Floats
    value_P: Floats

    @classmethod
    def of(cls, examples: Sequence[TrainingExample], row: Mapping[str, int]) -> Pages:
        """The newest revision of each view; ``row`` maps the catalogue's items to 0 .. N - 1.

        Raises:
            InvalidRequest: no examples.
        """
        newest: dict[str, TrainingExample] = {}
        for example in examples:
            held = newest.get(example.request_id)
            if held is None or example.revision > held.revision:
                newest[example.request_id] = example
        if not newest:
            raise InvalidRequest(
                "examples", 0, "at least 1", "let people search first: a page becomes one when its click window has closed"
            )
        pages = sorted(newest.values(), key=lambda e: (e.ts, e.request_id))
        shown = [item for e in pages for item in sorted(e.items, key=attrgetter("position"))]
        names = tuple(item.item for item in shown)

        def column(name: str, kind: Any = np.float64) -> Any:
            return np.fromiter(map(attrgetter(name), shown), kind, len(shown))

        return cls(
            requests=tuple(e.request_id for e in pages),
            asked=_asked(pages),
            ts_M=np.array([e.ts for e in pages], np.int64),
            version_M=np.array([e.weights_version for e in pages], np.int64),
            page_P=np.repeat(np.arange(len(pages)), [len(e.items) for e in pages]),
            items=names,
            row_P=np.fromiter(map(row.get, names, repeat(len(row))), np.int64, len(names)),
            position_P=column("position", np.int64),
            propensity_P=column("propensity"),
            tier_P=column("tier"),
            ctr_P=column("ctr"),
            clicks_P=column("clicks"),
            orders_P=column("orders"),
            value_P=column("value"),
        )

    def __len__(self) -> int:
        return len(self.requests)

    @cached_property
    def size_M(self) -> Ints:
        """Items on each page."""
        return np.bincount(self.page_P, minlength=len(self)).astype(np.int64)

    @cached_property
    def start_M(self) -> Ints:
        """Where each page's items begin."""
        return np.cumsum(self.size_M) - self.size_M

    @cached_property
    def place_P(self) -> Ints:
        """Place of each item among its page's, from 0."""
        return np.arange(len(self.page_P)) - self.start_M[self.page_P]

    @cached_property
    def queries(self) -> tuple[str, ...]:
        """The distinct queries, sorted."""
        return tuple(sorted({one.query for one in self.asked}))

    @cached_property
    def query_M(self) -> Ints:
        """Number of each page's query."""
        number = {query: n for n, query in enumerate(self.queries)}
        return np.array([number[one.query] for one in self.asked], np.int64)

    def grid(self, values_P: Floats, fill: float) -> Floats:
        """[M, K]: a row for each page, ``fill`` where it has no item."""
        grid_MK = np.full((len(self), int(self.size_M.max())), fill)
        grid_MK[self.page_P, self.place_P] = values_P
        return grid_MK


def _asked(pages: Sequence[TrainingExample]) -> tuple[Asked, ...]:
    """One `Asked` for all that ask the same: texts are normalised once."""
    known: dict[tuple[str, str, str], Asked] = {}
    out = []
    for e in pages:
        key = (e.query, e.segment, e.market)
        if (found := known.get(key)) is None:
            found = known[key] = Asked(normalise(e.query), e.segment, e.market)
        out.append(found)
    return tuple(out)
