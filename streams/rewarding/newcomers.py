"""Items that came after the run was prepared, so that a page that shows one becomes an example like any other.

They get rows behind the catalogue's, in the order of their first records, under the titles of those: what an example says of an
item does not hang on when the agent looked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from reward.relevance import RelevanceScorer
from schemas.catalogue import Catalogue
from schemas.events import ItemAdded


class Newcomers:
    """The run's catalogue and scorer, grown by what ``read`` knows of now; ``encode`` embeds the new titles."""

    def __init__(
        self, catalogue: Catalogue, scorer: RelevanceScorer, encode: Callable[[list[str]], NDArray[np.float32]],
        read: Callable[[], Sequence[ItemAdded]],
    ) -> None:  # fmt: skip
        self._first, self._scorer, self._encode, self._read = catalogue, scorer, encode, read
        self._now = catalogue, scorer

    def __call__(self) -> tuple[Catalogue, RelevanceScorer]:
        """Catalogue and scorer with every item that has a record.

        Raises:
            Unavailable: the records cannot be read.
        """
        fresh: dict[str, ItemAdded] = {}
        for record in self._read():
            if record.sid and record.item not in self._first.row:
                fresh.setdefault(record.item, record)
        if len(self._first) + len(fresh) > len(self._now[0]):
            came = list(fresh.values())
            catalogue = self._first.extended([r.item for r in came], [r.title for r in came], [r.ts for r in came])
            self._now = catalogue, self._scorer.over(catalogue, self._encode)
        return self._now
