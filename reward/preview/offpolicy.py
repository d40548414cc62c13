"""What pages would bring under other weights, estimated from pages that were drawn at random with known probabilities.

Self-normalised inverse propensity scoring. A page was drawn place by place, so the ratio of target to logged propensity is a
product over its places. ``list`` weighs the whole page by the whole product: it assumes nothing of people, and its weights
vary much. ``sequence`` weighs place k by the product down to k (Swaminathan & Joachims' normalisation at each place; the
estimator is known as RIPS): right when what happens at a place hangs on it and the places above it alone.
Letters: L pages, K places, V values, Q queries, R repeats, C columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from reward.preview.pages import Bools, Floats, Ints
from reward.preview.results import Estimate, Expected

LEVEL: Final = 0.95
#: Bootstrap repeats drawn at a time.
CHUNK: Final = 50

Estimator = Literal["sequence", "list"]


@dataclass(frozen=True, eq=False)
class Logged:
    """Pages and what became of them. Past a page's end every number is 0."""

    there_LK: Bools
    query_L: Ints  #: clusters of the bootstrap
    logged_LK: Floats  #: log-propensities of the page as it was drawn
    values: Mapping[str, Floats]  #: [L, K] each; a page is worth the sum over its places


def estimate(logged: Logged, before_LK: Floats, after_LK: Floats, estimator: Estimator, repeats: int, seed: int) -> Expected:
    """The values per page under today's book and the draft; ``*_LK`` are their log-propensities of the logged pages.

    Both books are estimated from the same pages and the same bootstrap draws, so the interval of the difference is narrow
    where they agree, and a draft that orders as today's book does changes exactly nothing.
    """
    ratios = [_log_weights(target_LK - logged.logged_LK, logged.there_LK, estimator) for target_LK in (before_LK, after_LK)]
    sums = [_Sums.of(logged, log_w, estimator) for log_w in ratios]
    whole = np.ones((1, sums[0].clusters))
    before_V, after_V = (one.values(whole)[0] for one in sums)
    low_V, high_V = _interval(sums, repeats, seed)
    plain_V = [float(value_LK.sum(axis=1).mean()) for value_LK in logged.values.values()]
    clicks_K = np.abs(logged.values["clicks"]).sum(axis=0) if "clicks" in logged.values else np.zeros(0)
    effective, largest = _support(ratios[1], logged.there_LK, clicks_K, estimator)
    return Expected(
        estimator=estimator,
        values={
            name: Estimate(
                logged=plain_V[v],
                before=float(before_V[v]),
                after=float(after_V[v]),
                change=float(after_V[v] - before_V[v]),
                low=None if low_V is None else float(low_V[v]),
                high=None if high_V is None else float(high_V[v]),
            )
            for v, name in enumerate(logged.values)
        },
        effective=effective,
        effective_before=_support(ratios[0], logged.there_LK, clicks_K, estimator)[0],
        largest=largest,
        mean_weight=float(np.exp(np.minimum(np.logaddexp.reduce(ratios[1][:, -1]) - np.log(len(ratios[1])), 700.0))),
    )


