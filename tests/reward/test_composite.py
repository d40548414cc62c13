"""The composite reward by hand, its terms' shares, the serving score, and V1's signal with its flaw."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.campaigns.weighing import ItemWeights
from reward.composite import (
    LAMBDA,
    SERVING_TERMS,
    TERMS,
    Excess,
    click_if_examined,
    item_reward,
    item_terms,
    serving_score,
    serving_terms,
    term_shares,
    v1_reward,
)
from reward.settings import ServingScoreSettings
from schemas.weights import RewardWeights


def test_the_papers_unit_weights_by_hand() -> None:
    """Tier 3, CTR .02: 3.02 unseen; a click adds 3, an order replaces the click's 3 by 4 (orders outrank clicks)."""
    reward = item_reward([3, 3, 3, 0], [0.02] * 4, [0, 1, 1, 0], [0, 0, 1, 1], RewardWeights())
    assert reward.tolist() == pytest.approx([3.02, 6.02, 7.02, 4.02])


def test_counts_are_truth_values_and_ctr_is_clipped() -> None:
    """Two clicks are worth one; a CTR outside (0, 1) is brought inside, so that its logarithm exists."""
    weights = RewardWeights(relevance=0, ctr=1)
    assert item_reward(0, 0.5, 2, 0, weights) == pytest.approx(3.5)
    assert item_reward(0, [-1.0, 2.0], 0, 0, weights).tolist() == pytest.approx([1e-6, 1 - 1e-6])


floats = st.floats(0, 5, allow_nan=False)


@given(
    st.lists(st.tuples(floats, st.floats(0.01, 0.99), st.booleans(), st.booleans()), min_size=1, max_size=8), floats, floats
)
def test_reward_is_the_sum_of_its_terms_and_linear_in_each_weight(
    facts: list[tuple[float, float, bool, bool]], relevance: float, ctr: float
) -> None:
    tier, rate, clicked, ordered = (np.array(column) for column in zip(*facts, strict=True))
    weights = RewardWeights(relevance=relevance, ctr=ctr)
    terms_N3 = item_terms(tier, rate, clicked, ordered, weights)
    assert np.allclose(terms_N3[:, 0], relevance * tier) and np.allclose(terms_N3[:, 1], ctr * rate)
    assert np.allclose(item_reward(tier, rate, clicked, ordered, weights), terms_N3.sum(axis=1))


def test_raw_ctr_beside_clicks_does_nothing_and_the_share_says_so() -> None:
    """One group: CTR .01 or .03, clicks 0 or 3, uncorrelated. Variances: .01 ** 2 and 1.5 ** 2; the CTR's share is their
    ratio, 4.4e-5 of the whole."""
    terms_BG3 = item_terms(np.ones(4), [0.01, 0.03, 0.01, 0.03], [0, 0, 1, 1], np.zeros(4), RewardWeights())[None]
    shares = term_shares(terms_BG3)
    assert shares["ctr"] == pytest.approx(0.01**2 / (0.01**2 + 1.5**2))
    assert shares["relevance"] == 0
    assert sum(shares.values()) == pytest.approx(1)


def test_shares_are_within_groups_and_zero_for_constant_ones() -> None:
    """A difference between groups is not a share: only what varies inside a group trains."""
    terms_BG3 = np.zeros((2, 3, 3))
    terms_BG3[1, :, 0] = 5.1
    assert term_shares(terms_BG3) == dict.fromkeys(TERMS, 0.0)
    terms_BG3[0, :, 2] = [0, 1, 2]
    assert term_shares(terms_BG3) == {"relevance": 0.0, "ctr": 0.0, "interaction": 1.0}


@pytest.mark.parametrize(("theta", "c"), [(1.0, 0.3), (0.5, 0.3), (0.25, 0.9), (0.0, 0.2)])
def test_click_if_examined_against_drawn_users(theta: float, c: float) -> None:
    """Users who would click with chance c look with chance theta; among the views without a click, how many would have."""
    rng = np.random.default_rng(3)
    would, looked = rng.random(400_000) < c, rng.random(400_000) < theta
    clicked = would & looked
    counted = would[~clicked].mean()
    assert click_if_examined(False, theta, c) == pytest.approx(counted, abs=0.005)
    assert click_if_examined(True, theta, c) == 1.0


def test_a_place_cannot_be_looked_at_more_often_than_always() -> None:
    """Examination is estimated relative to the first place, and may come out above it: 1.4 there is 1, so worth nothing."""
    np.testing.assert_array_equal(click_if_examined([0, 1], 1.4, 0.9), [0.0, 1.0])


