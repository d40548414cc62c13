"""The effect since a change: by hand, against a known difference, and what it warns of."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from reward.preview.effect import effect
from reward.settings import PreviewSettings
from schemas.errors import InvalidRequest
from schemas.examples import ExampleItem, TrainingExample
from schemas.views import ViewStatus
from schemas.weights import RewardWeights

OLD = RewardWeights(version=4)
NEW = RewardWeights(version=5, relevance=2.0, before=OLD)
SETTINGS = PreviewSettings(repeats=200)


def page(n: int, user: str, version: int, ts: int, *items: tuple[int, int, int, float]) -> TrainingExample:
    """Items as (tier, clicks, orders, value)."""
    shown = tuple(ExampleItem(f"i{k}", k, 1.0, t, 1.0, 0.1, 0.0, c, o, v) for k, (t, c, o, v) in enumerate(items, 1))
    return TrainingExample(
        f"r{n}:x:1", f"r{n}", ViewStatus.PROVISIONAL, 1, ts, ts, user, "q", shown, "r", 0, weights_version=version
    )


def test_by_hand() -> None:
    """New: two pages of ann, one of bob, from 100 on. Old: one of cat since, and one from before the change, which is not
    compared. Clicks count once an item; a later revision of bob's page replaces the first."""
    pages = [
        page(1, "ann", 5, 100, (3, 2, 0, 0.0), (1, 1, 1, 8.0)), page(2, "ann", 5, 110, (2, 0, 0, 0.0)),
        page(3, "bob", 5, 120, (0, 0, 0, 0.0)), page(4, "cat", 4, 130, (1, 0, 0, 0.0), (0, 1, 0, 0.0)),
        page(5, "cat", 4, 90, (3, 1, 1, 99.0)), page(6, "dan", 3, 140, (3, 1, 1, 99.0)),
        msgspec.structs.replace(page(3, "bob", 5, 120, (3, 1, 0, 0.0)), revision=2),
    ]  # fmt: skip
    found = effect(pages, NEW, 0.25, SETTINGS)
    assert (found.version, found.before, found.since_ms) == (5, 4, 100)
    assert (found.treated_pages, found.treated_users, found.control_pages, found.control_users) == (3, 2, 1, 1)
    said = {name: (one.treated, one.control) for name, one in found.values.items()}
    assert said["clicks"] == pytest.approx((1, 1)) and said["orders"] == pytest.approx((1 / 3, 0))
    assert said["revenue"] == pytest.approx((8 / 3, 0)) and said["tier"] == pytest.approx((7 / 3, 0.5))
    assert found.values["tier"].change == pytest.approx(7 / 3 - 0.5) and found.values["tier"].low is None
    assert (found.split.found, found.split.both) == (1 / 3, 0)
    assert any("early: 1 users" in warning for warning in found.warnings)


def simulated(seed: int, users: int, share: float, lift: float) -> list[TrainingExample]:
    """Each user clicks with a rate of their own, on 1 to 6 pages; the new weights add ``lift``."""
    rng, pages = np.random.default_rng(seed), []
    for u in range(users):
        version = 4 if rng.random() < share else 5
        rate = rng.uniform(0.1, 0.5) + (lift if version == 5 else 0.0)
        for _ in range(int(rng.integers(1, 7))):
            clicked = int(rng.random() < rate)
            pages.append(page(len(pages), f"u{u}", version, 1_000 + len(pages), (2, clicked, 0, 0.0)))
    return pages


def test_the_interval_covers_a_known_difference() -> None:
    """A lift of 0.1 in 60 shops of 400 users: inside 95 % intervals in 85 % of them at least (four deviations), and their
    mean is the lift."""
    found = [effect(simulated(seed, 400, 0.3, 0.1), NEW, 0.3, SETTINGS).values["clicks"] for seed in range(60)]
    inside = sum(one.low <= 0.1 <= one.high for one in found if one.low is not None and one.high is not None)
    changes = [one.change for one in found]
    assert inside >= 0.83 * 60
    assert abs(np.mean(changes) - 0.1) < 4 * np.std(changes) / np.sqrt(60)


def test_a_split_that_chance_does_not_make_is_told() -> None:
    """600 users of whom a third kept the old weights: fine if that was set, broken if a tenth was."""
    pages = simulated(1, 600, 1 / 3, 0.0)
    fine, broken = effect(pages, NEW, 1 / 3, SETTINGS), effect(pages, NEW, 0.1, SETTINGS)
    assert fine.split.p > 0.001 and fine.warnings == ()
    assert broken.split.p < 1e-6 and any("split is broken" in warning for warning in broken.warnings)


def test_users_of_both_sides_are_told() -> None:
    """Two servers with other control shares."""
    pages = simulated(1, 300, 0.5, 0.0)
    one = next(e for e in pages if e.weights_version == 5)
    pages.append(msgspec.structs.replace(one, request_id="again", weights_version=4, ts=10**6))
    found = effect(pages, NEW, 0.5, SETTINGS)
    assert found.split.both == 1 and any("both sides" in warning for warning in found.warnings)


def test_order_changes_nothing() -> None:
    pages = simulated(2, 120, 0.4, 0.1)
    assert effect(pages[::-1], NEW, 0.4, SETTINGS) == effect(pages, NEW, 0.4, SETTINGS)


def test_what_cannot_be_compared_is_refused() -> None:
    """A book that replaced none; no page of the new weights; none of the old since the change."""
    pages = [page(1, "ann", 5, 100, (3, 1, 0, 0.0)), page(2, "bob", 4, 90, (3, 1, 0, 0.0))]
    with pytest.raises(InvalidRequest, match="nothing to compare"):
        effect(pages, OLD, 0.1, SETTINGS)
    with pytest.raises(InvalidRequest, match=r"old weights \(version 4\)"):
        effect(pages, NEW, 0.1, SETTINGS)
    with pytest.raises(InvalidRequest, match=r"new weights \(version 5\)"):
        effect(pages[1:], NEW, 0.1, SETTINGS)
