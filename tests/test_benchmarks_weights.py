"""What the benchmarks of the weights compute from what they saw, by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from benchmarks import absorption, weights_latency
from benchmarks.weights_latency import Change
from schemas.journal import StepResult
from schemas.weights import RewardWeights


def test_a_change_has_reached_the_gradient_with_the_first_result_of_its_version_or_a_later_one() -> None:
    """Saved at 10 s; a step with the version before ends at 11 s, one with it at 11.5 s. Version 4 was overtaken by 5, at 12 s."""
    steps = [StepResult(n, 8, 8, version, {}, ms) for n, (version, ms) in enumerate([(2, 11_000), (3, 11_500), (5, 12_000)])]
    assert weights_latency.to_gradient_s(Change(3, 10.0, 0.1), steps) == pytest.approx(1.5)
    assert weights_latency.to_gradient_s(Change(4, 11.4, 0.1), steps) == pytest.approx(0.6)


def test_no_change_is_one_that_the_desk_refuses_as_nothing() -> None:
    """From the defaults on, each value is another than the one in force, also where versions go on in another database."""
    book = RewardWeights()
    for _ in range(300):
        wish = weights_latency.other_relevance(book)
        assert wish["relevance"] != book.relevance
        book = msgspec.structs.replace(book, version=book.version + 1, **wish)


def test_percentiles_are_held_against_what_is_allowed() -> None:
    """0.01 to 1.00 s: p50 .505, p99 .9901; the ratio is 2 s over them, and below 1 once they are slower."""
    rows = weights_latency.percentiles("", [n / 100 for n in range(1, 101)], 2.0)
    assert [row.case for row in rows] == ["p50", "p99"]
    assert [row.ours for row in rows] == pytest.approx([0.505, 0.9901])
    assert [row.ratio for row in rows] == pytest.approx([2 / 0.505, 2 / 0.9901])
    assert weights_latency.percentiles("search ", [4.0] * 5, 1.0)[1].ratio == 0.25


def test_uptake_is_the_slope_within_views() -> None:
    """0.3 nats per unit of reward, and each view's own constant, which says nothing."""
    more_BW = np.array([[0.0, 1.0, 2.0], [4.0, 0.0, 2.0]])
    plain_BW = np.array([[-1.0, -2.0, -3.0], [-3.0, -1.0, -2.0]])
    wished_BW = plain_BW + 0.3 * more_BW + np.array([[5.0], [-7.0]])
    assert absorption.uptake(plain_BW, wished_BW, more_BW) == pytest.approx(0.3)


def test_half_life_is_where_half_of_the_last_third_is_reached() -> None:
    """0.1, 0.3, 0.4 at 10, 20, 30 steps: half of 0.4 lies half-way between 10 and 20."""
    assert absorption.half_life([(10, 0.1), (20, 0.3), (30, 0.4)]) == pytest.approx(15)
    assert absorption.half_life([(10, 0.4), (20, 0.4), (30, 0.4)]) == pytest.approx(5)