def _log_weights(log_ratio_LK: Floats, there_LK: Bools, estimator: Estimator) -> Floats:
    """Logarithm of each page's weight at each place; the last column is the whole list's."""
    down_LK: Floats = np.cumsum(np.where(there_LK, log_ratio_LK, 0.0), axis=1)
    return down_LK if estimator == "sequence" else np.repeat(down_LK[:, -1:], down_LK.shape[1], axis=1)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Per query: weighted values and weights at each place, and pages that have the place."""

    valued_QKV: Floats
    weight_QK: Floats
    pages_QK: Floats
    size_Q: Floats

    @classmethod
    def of(cls, logged: Logged, log_w_LK: Floats, estimator: Estimator) -> _Sums:
        # The largest weight of a place is taken out: the ratio of sums does not change, and nothing overflows.
        there_LK = logged.there_LK
        peak_K = np.where(there_LK, log_w_LK, -np.inf).max(axis=0, initial=-np.inf, keepdims=True)
        w_LK = np.where(there_LK, np.exp(np.minimum(log_w_LK - peak_K, 0.0)), 0.0)
        values_LKV = np.stack(list(logged.values.values()), axis=-1) * w_LK[:, :, None]
        if estimator == "list":  # one weight a page: the places are added up first
            values_LKV, w_LK = values_LKV.sum(axis=1, keepdims=True), w_LK[:, :1]
            there_LK = there_LK[:, :1]
        number_L = np.unique(logged.query_L, return_inverse=True)[1]
        count = int(number_L.max()) + 1

        def by_query(columns_LC: Floats) -> Floats:
            columns_CL = columns_LC.reshape(len(number_L), -1).T
            sums: Floats = np.stack([np.bincount(number_L, column_L, count) for column_L in columns_CL], axis=1)
            return sums.astype(np.float64).reshape(count, *columns_LC.shape[1:])

        return cls(
            by_query(values_LKV),
            by_query(w_LK),
            by_query(there_LK.astype(np.float64)),
            np.bincount(number_L, minlength=count).astype(np.float64),
        )

    @property
    def clusters(self) -> int:
        return len(self.size_Q)

    def values(self, times_RQ: Floats) -> Floats:
        """The estimates [R, V] when query q is taken ``times_RQ`` times."""
        repeats, (clusters, places, values) = len(times_RQ), self.valued_QKV.shape
        valued_RKV = (times_RQ @ self.valued_QKV.reshape(clusters, -1)).reshape(repeats, places, values)
        weight_RK, pages_RK = times_RQ @ self.weight_QK, times_RQ @ self.pages_QK
        share_RK = pages_RK / (times_RQ @ self.size_Q)[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):  # no page of this draw has the place
            mean_RKV = np.where(weight_RK[:, :, None] > 0, valued_RKV / weight_RK[:, :, None], 0.0)
        estimates: Floats = (share_RK[:, :, None] * mean_RKV).sum(axis=1)
        return estimates


def _interval(sums: list[_Sums], repeats: int, seed: int) -> tuple[Floats, Floats] | tuple[None, None]:
    """Percentile interval of after - before, whole queries drawn with replacement: pages of one query are not independent."""
    clusters = sums[0].clusters
    if clusters < 2:
        return None, None
    random = np.random.default_rng(seed)
    changes = []
    for begin in range(0, repeats, CHUNK):
        count = min(CHUNK, repeats - begin)
        drawn = random.integers(0, clusters, (count, clusters)) + clusters * np.arange(count)[:, None]
        times_RQ = np.bincount(drawn.ravel(), minlength=count * clusters).reshape(count, clusters).astype(np.float64)
        before_RV, after_RV = (one.values(times_RQ) for one in sums)
        changes.append(after_RV - before_RV)
    low_V, high_V = np.quantile(np.concatenate(changes), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low_V, high_V


def _support(log_w_LK: Floats, there_LK: Bools, clicks_K: Floats, estimator: Estimator) -> tuple[float, float]:
    """Effective sample size ``(sum w)^2 / sum w^2`` and the largest weight's share.

    Of a sequence: over the places, each counting by the clicks that it had (all alike where there were none).
    """
    masked_LK = np.where(there_LK, log_w_LK, -np.inf)[:, : 1 if estimator == "list" else None]
    total_K = np.logaddexp.reduce(masked_LK, axis=0)
    effective_K = np.exp(2 * total_K - np.logaddexp.reduce(2 * masked_LK, axis=0))
    largest_K = np.exp(masked_LK.max(axis=0) - total_K)
    part_K = clicks_K[: len(total_K)] if clicks_K.sum() > 0 else np.ones(len(total_K))
    part_K = part_K if part_K.sum() > 0 else np.ones(len(total_K))
    return float(np.average(effective_K, weights=part_K)), float(np.average(largest_K, weights=part_K))
