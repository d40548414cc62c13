"""The shop's old search, which wrote the history: BM25 over titles with spelling correction, and sampled lists.

Plackett-Luce over standardised scores: every list had a known probability, so the log can be learned from honestly.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.shop.draws import stream
from schemas.events import SUPPORT_FLOOR

K1, B = 1.2, 0.75
#: Items that can come onto a page for a query: the best so many.
POOL = 60


class Pool(NamedTuple):
    """``rows_P`` with standardised scores ``z_P``, best first."""

    rows_P: NDArray[np.int64]
    z_P: NDArray[np.float64]


class LoggedList(NamedTuple):
    """``rows_K`` in shown order; ``propensity_K``: probability of each, given the ones above it; ``support`` as in `Impression`."""

    rows_K: NDArray[np.int64]
    propensity_K: NDArray[np.float64]
    support: int


def tokens(text: str) -> list[str]:
    """Lower-case words without a plural s."""
    return [t[:-1] if len(t) > 3 and t.endswith("s") else t for t in re.findall(r"[a-z0-9]+", text.lower())]


class LexicalSearch:
    """BM25 over the ``titles`` at ``rows_N`` (those on sale when the log was written)."""

    def __init__(self, titles: Sequence[str], rows_N: NDArray[np.int64], seed: int) -> None:
        self._rows_N, self._seed = rows_N, seed
        postings: dict[str, list[int]] = {}
        lengths = np.zeros(len(rows_N))
        for n, row in enumerate(rows_N.tolist()):
            unique = set(tokens(titles[row]))
            lengths[n] = len(unique)
            for token in unique:
                postings.setdefault(token, []).append(n)
        self._postings = {token: np.array(where) for token, where in postings.items()}
        self._norm_N = K1 * (1 - B + B * lengths / max(1.0, float(lengths.mean()))) if len(rows_N) else lengths
        self.pool = lru_cache(maxsize=4096)(self._pool)

    def _pool(self, query: str) -> Pool:
        score_N = np.zeros(len(self._rows_N))
        for token in set(tokens(query)):
            known, weight = (token, 1.0) if token in self._postings else (self._nearest(token), 0.7)
            if known is None:
                continue
            where = self._postings[known]
            idf = np.log1p((len(score_N) - len(where) + 0.5) / (len(where) + 0.5))
            score_N[where] += weight * idf * (K1 + 1) / (1 + self._norm_N[where])
        tie_N = stream(self._seed, "pool", query).random(len(score_N))  # equal scores: no order of its own
        best_P = np.lexsort((tie_N, -score_N))[:POOL]
        score_P = score_N[best_P]
        return Pool(self._rows_N[best_P], (score_P - score_P.mean()) / (score_P.std() + 1e-6))

    def _nearest(self, token: str) -> str | None:
        """The known word that a misspelled one is closest to."""
        near = [word for word in self._postings if abs(len(word) - len(token)) <= 2 and word[0] == token[0]]
        found = difflib.get_close_matches(token, near, n=1, cutoff=0.75)
        return found[0] if found else None

    def sample(self, query: str, k: int, temperature: float, rng: np.random.Generator) -> LoggedList:
        """``k`` items by Plackett-Luce over the pool's scores divided by ``temperature``."""
        pool = self.pool(query)
        logit_P = pool.z_P / temperature
        order_P = np.argsort(-(logit_P - np.log(-np.log(rng.random(len(logit_P))))))
        top_K = order_P[:k]
        mass_P = np.exp(logit_P - logit_P.max())
        shown_K = mass_P[top_K]
        left_K = mass_P.sum() - np.r_[0.0, np.cumsum(shown_K)[:-1]]
        likely_KP = mass_P[order_P] >= SUPPORT_FLOOR * left_K[:, None]
        support = int(np.count_nonzero(np.triu(likely_KP)))  # position j drew from the j-th and those after it
        return LoggedList(pool.rows_P[top_K], np.clip(shown_K / left_K, 1e-12, 1.0), support)
