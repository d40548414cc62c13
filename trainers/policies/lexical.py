"""The lexical signal of a prompt: the items whose titles share most words with the query, by BM25 over stemmed words.

Made once over a run's catalogue and never changed, so that learner and server write the same prompts; items that are added
later are not in it. An item counts from the event time at which it is available.
"""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np
from numpy.typing import NDArray

from reward.text import stems
from schemas.catalogue import Catalogue

#: Candidates kept for a query, of which a prompt takes the first that are available.
SPARE = 4


class LexicalIndex:
    """Immutable."""

    def __init__(self, items: Sequence[str], titles: Sequence[str], available_from_N: NDArray[np.int64]) -> None:
        self._items, self._available_from_N = tuple(items), available_from_N
        corpus = [stems(title) for title in titles]
        self._vocabulary = {word: n for n, word in enumerate(sorted({w for words in corpus for w in words}))}
        self._bm25 = bm25s.BM25()
        ids = [[self._vocabulary[w] for w in words] for words in corpus]
        self._bm25.index(bm25s.tokenization.Tokenized(ids=ids, vocab=self._vocabulary), show_progress=False)

    @classmethod
    def of(cls, catalogue: Catalogue) -> LexicalIndex:
        """Over the titles of a catalogue."""
        return cls(catalogue.items, catalogue.titles, catalogue.available_from_N)

    def best(self, query: str, limit: int) -> tuple[tuple[str, int], ...]:
        """(item, available from) of up to ``limit`` * `SPARE` items, best first; items without a common word never count."""
        known = [word for word in stems(query) if word in self._vocabulary]
        if not known:
            return ()
        score_N: NDArray[np.float32] = self._bm25.get_scores(known)
        rows = np.argsort(-score_N, kind="stable")[: limit * SPARE]
        return tuple((self._items[n], int(self._available_from_N[n])) for n in rows.tolist() if score_N[n] > 0)
