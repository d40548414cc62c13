"""What a ranking is worth and how sure we are: HR@k, MRR@k, NDCG@k, and the paired bootstrap clustered by query.

Pure numpy: this file imports no torch, so that reports and the console can use it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.errors import InvalidValue

#: Bootstrap repeats drawn at a time, so that memory stays at a few megabytes.
CHUNK = 64


class Interval(NamedTuple):
    """Mean paired difference with its percentile interval; ``n`` pairs."""

    diff: float
    low: float
    high: float
    n: int


def hit_rate(relevant_QK: ArrayLike, k: int = 10) -> NDArray[np.float64]:
    """HR@k of each list: 1 if any of its first k entries is relevant. [Q, K] bool -> [Q]."""
    hit_Q: NDArray[np.float64] = _lists(relevant_QK, k).astype(bool).max(axis=1, initial=False).astype(np.float64)
    return hit_Q


def reciprocal_rank(relevant_QK: ArrayLike, k: int = 10) -> NDArray[np.float64]:
    """MRR@k of each list before averaging: 1 / rank of its first relevant entry, 0 without one. [Q, K] bool -> [Q]."""
    relevant_QK = _lists(relevant_QK, k).astype(bool)
    if relevant_QK.shape[1] == 0:
        return np.zeros(relevant_QK.shape[0])
    first_Q = relevant_QK.argmax(axis=1).astype(np.float64)
    rank_Q: NDArray[np.float64] = relevant_QK.any(axis=1) / (first_Q + 1.0)
    return rank_Q


def ndcg(gain_QK: ArrayLike, ideal_QM: ArrayLike, k: int = 10) -> NDArray[np.float64]:
    """NDCG@k of each list, discount log2(rank + 1). [Q, K] gains of the list, [Q, M] gains that exist -> [Q].

    The ideal list is the k largest of ``ideal_QM`` (pad with zeros); a query whose gains are all zero counts 0.
    """
    gain_QK = _lists(gain_QK, k).astype(np.float64)
    best_QK = -np.sort(-np.asarray(ideal_QM, dtype=np.float64), axis=1)[:, :k]
    found_Q, ideal_Q = gain_QK @ _discount(gain_QK.shape[1]), best_QK @ _discount(best_QK.shape[1])
    return np.divide(found_Q, ideal_Q, out=np.zeros_like(found_Q), where=ideal_Q > 0)


def paired_bootstrap(
    values_a: ArrayLike,
    values_b: ArrayLike,
    clusters: Sequence[Hashable],
    repeats: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of mean(a - b) over pairs, resampling whole clusters (queries) with replacement, and the runs of each side.

    What is learned is learned per query, so page views of one query are not independent: resampling views would give
    an interval several times too narrow. Within a repeat the mean is over the pairs drawn, so clusters weigh by size.
    A learner that was run D times on the same views, with draws of its own, gives D rows: their mean counts, and each repeat
    takes D - 1 of them with replacement, which gives the mean of D runs its variance without bias.

    Args:
        values_a, values_b: [n], one value per page view, the same views in the same order; or [D, n], a row per run. With
            one run of a side its own draws are not in the interval.
        clusters: n labels, usually the normalised query.

    Raises:
        InvalidValue: lengths differ, a value is not finite, or there are fewer than two clusters.
    """
    a_Dn, b_Dn = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (values_a, values_b))
    if a_Dn.ndim != 2 or b_Dn.ndim != 2 or not len(clusters) == a_Dn.shape[1] == b_Dn.shape[1]:
        shapes = f"one per pair ({a_Dn.shape}, {b_Dn.shape})"
        raise InvalidValue("number of clusters", len(clusters), shapes, "pass one label per pair")
    if not (np.isfinite(a_Dn).all() and np.isfinite(b_Dn).all()):
        raise InvalidValue("paired differences", "not finite", "finite", "drop or repair the views without a value")
    label_n = _labels(clusters)
    size_C = np.bincount(label_n).astype(np.float64) if len(label_n) else np.zeros(0)
    if len(size_C) < 2:
        raise InvalidValue("number of clusters", len(size_C), "at least 2", "collect views of more queries")
    a_DC, b_DC = _sums(a_Dn, label_n), _sums(b_Dn, label_n)
    draw, run_draw = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    means = list[NDArray[np.float64]]()
    for count in [min(CHUNK, repeats - first) for first in range(0, repeats, CHUNK)]:
        pick_RC = draw.integers(0, len(size_C), size=(count, len(size_C)))
        a_R, b_R = _resampled(run_draw, a_DC, pick_RC), _resampled(run_draw, b_DC, pick_RC)
        means.append((a_R - b_R) / size_C[pick_RC].sum(axis=1))
    mean_R = np.concatenate(means)
    low, high = np.quantile(mean_R, [(1 - level) / 2, (1 + level) / 2])
    diff = float((a_Dn.mean(axis=0) - b_Dn.mean(axis=0)).mean())
    return Interval(diff, float(low), float(high), a_Dn.shape[1])


def _sums(value_Dn: NDArray[np.float64], label_n: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.stack([np.bincount(label_n, weights=value_n).astype(np.float64) for value_n in value_Dn])


def _resampled(draw: np.random.Generator, sum_DC: NDArray[np.float64], pick_RC: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of each repeat's clusters, averaged over the runs that it takes."""
    runs, repeats = len(sum_DC), len(pick_RC)
    taken_RD = np.ones((repeats, 1))
    if runs > 1:
        taken_RD = draw.multinomial(runs - 1, np.full(runs, 1 / runs), size=repeats) / (runs - 1)
    sum_DR = np.stack([sum_C[pick_RC].sum(axis=1) for sum_C in sum_DC])
    sum_R: NDArray[np.float64] = (taken_RD.T * sum_DR).sum(axis=0)
    return sum_R


def _labels(clusters: Sequence[Hashable]) -> NDArray[np.int64]:
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(label, len(number)) for label in clusters], dtype=np.int64)


def _lists(values: ArrayLike, k: int) -> NDArray[np.generic]:
    if k < 1:
        raise InvalidValue("k", k, "at least 1", "ask for a list of at least one item")
    array = np.asarray(values)
    if array.ndim != 2:
        raise InvalidValue("ranked lists", f"{array.ndim} axes", "[queries, ranks]", "pass one row per list")
    return array[:, :k]


def _discount(length: int) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = 1.0 / np.log2(np.arange(2, length + 2, dtype=np.float64))
    return weights
