"""Which weights order a page: the book, or for the control share the book before it, beside what the checkpoint has of them.

Compiled once for a book, a catalogue and a checkpoint; asked at every search. Letters: C candidates of a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward.campaigns.control import in_control
from reward.campaigns.facts import Asked, ItemFacts
from reward.campaigns.relative import Lean, Relative
from reward.text import normalise
from schemas.checkpoints import Absorbed
from schemas.weights import RewardWeights
from serving.requests import SearchRequest


class Ordered(NamedTuple):
    """For one request and its candidates."""

    lean: Lean
    campaigns: tuple[str, ...]  #: ids of those that apply, the winner first


class Ordering:
    """Immutable."""

    def __init__(
        self, book: RewardWeights, absorbed: Sequence[Absorbed], facts: ItemFacts, control_share: float = 0.0
    ) -> None:
        self.book, self._share = book, control_share if book.before is not None else 0.0
        self._treated = Relative(book, absorbed, facts)
        self._control = Relative(book.before, absorbed, facts) if book.before is not None else self._treated

    def version(self, request: SearchRequest) -> int:
        """Of the book that orders this request's page."""
        return self._for(request).wished.weights.version

    def of(self, request: SearchRequest, rows_C: NDArray[np.int64]) -> Ordered:
        """The weights of these rows of the catalogue."""
        asked = Asked(normalise(request.query), request.segment, request.market)
        relative = self._for(request)
        return Ordered(relative.of(asked, rows_C, request.ts), relative.wished.explain(asked, rows_C, request.ts))

    def _for(self, request: SearchRequest) -> Relative:
        return self._control if self._share and in_control(request.user, self._share) else self._treated
