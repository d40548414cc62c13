"""The estimates against worlds whose truth is known by counting every list."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reward.preview.offpolicy import Estimator, Logged, estimate
from reward.preview.pages import Pages
from reward.preview.pools import Pools
from tests.reward import preview_toys
from tests.reward.preview_toys import propensities

Floats = NDArray[np.float64]


def logged(values_LK: list[list[float]], log_LK: list[list[float]], queries: list[int] | None = None) -> Logged:
    """Pages of equal length."""
    values = np.array(values_LK)
    return Logged(
        np.ones(values.shape, np.bool_), np.array(queries or range(len(values))), np.array(log_LK), {"clicks": values}
    )


def test_both_estimators_by_hand() -> None:
    """Two pages of two places. Page 1: logged 1/2, 1/2; under the draft 1/4, 1 (ratios 1/2, 2); clicks 1, 0.
    Page 2: logged 1/2, 1/2; draft 3/4, 1/4 (3/2, 1/2); clicks 0, 1.

    list: weights 1 and 3/4; clicks a page 1 and 1, so 1. Effective (7/4)^2 / (1 + 9/16) = 49/25; largest (4/7).
    sequence: place 1 weighs 1/2 and 3/2, place 2 weighs 1 and 3/4: 1/2 / 2 + 3/4 / (7/4) = 1/4 + 3/7.
    """
    log = np.log
    data = logged([[1, 0], [0, 1]], [[log(1 / 2)] * 2] * 2)
    draft = log([[1 / 4, 1], [3 / 4, 1 / 4]])
    whole = estimate(data, data.logged_LK, draft, "list", 100, 0)
    clicks = whole.values["clicks"]
    assert (clicks.logged, clicks.before, clicks.after) == pytest.approx((1, 1, 1))
    assert whole.effective == pytest.approx(49 / 25) and whole.largest == pytest.approx(4 / 7)
    assert whole.mean_weight == pytest.approx(7 / 8) and whole.effective_before == pytest.approx(2)
    placed = estimate(data, data.logged_LK, draft, "sequence", 100, 0)
    assert placed.values["clicks"].after == pytest.approx(1 / 4 + 3 / 7)
    # one click at each place: the mean of 4 / (1/4 + 9/4) and 49/25
    assert placed.effective == pytest.approx((1.6 + 49 / 25) / 2)


def test_a_place_that_few_pages_have_counts_for_its_share() -> None:
    """Three pages, one of them with a second place, clicked: a third of a click a page, whatever its weight."""
    there = np.array([[True, False], [True, True], [True, False]])
    values, zeros = np.where(there, [[0, 9], [0, 1], [0, 9]], 0.0), np.zeros((3, 2))
    after = np.where(there, [[0, 0], [-1, -2], [0, 0]], 0.0)
    data = Logged(there, np.arange(3), zeros, {"clicks": values})
    assert estimate(data, zeros, after, "sequence", 100, 0).values["clicks"].after == pytest.approx(1 / 3)


def test_the_weights_of_one_page_do_not_overflow() -> None:
    """Ratios of e^800: the page has all the weight, and the numbers are finite."""
    data = logged([[1.0], [0.0]], [[-900.0], [-1.0]])
    found = estimate(data, data.logged_LK, np.array([[-100.0], [-1.0]]), "list", 100, 0)
    assert found.values["clicks"].after == pytest.approx(1) and found.effective == pytest.approx(1)
    assert found.largest == pytest.approx(1) and np.isfinite(found.mean_weight)


def test_one_query_has_no_interval() -> None:
    """There is nothing to resample."""
    data = logged([[1.0], [0.0]], [[-1.0], [-1.0]], [3, 3])
    one = estimate(data, data.logged_LK, data.logged_LK, "list", 100, 0).values["clicks"]
    assert (one.change, one.low, one.high) == (0, None, None)


@given(st.integers(0, 10**6), st.sampled_from(["sequence", "list"]))
def test_the_same_book_changes_exactly_nothing(seed: int, kind: Estimator) -> None:
    rng = np.random.default_rng(seed)
    data = logged(rng.random((9, 3)).tolist(), (-rng.random((9, 3))).tolist(), rng.integers(0, 4, 9).tolist())
    target = -rng.random((9, 3))
    one = estimate(data, target, target, kind, 100, 0).values["clicks"]
    assert one.change == 0 and one.low in (0, None) and one.high in (0, None)
    same = estimate(data, data.logged_LK, data.logged_LK, kind, 100, 0)
    assert same.values["clicks"].after == pytest.approx(one.logged) and same.effective == pytest.approx(9)
    assert same.mean_weight == pytest.approx(1)


class World:
    """Twelve kinds of queries with four candidates each, pages of two. A click at a place hangs on the item there and, at the
    second, on the item above it; the truth is the sum over all twelve lists."""

    LISTS = np.array(list(permutations(range(4), 2)))

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        worth_TI = rng.random((12, 4))
        self.click_TIJ = 0.1 + 0.5 * worth_TI[:, :, None] + 0.3 * rng.random((12, 4, 4))  # second place: item, item above
        self.first_TI = self.click_TIJ.mean(axis=2)
        self.logging_TI = rng.normal(0, 0.5, (12, 4))
        self.target_TI = rng.normal(0, 0.3, (12, 4)) + 1.5 * worth_TI

    def logp(self, score_TI: Floats) -> Floats:
        """[12 kinds, 12 lists, 2 places], by exp and sum."""
        lists = [[np.log(propensities(score[[*one, *rest(one)]], 2)) for one in self.LISTS] for score in score_TI]
        return np.array(lists)

    def values(self) -> Floats:
        """[12 kinds, 12 lists, 2]: probability of a click at each place."""
        one, two = self.LISTS.T
        return np.stack([self.first_TI[:, one], self.click_TIJ[:, two, one]], axis=-1)

    def truth(self, score_TI: Floats) -> float:
        return float((np.exp(self.logp(score_TI).sum(axis=2)) * self.values().sum(axis=2)).sum(axis=1).mean())


def rest(taken: NDArray[np.int64]) -> list[int]:
    return [n for n in range(4) if n not in taken]


@pytest.mark.parametrize("kind", ["sequence", "list"])
def test_the_estimates_meet_the_truth_and_their_intervals_cover_it(kind: Estimator) -> None:
    """150 draws of 60 queries with 1 to 8 pages: the mean estimate of the difference within four standard errors of the truth,
    and the truth inside 95 % intervals about that often (a binomial's four standard deviations: 87 % at least)."""
    world = World()
    log_TL2, target_TL2, value_TL2 = world.logp(world.logging_TI), world.logp(world.target_TI), world.values()
    truth = world.truth(world.target_TI) - world.truth(world.logging_TI)
    assert abs(truth) > 0.02
    changes, inside = [], 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        query_L = np.repeat(np.arange(60), rng.integers(1, 9, 60))
        type_L = rng.integers(0, 12, 60)[query_L]
        chance_LL = np.exp(log_TL2.sum(axis=2))[type_L]
        list_L = (rng.random((len(type_L), 1)) > np.cumsum(chance_LL, axis=1)).sum(axis=1)
        clicks_LK = (rng.random((len(type_L), 2)) < value_TL2[type_L, list_L]).astype(np.float64)
        there = np.ones(clicks_LK.shape, np.bool_)
        data = Logged(there, query_L, log_TL2[type_L, list_L], {"clicks": clicks_LK})
        one = estimate(data, data.logged_LK, target_TL2[type_L, list_L], kind, 200, seed).values["clicks"]
        assert one.low is not None and one.high is not None
        changes.append(one.change)
        inside += one.low <= truth <= one.high
    error = np.std(changes) / np.sqrt(len(changes))
    assert abs(np.mean(changes) - truth) < 4 * error + 0.002  # self-normalising leaves a bias of the order of 1 / pages
    assert inside >= 0.87 * 150


def test_log_propensities_of_pools_against_exp_and_sum() -> None:
    """Pages of 1 to 5 places from pools of 8; one pool is exactly its page."""
    toys = preview_toys.make(40, shown=(1, 3, 5, 8), temperature=1.3)
    pages = Pages.of(toys.examples, toys.row)
    pools = Pools.of(toys.pools, pages, toys.row)
    assert pools is not None
    rng = np.random.default_rng(2)
    score_X = rng.normal(0, 300, len(pools.logp_X))  # hundreds of nats apart, as sharp scores are
    found_LK = pools.list_logp(score_X)
    for n, m in enumerate(pools.page_L):
        pool = toys.pools[pages.requests[m]]
        score = dict(zip(pool.items, score_X[pools.start_L[n] :][: len(pool.items)] / pool.temperature, strict=True))
        for k in range(pages.size_M[m]):
            item = pages.items[pages.start_M[m] + k]
            left = np.logaddexp.reduce(list(score.values()))
            assert found_LK[n, k] == pytest.approx(score.pop(item) - left, abs=1e-9)
        assert not found_LK[n, pages.size_M[m] :].any()
    keep = rng.random(len(pools)) < 0.5
    np.testing.assert_array_equal(pools.only(keep).list_logp(score_X[keep[pools.owner_X]]), found_LK[keep])
