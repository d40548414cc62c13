"""Two speeds: what a checkpoint has absorbed, and that its wish is in the serving score once."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.campaigns.control import in_control
from reward.campaigns.facts import Asked, ItemFacts
from reward.campaigns.relative import LEAST_SHARE, MOST, REFERENCE, Relative, absorb, diluted, excess
from reward.composite import item_reward, serving_score
from reward.settings import ServingScoreSettings
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.catalogue import Catalogue
from schemas.checkpoints import Absorbed
from schemas.weights import RewardWeights

N = 40
CATALOGUE = Catalogue(
    items=tuple(f"i{n}" for n in range(N)),
    titles=("",) * N,
    categories=tuple(("shoes", "bags")[n % 2] for n in range(N)),
    brands=tuple(("ava", "bo", "cy")[n % 3] for n in range(N)),
    prices_N=np.ones(N, dtype=np.float32),
    available_from_N=np.zeros(N, dtype=np.int64),
    attributes=({},) * N,
    margins_N=np.linspace(0, 1, N, dtype=np.float32),
)
FACTS, ROWS = ItemFacts.of(CATALOGUE), np.arange(N)
SALE = Campaign(
    "sale", 1, "sale", "me", Scope(categories=("shoes",)), relevance=2, ctr=0.5, click=4,
    multipliers=Multipliers(margin=1.5, brands={"ava": 2.0}),
)  # fmt: skip


def shares(entries: tuple[Absorbed, ...]) -> dict[float, float]:
    """Share by the relevance weight of its entry."""
    return {entry.weights.relevance: entry.share for entry in entries}


def test_a_change_sinks_in_by_halves() -> None:
    """Half-life 10: after 10 steps half of it, after 20 three quarters; the other half is the reference, from the warm start."""
    entries: tuple[Absorbed, ...] = ()
    wish = RewardWeights(version=2, relevance=3)
    for step in range(1, 21):
        entries = absorb(entries, wish, 10)
        assert sum(entry.share for entry in entries) == pytest.approx(1)
        if step % 10 == 0:
            assert shares(entries) == pytest.approx({1.0: 0.5 ** (step / 10), 3.0: 1 - 0.5 ** (step / 10)})


def test_versions_that_decide_the_same_are_one() -> None:
    """Who decided it, when and with which number is no part of it; a book before it neither. An undo meets what it undoes."""
    one = absorb((), RewardWeights(version=2, relevance=3, author="a"), 10)
    same = absorb(one, RewardWeights(version=7, relevance=3, author="b", before=RewardWeights()), 10)
    assert len(same) == 2 and shares(same) == pytest.approx({1.0: 0.5**0.2, 3.0: 1 - 0.5**0.2})
    undone = absorb(same, RewardWeights(version=8), 10)
    assert shares(undone) == pytest.approx({3.0: (1 - 0.5**0.2) * 0.5**0.1, 1.0: 1 - (1 - 0.5**0.2) * 0.5**0.1})


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), max_size=25), st.sampled_from([0.5, 20.0, 500.0]))
def test_however_often_it_changes_the_entries_stay_few_and_sum_to_one(
    changes: list[tuple[int, int]], half_life: float
) -> None:
    """Against the sum over all steps, nothing forgotten: no share is off by more than what can have been forgotten."""
    entries: tuple[Absorbed, ...] = ()
    exact = {1.0: 1.0}
    for weight, steps in changes:
        for _ in range(steps):
            entries = absorb(entries, RewardWeights(relevance=weight), half_life)
            keep = 0.5 ** (1 / half_life)
            exact = {key: share * keep for key, share in exact.items()}
            exact[weight] = exact.get(weight, 0.0) + 1 - keep
    assert sum(entry.share for entry in entries) == pytest.approx(1) if changes else entries == ()
    assert len(entries) <= MOST and all(entry.share >= LEAST_SHARE for entry in entries[:-1])
    if len(exact) <= MOST:
        forgotten = LEAST_SHARE * len(changes)  # each change drops what is smaller by then
        assert all(abs(shares(entries).get(w, 0.0) - share) <= forgotten for w, share in exact.items()) or not entries
    assert msgspec.json.decode(msgspec.json.encode(entries), type=tuple[Absorbed, ...]) == entries


def test_excess_by_hand() -> None:
    """Half reference, half relevance 3, CTR 2, click 5: 2 on a tier above 1; on a click's chance (1 + 3 + 7) / 2 ... - 4 = 1.5."""
    mixed = excess([(0.5, REFERENCE), (0.5, RewardWeights(relevance=3, ctr=2, click=5))])
    assert mixed == (pytest.approx(1.0), pytest.approx(0.5 * (4 + 7) - 4))
    assert excess([(1.0, REFERENCE)]) == (0.0, 0.0)


