"""Exploration: exact list propensities, held against counting and enumeration; noise that belongs to (request, item)."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidValue
from schemas.events import SUPPORT_FLOOR
from serving.exploration import draw, gumbel, item_keys, list_logp, support

SCORES = np.array([1.0, 0.0, 2.0, -1.0])


def enumerated(scores: np.ndarray, order: tuple[int, ...], temperature: float) -> float:
    """The definition of Plackett-Luce: at each position, exp(score) over the sum of what is left."""
    left, probability = list(range(len(scores))), 1.0
    for chosen in order:
        weights = [math.exp(scores[i] / temperature) for i in left]
        probability *= weights[left.index(chosen)] / sum(weights)
        left.remove(chosen)
    return probability


def test_propensities_of_all_lists_sum_to_one_and_are_the_product_of_conditionals() -> None:
    """Over all 12 ordered pairs of 4 candidates, each list's propensity is the definition's, and they sum to 1."""
    total = 0.0
    for order in permutations(range(4), 2):
        rest = [i for i in range(4) if i not in order]
        logp = list_logp(SCORES[[*order, *rest]] / 0.7, 2)
        assert math.exp(logp.sum()) == pytest.approx(enumerated(SCORES, order, 0.7), rel=1e-12)
        total += math.exp(logp.sum())
    assert total == pytest.approx(1.0, rel=1e-12)


def test_first_position_by_hand() -> None:
    """Scores 0 and log 3 at temperature 1: the second is first with probability 3/4."""
    assert np.exp(list_logp(np.array([math.log(3.0), 0.0]), 1)[0]) == pytest.approx(0.75)


def test_drawn_lists_occur_as_often_as_their_propensity_says() -> None:
    """20,000 requests draw 2 of 4; every ordered pair's share lies within 4.5 standard errors of its propensity."""
    keys, n, temperature = item_keys(["a", "b", "c", "d"]), 20_000, 0.8
    counts: Counter[tuple[int, ...]] = Counter()
    for request in range(n):
        drawn = draw(SCORES, 2, temperature, gumbel(5, f"r{request}", keys))
        counts[tuple(drawn.order_k.tolist())] += 1
        if request < 50:
            expected = enumerated(SCORES, tuple(drawn.order_k.tolist()), temperature)
            assert math.exp(drawn.logp_k.sum()) == pytest.approx(expected, rel=1e-9)
    for order in permutations(range(4), 2):
        p = enumerated(SCORES, order, temperature)
        assert abs(counts[order] / n - p) < 4.5 * math.sqrt(p * (1 - p) / n), order


def test_noise_is_gumbel() -> None:
    """Mean is Euler's 0.5772 and variance pi^2 / 6 = 1.645, within 5 standard errors of 40,000 draws."""
    noise = gumbel(1, "r", item_keys([f"i{n}" for n in range(40_000)]))
    assert noise.mean() == pytest.approx(0.5772, abs=5 * math.sqrt(1.645 / 40_000))
    assert noise.var() == pytest.approx(math.pi**2 / 6, rel=0.06)


@given(st.permutations(range(6)), st.integers(0, 3), st.text(min_size=1, max_size=20))
def test_two_arms_meet_the_same_noise(order: list[int], drop: int, request: str) -> None:
    """An item's noise does not hang on its place in the pool, nor on what else is in it; only on seed and request."""
    items = [f"item-{n}" for n in range(6)]
    whole = dict(zip(items, gumbel(3, request, item_keys(items)), strict=True))
    other = [items[n] for n in order][drop:]
    assert gumbel(3, request, item_keys(other)).tolist() == [whole[item] for item in other]
    assert (gumbel(4, request, item_keys(items)) != gumbel(3, request, item_keys(items))).all()


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.integers(1, 15))
def test_temperature_zero_sorts_and_is_certain(scores: list[float], k: int) -> None:
    """No exploration: the k best in order, ties to the earlier, each with propensity 1."""
    drawn = draw(np.array(scores), k, 0.0, np.full(len(scores), 9.0))
    assert drawn.order_k.tolist() == sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert drawn.logp_k.tolist() == [0.0] * min(k, len(scores))


def test_list_of_the_whole_pool_ends_in_certainty() -> None:
    """The last of the pool has no rival left: its conditional propensity is 1."""
    drawn = draw(SCORES, 10, 1.0, np.zeros(4))
    assert len(drawn.order_k) == 4
    assert drawn.logp_k[-1] == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    """A list drawn from NaN would have a propensity that means nothing."""
    with pytest.raises(InvalidValue, match="finite"):
        draw(np.array([0.0, bad]), 1, 1.0, np.zeros(2))


def test_negative_temperature_is_refused() -> None:
    """It would draw the worst first."""
    with pytest.raises(InvalidValue, match="temperature is nan"):
        draw(SCORES, 2, math.nan, np.zeros(4))
    with pytest.raises(InvalidValue, match="at least 0"):
        draw(SCORES, 1, -0.1, np.zeros(4))


def test_support_counts_those_who_had_a_chance_at_each_position() -> None:
    """By the definition, in plain loops over 4 candidates and 3 positions: at 0.05 of what is left, or more. The list's inverse
    propensities, summed over all lists by their probability, come to the mean support (`streams.integrity.checks.Draws`)."""
    inverse = mean = 0.0
    for order in permutations(range(4), 3):
        order_C = [*order, *(i for i in range(4) if i not in order)]
        utility_C = 2 * SCORES[order_C]
        chances = [[math.exp(u) / sum(np.exp(utility_C[j:])) for u in utility_C[j:]] for j in range(3)]
        expected = sum(chance >= SUPPORT_FLOOR for row in chances for chance in row)
        assert support(utility_C, 3) == expected
        logp = list_logp(utility_C, 3)
        probability = math.exp(logp.sum())
        inverse += probability * sum(1 / p for p in np.exp(logp) if p >= SUPPORT_FLOOR)
        mean += probability * expected
    assert 3 < mean < 9 and inverse == pytest.approx(mean, rel=1e-12)


def test_support_of_drawn_lists_and_of_certain_ones() -> None:
    """With temperature 0 each position had one candidate."""
    noise = gumbel(1, "r", item_keys(list("abcd")))
    drawn = draw(SCORES, 3, 0.5, noise)
    left = [i for i in range(4) if i not in drawn.order_k]
    assert drawn.support == support(SCORES[[*drawn.order_k.tolist(), *left]] / 0.5, 3)
    assert draw(SCORES, 3, 0.0, noise).support == 3


def test_scores_far_apart_leave_one_candidate_a_position() -> None:
    """e to the 2,000th is no number."""
    assert draw(np.array([0.0, -20.0, -40.0]), 3, 0.01, np.zeros(3)).support == 3
