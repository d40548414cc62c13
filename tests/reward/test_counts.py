"""Counts are exact: any order, any chunks, and what is taken back never was."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.counts import UNIT, Counts, examination
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.posteriors import CountDelta

SETTINGS = PosteriorSettings(half_life_days=1, bucket_s=3_600)
HOUR = 3_600_000

deltas = st.builds(
    CountDelta,
    st.sampled_from(["pump", "red shoe", ""]),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 60),
    st.integers(-3, 3).map(lambda n: n * UNIT // 3),
    st.integers(-2, 2),
    st.integers(-2, 2),
    st.integers(-3, 3).map(lambda n: n * UNIT // 5),
)


@given(st.lists(deltas, max_size=30), st.randoms(use_true_random=False), st.integers(1, 5))
def test_order_and_chunks_do_not_matter(told: list[CountDelta], rng: random.Random, pieces: int) -> None:
    """The same deltas shuffled, in pieces, merged piece by piece: the same bytes and the same snapshot."""
    whole = Counts(told)
    shuffled = told.copy()
    rng.shuffle(shuffled)
    parts = [Counts(shuffled[n::pieces]) for n in range(pieces)]
    for part in parts:
        part.deltas()  # compacted at another time than the whole
    merged = Counts()
    for part in parts:
        merged.add(part.deltas())
    assert merged.dump() == whole.dump() == Counts.load(whole.dump()).dump()


@given(st.lists(deltas, max_size=15), st.lists(deltas, max_size=15))
def test_taking_back_leaves_no_trace(kept: list[CountDelta], undone: list[CountDelta]) -> None:
    counts = Counts(kept)
    counts.add(undone)
    counts.add(CountDelta(d.query, d.item, d.bucket, -d.examined, -d.clicks, -d.orders, -d.squares) for d in undone)
    assert counts.dump() == Counts(kept).dump()
    now = 70 * HOUR
    assert PosteriorSnapshot.build(counts, now, SETTINGS) == PosteriorSnapshot.build(Counts(kept), now, SETTINGS)


@given(st.lists(deltas, max_size=30))
def test_against_exact_fractions(told: list[CountDelta]) -> None:
    """Decayed sums equal a sum over fractions, one delta at a time, with the decay's float as the only rounding."""
    now = 61 * HOUR
    sums = Counts(told).sums(now, SETTINGS)
    slow: dict[tuple[str, str], list[Fraction]] = {}
    for d in told:
        weight = Fraction(2.0 ** -((now - (d.bucket + 0.5) * HOUR) / 86_400_000))
        row = slow.setdefault((d.query, d.item), [Fraction(0)] * 5)
        mass, square = Fraction(d.examined, UNIT), Fraction(d.squares, UNIT)
        for n, value in enumerate(
            (mass * weight, mass * weight**2, square * weight**2, d.clicks * weight, d.orders * weight)
        ):
            row[n] += value
    found = {
        (sums.queries[q], sums.items[i]): [float(column[p]) for column in (sums.n_P, sums.n2_P, sums.s2_P, sums.clicks_P, sums.orders_P)]
        for p, (q, i) in enumerate(zip(sums.query_P, sums.item_P, strict=True))
    }  # fmt: skip
    for pair, row in slow.items():
        assert found.get(pair, [0.0] * 5) == pytest.approx([float(value) for value in row], abs=1e-12)
    assert list(found) == sorted(found)


def test_weight_halves_with_the_half_life() -> None:
    """A click in the bucket that begins at 0, seen at half an hour (age 0) and a day later: 1 and 1/2."""
    counts = Counts([CountDelta("q", "i", 0, UNIT, 1, 0, UNIT)])
    assert counts.sums(HOUR // 2, SETTINGS).clicks_P.tolist() == [1.0]
    assert counts.sums(HOUR // 2 + 24 * HOUR, SETTINGS).clicks_P.tolist() == [0.5]
    assert counts.sums(0, SETTINGS).clicks_P.tolist() == [1.0]  # a bucket of the future does not weigh more


def test_examination_is_a_power_of_the_position() -> None:
    """Position 4 with power 1/2: theta = 1/2, theta squared = 1/4, in units of 2**-20."""
    assert examination(4, 0.5) == (1 << 19, 1 << 18)
    assert examination(1, 0.85) == (UNIT, UNIT)
    assert np.all(np.diff([examination(k, 0.85)[0] for k in range(1, 50)]) < 0)