@pytest.mark.parametrize("book", [RewardWeights(relevance=1.75, ctr=2, click=3.5), RewardWeights(campaigns=(SALE,))])
def test_a_policy_that_has_taken_it_up_is_served_as_the_one_that_has_not(book: RewardWeights) -> None:
    """Exact: a policy in proportion to exp(uptake * reward), whatever its warm start. Trained with the reference and with the
    wish, their scores differ by one constant, the normaliser; so they do at every stage between. Added without the correction,
    the wish counts more the more of it has sunk in."""
    rng, settings = np.random.default_rng(3), ServingScoreSettings()
    tier_N, ctr_N, base_N = rng.integers(0, 4, N), rng.uniform(0.01, 0.4, N), rng.normal(0, 2, N)
    asked = Asked("q")

    def policy(weights: object) -> np.ndarray:
        logp_N = base_N + settings.uptake_scale * item_reward(tier_N, ctr_N, ctr_N, 0, weights)  # type: ignore[arg-type]
        return np.asarray(logp_N - np.logaddexp.reduce(logp_N))

    wished = Relative(book, (), FACTS).of(asked, ROWS, 0).wished
    before_N = serving_score(policy(REFERENCE), tier_N, ctr_N, wished, settings)
    for share in (0.0, 0.3, 1.0):
        mixed_N = base_N + settings.uptake_scale * sum(
            part * item_reward(tier_N, ctr_N, ctr_N, 0, weights)  # type: ignore[arg-type]
            for part, weights in ((share, wished), (1 - share, REFERENCE))
        )
        absorbed = (Absorbed(1 - share, REFERENCE), Absorbed(share, book))
        lean = Relative(book, absorbed, FACTS).of(asked, ROWS, 0)
        after_N = serving_score(mixed_N, tier_N, ctr_N, lean.wished, settings, lean.excess)
        np.testing.assert_allclose(np.diff(after_N - before_N), 0, atol=1e-12)
    twice_N = serving_score(policy(wished), tier_N, ctr_N, wished, settings)
    assert np.ptp(twice_N - before_N) > 0.3


def test_at_rest_with_the_defaults_nothing_is_taken_out() -> None:
    """A checkpoint that only knows the defaults is served by them, as one without a record is."""
    settings, tier_N = ServingScoreSettings(), np.arange(N) % 4
    for absorbed in ((), (Absorbed(1.0, RewardWeights(version=9)),)):
        wished, taken = Relative(RewardWeights(), absorbed, FACTS).of(Asked("q"), ROWS, 0)
        by_hand_N = settings.relevance_scale * tier_N + settings.ctr_scale * np.log(0.1)
        np.testing.assert_allclose(serving_score(0.0, tier_N, 0.1, wished, settings, taken), by_hand_N, atol=1e-12)


def test_the_control_share_is_a_share_and_always_the_same_users() -> None:
    """Of 4,000 users about 5 %: within 4 standard deviations, .0034 each; larger shares hold the smaller ones."""
    users = [f"u{n}" for n in range(4_000)]
    small, large = ({user for user in users if in_control(user, share)} for share in (0.05, 0.5))
    assert abs(len(small) / 4_000 - 0.05) < 4 * (0.05 * 0.95 / 4_000) ** 0.5
    assert small < large and not any(in_control(user, 0.0) for user in users)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30), st.floats(0.01, 1, allow_nan=False), st.floats(1, 100))
def test_a_policy_half_way_to_the_warm_start_has_half_of_the_excess(
    wishes: list[int], share: float, half_life: float
) -> None:
    """Excess is linear in what was absorbed, and the warm start has none: so diluted, it is that share of it. Shares sum to 1."""
    entries: tuple[Absorbed, ...] = ()
    for wish in wishes:
        entries = absorb(entries, RewardWeights(version=wish, relevance=wish, click=5 - wish), half_life)
    thinner = diluted(entries, share)
    assert sum(entry.share for entry in thinner) == pytest.approx(1)
    whole, part = (Relative(REFERENCE, e, FACTS).of(Asked("lamp"), ROWS, 0).excess for e in (entries, thinner))
    assert whole is not None and part is not None
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_allclose(b, share * np.asarray(a), atol=1e-6)
    assert diluted((), share) == ()
