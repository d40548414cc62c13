"""Ranking metrics and the clustered bootstrap."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InvalidValue
from trainers.evaluation import hit_rate, ndcg, paired_bootstrap, reciprocal_rank


def test_hit_rate_and_reciprocal_rank_by_hand() -> None:
    """Relevant at rank 3; nowhere; at ranks 1 and 2; at rank 4, outside k = 3."""
    lists = [[0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(hit_rate(lists, k=3), [1, 0, 1, 0])
    np.testing.assert_allclose(reciprocal_rank(lists, k=3), [1 / 3, 0, 1, 0])


def test_ndcg_by_hand() -> None:
    """Gains (1, 3) against the ideal (3, 2): (1 + 3/log2 3) / (3 + 2/log2 3); no gain anywhere counts 0."""
    log3 = math.log2(3)
    values = ndcg([[1, 3, 9], [0, 0, 0]], [[1, 2, 3], [0, 0, 0]], k=2)
    np.testing.assert_allclose(values, [(1 + 3 / log3) / (3 + 2 / log3), 0])


def test_no_relevant_items_in_an_empty_list() -> None:
    """A list of length 0 hits nothing."""
    np.testing.assert_array_equal(hit_rate(np.zeros((2, 0))), [0, 0])
    np.testing.assert_array_equal(reciprocal_rank(np.zeros((2, 0))), [0, 0])


def test_interval_of_a_constant_difference_is_that_difference() -> None:
    """Every pair differs by exactly 2, so every resample has mean 2."""
    interval = paired_bootstrap([3.0, 5.0, 4.0], [1.0, 3.0, 2.0], ["a", "b", "a"])
    assert interval == (2.0, 2.0, 2.0, 3)


def test_bootstrap_resamples_clusters_not_views() -> None:
    """50 queries x 20 identical views: the standard error is that of 50 draws, not of 1,000 (4.5 times larger)."""
    per_query = np.random.default_rng(0).normal(size=50)
    values = np.repeat(per_query, 20)
    labels = [f"q{n}" for n in np.repeat(np.arange(50), 20)]
    clustered = paired_bootstrap(values, np.zeros(1000), labels, seed=1)
    views = paired_bootstrap(values, np.zeros(1000), list(range(1000)), seed=1)
    expected = 2 * 1.96 * per_query.std() / math.sqrt(50)
    assert clustered.high - clustered.low == pytest.approx(expected, rel=0.1)
    assert (clustered.high - clustered.low) / (views.high - views.low) == pytest.approx(math.sqrt(20), rel=0.15)


def test_runs_of_a_learner_are_resampled_too() -> None:
    """Every view of run d is worth offset d, so queries say nothing: the mean of 4 runs has the standard error s / 2, with s
    their sample deviation (D - 1 in its denominator). One run's own draws are not in its interval."""
    offset_D = np.array([0.0, 1.0, 3.0, 6.0])
    runs_Dn, labels = np.repeat(offset_D[:, None], 200, axis=1), list(range(200))
    interval = paired_bootstrap(runs_Dn, np.zeros(200), labels, repeats=40_000)
    mean_R = [paired_bootstrap(runs_Dn, np.zeros(200), labels, repeats=1, seed=seed).low for seed in range(4_000)]
    assert interval.diff == 2.5 and interval.n == 200
    assert np.std(mean_R) == pytest.approx(offset_D.std(ddof=1) / 2, rel=0.05)
    assert interval.low < 1.0 and interval.high > 4.0
    assert paired_bootstrap(runs_Dn[2], np.zeros(200), labels)[:3] == (3.0, 3.0, 3.0)


def test_equal_runs_are_one_run() -> None:
    """A learner that does not draw: however often it is run, on either side, the interval is that of one run."""
    draw = np.random.default_rng(2)
    a, b, labels = draw.normal(size=300), draw.normal(size=300), draw.integers(0, 40, size=300).tolist()
    once = paired_bootstrap(a, b, labels, seed=5)
    assert paired_bootstrap(np.stack([a] * 3), np.stack([b] * 2), labels, seed=5) == pytest.approx(once)
    expected = float((np.stack([a, b]).mean(axis=0) - b).mean())
    assert paired_bootstrap(np.stack([a, b]), b, labels).diff == pytest.approx(expected)


def test_clusters_weigh_by_their_size() -> None:
    """Clusters {1 x 3, 0 x 1}: resamples have means 1 (aa), 3/4 (ab), 0 (bb) and nothing else."""
    interval = paired_bootstrap([1, 1, 1, 0], [0, 0, 0, 0], ["a", "a", "a", "b"], repeats=500)
    assert (interval.diff, interval.low, interval.high) == (0.75, 0.0, 1.0)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.integers(0, 5)), min_size=2, max_size=30), st.randoms())
@settings(max_examples=40, deadline=None)
def test_interval_is_antisymmetric_and_repeats(rows: list[tuple[float, float, int]], _: object) -> None:
    """Swapping the arms mirrors the interval; the same seed gives the same numbers."""
    a, b, labels = (list(column) for column in zip(*rows, strict=True))
    if len(set(labels)) < 2:
        labels[0] = max(labels) + 1
    one, other = paired_bootstrap(a, b, labels, 200, 3), paired_bootstrap(b, a, labels, 200, 3)
    np.testing.assert_allclose([other.diff, other.low, other.high], [-one.diff, -one.high, -one.low], atol=1e-9)
    assert one == paired_bootstrap(a, b, labels, 200, 3)


@pytest.mark.parametrize(
    ("a", "b", "labels", "match"),
    [
        ([1.0], [2.0], ["q"], "at least 2"),
        ([1.0, 2.0], [2.0, 3.0], ["q"], "one per pair"),
        ([1.0, float("nan")], [2.0, 3.0], ["q", "r"], "finite"),
    ],
)
def test_bad_pairs_are_refused(a: list[float], b: list[float], labels: list[str], match: str) -> None:
    """One cluster has no spread, a label is missing, a value is no number."""
    with pytest.raises(InvalidValue, match=match):
        paired_bootstrap(a, b, labels)


def test_evaluation_does_not_import_torch() -> None:
    """The console and the report import it without paying for torch."""
    code = "import sys, trainers.evaluation, trainers.settings, trainers.checkpoints; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
