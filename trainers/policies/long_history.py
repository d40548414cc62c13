"""The user's long history as three vectors (OneSearch-V1, Eq. 4): clicks, orders, and what of both resembles the query.

An item counts as the sum of its residual levels' centroids: its place in the space of the query's embedding, without the
fine levels. Ours are summed over items and levels, and scaled to unit length. Letters as in `trainers.policies.slots`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.settings import RESIDUAL_LEVELS
from trainers.policies.base import PromptContext
from trainers.policies.slots import KINDS

#: The identifier of an item, or None where the item has none (unknown, or removed): such an item is left out.
SidOf = Callable[[str], Sequence[int] | None]


class LongHistory:
    """Sums of centroids. Immutable."""

    def __init__(self, centroids: Sequence[NDArray[np.float32]] | None, sid_of: SidOf) -> None:
        if centroids is None:
            raise InvalidValue(
                "centroids of the long history", None, "those of the codebook", "pass them to the prompt builder"
            )
        self._levels, self._sid_of = [np.asarray(level, dtype=np.float32) for level in centroids[:RESIDUAL_LEVELS]], sid_of

    def over(self, sid_of: SidOf) -> LongHistory:
        """The same centroids where items have these identifiers."""
        return LongHistory(self._levels, sid_of)

    def vectors(self, contexts: Sequence[PromptContext], first_codes: Sequence[int]) -> NDArray[np.float32]:
        """[B, J, E] of B requests; ``first_codes`` are those of their queries' identifiers."""
        made_BJE = np.zeros((len(contexts), len(KINDS), self._levels[0].shape[1]), dtype=np.float32)
        for vectors_JE, context, first in zip(made_BJE, contexts, first_codes, strict=True):
            clicks, orders = self._sids(context.recent_items), self._sids(context.recent_orders)
            related = [sid for sid in (*clicks, *orders) if sid[0] == first]
            for vector_E, sids in zip(vectors_JE, (clicks, orders, related), strict=True):
                for sid in sids:
                    for level, code in zip(self._levels, sid, strict=False):
                        vector_E += level[code]
                vector_E /= max(float(np.linalg.norm(vector_E)), 1e-12)
        return made_BJE

    def _sids(self, items: Sequence[str]) -> list[Sequence[int]]:
        return [sid for item in items if (sid := self._sid_of(item)) is not None]
