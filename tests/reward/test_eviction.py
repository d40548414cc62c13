"""Memory is bounded by merging pairs into their items: deterministic, the least first, and nothing is lost."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.counts import UNIT, Counts, rest_keys
from reward.eviction import sweep
from reward.keys import REST, key, keys, pair_keys
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.posteriors import CountDelta

DAY = 86_400_000
SETTINGS = PosteriorSettings(bucket_s=86_400, half_life_days=1, kept_half_lives=10)


def shown(query: str, item: str, times: int, clicks: int = 0, bucket: int = 0) -> CountDelta:
    return CountDelta(query, item, bucket, times * UNIT, clicks, 0, 0, 1)


told = st.lists(
    st.builds(
        shown, st.sampled_from("pqrs"), st.sampled_from("abc"), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3)
    ),
    min_size=1,
    max_size=25,
)


def per_item(counts: Counts) -> dict[tuple[int, int], list[int]]:
    """Integer sums per (item, bucket and position), over all pairs."""
    rows, sums = counts.rows, dict[tuple[int, int], list[int]]()
    for item, slot, *numbers in zip(*(column.tolist() for column in (rows.item_R, *rows[2:])), strict=True):
        held = sums.setdefault((item, slot), [0, 0, 0])
        sums[item, slot] = [a + b for a, b in zip(held, numbers, strict=True)]
    return sums


def pairs_of(counts: Counts) -> set[int]:
    """Pairs that are kept apart."""
    rows = counts.rows
    return set(rows.pair_R[rows.pair_R != rest_keys(rows.item_R)].tolist())


@given(told, st.integers(1, 12), st.randoms(use_true_random=False))
def test_bounded_conserved_and_the_same_in_any_order(deltas: list[CountDelta], most: int, rng: random.Random) -> None:
    settings = SETTINGS.model_copy(update={"max_pairs": most})
    counts, other = Counts(deltas), Counts(rng.sample(deltas, len(deltas)))
    before, had = per_item(counts), pairs_of(counts)
    swept = sweep(counts, 4 * DAY, settings)
    sweep(other, 4 * DAY, settings)
    assert counts.dump() == other.dump()
    assert per_item(counts) == before
    assert len(pairs_of(counts)) == min(most, len(had)) and swept.evicted == max(0, len(had) - most)
    assert sweep(counts, 4 * DAY, settings).evicted == 0


def test_the_least_evidence_goes_first_decayed() -> None:
    """Today 4 showings; five days ago 100, which weigh 100 / 32 = 3.1: the old pair goes."""
    counts = Counts([shown("new", "a", 4, bucket=5), shown("old", "a", 100)])
    assert sweep(counts, 6 * DAY, SETTINGS.model_copy(update={"max_pairs": 1})).evicted == 1
    assert pairs_of(counts) == set(pair_keys(keys(["new"]), keys(["a"])).tolist())


def test_a_retraction_after_the_eviction_finds_its_click() -> None:
    """The pair's click went to the item; its retraction makes a pair of minus one click, which merges into it: zero."""
    settings = SETTINGS.model_copy(update={"max_pairs": 1})
    counts = Counts([shown("rare", "a", 1, clicks=1), shown("often", "a", 9)])
    sweep(counts, DAY, settings)
    counts.add([CountDelta("rare", "a", 0, 0, -1, 0, 0, 1)])
    sweep(counts, DAY, settings)
    expected = Counts([shown("rare", "a", 1), shown("often", "a", 9)])
    sweep(expected, DAY, settings)
    assert counts.dump() == expected.dump() and len(pairs_of(counts)) == 1


def test_what_is_too_old_is_forgotten_and_told() -> None:
    """Ten half-lives of a day: at day 12 a bucket of day 1 has gone (it ends at day 2), one of day 2 stays."""
    counts = Counts([shown("q", "a", 1, bucket=1), shown("q", "a", 1, bucket=2)])
    assert sweep(counts, 12 * DAY, SETTINGS).forgotten == 1
    assert counts.rows.bucket_R.tolist() == [2]


def test_items_that_the_catalogue_lacks_share_one_row() -> None:
    counts = Counts([shown("q", "a", 2), shown("q", "ghost", 3), shown("r", "wraith", 4)])
    assert sweep(counts, DAY, SETTINGS, np.sort(keys(["a", "b"]))).evicted == 2
    assert sorted(per_item(counts)) == sorted([(key("a"), 1), (REST, 1)])
    assert per_item(counts)[REST, 1] == [7 * UNIT, 0, 0]
    snapshot = PosteriorSnapshot(PosteriorSnapshot.build(counts, DAY, SETTINGS))
    assert snapshot.pairs == 1 and snapshot.ctr("q", ["ghost"]).ess_N.tolist() == [0]


def test_an_evicted_pair_stands_on_its_item_and_still_moves_it() -> None:
    """Half of 40 thin pairs of an item merge: the item's mean hardly changes, as thin pairs count nearly in full."""
    deltas = [shown(f"q{n}", "a", 1, clicks=int(n % 4 == 0)) for n in range(40)] + [shown("q", "b", 400, clicks=10)]
    counts, bounded = Counts(deltas), Counts(deltas)
    settings = PosteriorSettings(bucket_s=86_400, strength_low=10, strength_high=10)
    sweep(bounded, DAY, settings.model_copy(update={"max_pairs": 21}))
    whole, thin = (PosteriorSnapshot(PosteriorSnapshot.build(c, DAY, settings)) for c in (counts, bounded))
    assert thin.pairs == 21
    assert thin.ctr("new", ["a"]).mean_N[0] == pytest.approx(whole.ctr("new", ["a"]).mean_N[0], abs=0.01)
