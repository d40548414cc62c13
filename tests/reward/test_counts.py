"""Counts are exact: any order, any chunks, and what is taken back never was."""

from __future__ import annotations

import random
from collections import defaultdict
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.counts import LAST_POSITION, ROW_BYTES, UNIT, Counts
from reward.examination import start
from reward.keys import key, keys, pair_keys
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.errors import Corrupt
from schemas.posteriors import CountDelta

SETTINGS = PosteriorSettings(half_life_days=1, bucket_s=3_600)
CURVE = start(SETTINGS)
HOUR = 3_600_000

deltas = st.builds(
    CountDelta,
    st.sampled_from(["pump", "red shoe", ""]),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 60),
    st.integers(-3, 3).map(lambda n: n * UNIT),
    st.integers(-2, 2),
    st.integers(-2, 2),
    st.just(0),
    st.integers(0, 4),
)


def undo(told: list[CountDelta]) -> list[CountDelta]:
    return [CountDelta(d.query, d.item, d.bucket, -d.examined, -d.clicks, -d.orders, 0, d.position) for d in told]


@given(st.lists(deltas, max_size=30), st.randoms(use_true_random=False), st.integers(1, 5))
def test_order_and_chunks_do_not_matter(told: list[CountDelta], rng: random.Random, pieces: int) -> None:
    """The same deltas shuffled, in pieces, merged piece by piece: the same bytes."""
    whole = Counts(told)
    shuffled = told.copy()
    rng.shuffle(shuffled)
    parts = [Counts(shuffled[n::pieces]) for n in range(pieces)]
    merged = Counts()
    for part in parts:
        merged.merge(part.rows)
    assert merged.dump() == whole.dump() == Counts.load(whole.dump()).dump()
    assert len(whole.dump()) == ROW_BYTES * len(whole.rows.pair_R)


@given(st.lists(deltas, max_size=15), st.lists(deltas, max_size=15))
def test_taking_back_leaves_no_trace(kept: list[CountDelta], undone: list[CountDelta]) -> None:
    counts = Counts(kept)
    counts.add(undone)
    assert counts.dump() == Counts([*undone, *kept]).dump()
    counts.add(undo(undone))
    assert counts.dump() == Counts(kept).dump()
    now = 70 * HOUR
    assert PosteriorSnapshot.build(counts, now, SETTINGS) == PosteriorSnapshot.build(Counts(kept), now, SETTINGS)


@given(st.lists(deltas, max_size=30))
def test_against_exact_fractions(told: list[CountDelta]) -> None:
    """Decayed, examined sums equal a sum over fractions, one delta at a time; decay and theta are the only roundings."""
    now = 61 * HOUR
    sums = Counts(told).sums(now, SETTINGS, CURVE)
    slow: defaultdict[tuple[str, str], list[Fraction]] = defaultdict(lambda: [Fraction(0)] * 5)
    for d in told:
        weight = Fraction(2.0 ** -((now - (d.bucket + 0.5) * HOUR) / 86_400_000))
        theta = Fraction(d.position**-0.85) if d.position else Fraction(1)
        mass = Fraction(d.examined, UNIT) * theta * weight
        values = (mass, mass * weight, mass * weight * theta, d.clicks * weight, d.orders * weight)
        slow[d.query, d.item] = [old + value for old, value in zip(slow[d.query, d.item], values, strict=True)]
    columns = (sums.n_P, sums.n2_P, sums.s2_P, sums.clicks_P, sums.orders_P)
    found = {pair: [float(column[p]) for column in columns] for p, pair in enumerate(sums.pair_P.tolist())}
    for (query, item), row in slow.items():
        pair = int(pair_keys(keys([query]), keys([item]))[0])
        assert found.get(pair, [0.0] * 5) == pytest.approx([float(value) for value in row], abs=1e-12)
    assert list(found) == sorted(found)
    assert all(int(sums.item_I[i]) in {key(d.item) for d in told} for i in sums.item_P)


def test_weight_halves_with_the_half_life() -> None:
    """A click in the bucket that begins at 0, seen at half an hour (age 0) and a day later: 1 and 1/2."""
    counts = Counts([CountDelta("q", "i", 0, UNIT, 1, 0)])
    assert counts.sums(HOUR // 2, SETTINGS, CURVE).clicks_P.tolist() == [1.0]
    assert counts.sums(HOUR // 2 + 24 * HOUR, SETTINGS, CURVE).clicks_P.tolist() == [0.5]
    assert counts.sums(0, SETTINGS, CURVE).clicks_P.tolist() == [1.0]  # a bucket of the future does not weigh more


def test_rows_know_bucket_and_position() -> None:
    """A position beyond what a row can hold counts as the last one that it can."""
    rows = Counts([CountDelta("q", "i", 7, UNIT, 0, 0, 0, 3), CountDelta("q", "i", 7, UNIT, 0, 0, 0, 1 << 20)]).rows
    assert rows.bucket_R.tolist() == [7, 7] and rows.position_R.tolist() == [3, LAST_POSITION]


def test_half_a_row_is_corrupt() -> None:
    data = Counts([CountDelta("q", "i", 0, UNIT, 1, 0)]).dump()
    with pytest.raises(Corrupt, match=f"{len(data) - 1} bytes, but rows have 48.*replay"):
        Counts.load(data[:-1])