def test_click_if_examined_is_unbiased_where_the_observed_click_is_not() -> None:
    """Over many views its mean is c at any place: theta c * 1 + (1 - theta c) * c (1 - theta) / (1 - theta c) = c."""
    c, theta_k = 0.37, np.arange(1, 11) ** -0.85
    mean_k = theta_k * c * 1.0 + (1 - theta_k * c) * click_if_examined(np.zeros(10), theta_k, c)
    np.testing.assert_allclose(mean_k, c)


def test_a_chance_of_a_click_is_paid_in_part() -> None:
    """Chance 0.25 of a click worth 3; two clicks are one; an order is an order whatever the chance."""
    terms_N3 = item_terms([0, 0, 0], 0.5, [0.25, 2, 0.25], [0, 0, 1], RewardWeights())
    assert terms_N3[:, 2].tolist() == [0.75, 3.0, 4.0]


columns = st.lists(st.tuples(*[st.floats(0.5, 2)] * 5, st.integers(0, 3), st.floats(0.01, 0.99)), min_size=1, max_size=6)


@given(columns)
def test_weights_that_follow_the_items_are_those_of_each_item_alone(rows: list[tuple[float, ...]]) -> None:
    """Arrays of weights, reward and serving score alike: item for item what numbers give, times the item's multiplier."""
    relevance, ctr, click, order, multiplier, tier, rate = np.array(rows).T
    settings = ServingScoreSettings(relevance_scale=3, ctr_scale=2, multiplier_scale=5, uptake_scale=0.25)
    arrays = ItemWeights(relevance, ctr, click, order, multiplier)
    rewards = item_reward(tier, rate, [1] * len(rows), 0, arrays)
    scores = serving_score(-1.0, tier, rate, arrays, settings, Excess(relevance, click))
    for n, (w_rel, w_ctr, w_click, _, factor, t, c) in enumerate(rows):
        assert rewards[n] == pytest.approx(factor * (w_rel * t + w_ctr * c + w_click))
        put_in = 3 * w_rel * t + 2 * w_ctr * math.log(c) + 5 * math.log(factor)
        assert scores[n] == pytest.approx(-1 + put_in - 0.25 * (w_rel * t + w_click * c))


def test_never_more_is_taken_out_than_the_weights_put_in() -> None:
    """A relevance of 10 was absorbed, 0.1 is wished: 0.5 * 9 nats a tier would turn the order around; 4 * 0.1 are taken out,
    and the policy alone is left. What was absorbed less than the reference is put back whole: 0.5 * 1 a tier."""
    weights, settings = RewardWeights(relevance=0.1, ctr=0), ServingScoreSettings(relevance_scale=4, uptake_scale=0.5)
    turned = serving_score(0.0, [0, 3], 0.1, weights, settings, Excess(9.0, 9.0))
    assert turned.tolist() == pytest.approx([0, 0])
    back = serving_score(0.0, [0, 3], 0.1, weights, settings, Excess(-1.0, 0.0))
    assert back.tolist() == pytest.approx([0, 3 * (4 * 0.1 + 0.5)])


def test_serving_score_by_hand() -> None:
    """-2 + 0.5 * 2 * 3 + 4 * 0.5 * log(.1) = 1 - 2 log 10."""
    weights, settings = RewardWeights(relevance=2, ctr=0.5), ServingScoreSettings(relevance_scale=0.5, ctr_scale=4)
    assert serving_score(-2.0, 3, 0.1, weights, settings) == pytest.approx(1 - 2 * math.log(10))
    terms = dict(zip(SERVING_TERMS, serving_terms(-2.0, 3, 0.1, weights, settings).tolist(), strict=True))
    expected = {"policy": -2, "relevance": 3, "ctr": -2 * math.log(10), "multiplier": 0, "taken_up": 0}
    assert terms == pytest.approx(expected)


def test_v1_signal_by_hand_and_its_flaw() -> None:
    """Unseen: c = log 10 three times, Ctr = 1/3, Cvr = 1, r = 2 lambda (1/3) / (4/3) = lambda / 2. That beats an item
    shown 1,000 times and clicked 100, ordered 10: the flaw."""
    unseen = v1_reward(0, 0, 0, LAMBDA["click"])
    assert unseen == pytest.approx(0.5)
    shown, clicked, ordered = math.log(1010), math.log(110), math.log(20)
    ctr, cvr = clicked / (shown + clicked + ordered), ordered / clicked
    good = v1_reward(100, 10, 1000, LAMBDA["click"])
    assert good == pytest.approx(2 * ctr * cvr / (ctr + cvr))
    assert unseen > good
