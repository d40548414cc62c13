"""A change sinks into a policy over the small shop: served less what was taken up, its pages stay; served as if nothing was, they overshoot."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.absorption import Found, Line, uptake
from benchmarks.wishes.shop import SmallShop, small_shop
from reward.settings import PosteriorSettings, RewardSettings, ServingScoreSettings
from reward.snapshot import PosteriorSnapshot
from schemas.examples import TrainingExample
from schemas.weights import RewardWeights
from serving.parts import Parts
from serving.requests import SearchRequest
from serving.settings import EngineSettings
from trainers import checkpoints
from trainers.settings import LearnerSettings, LossSettings

WISH = RewardWeights(version=2, relevance=3)
#: Steep: in this many steps a change sinks in as far as it does in thousands of the defaults.
STEPS = 40
LEARNER = LearnerSettings(
    prompts=8, group=16, learning_rate=6e-3, warm_start_weight=0, absorb_half_life=STEPS / 8,
    loss=LossSettings(entropy=0.5, w_position=0, beta_sft=0),
)  # fmt: skip


@pytest.mark.slow
def test_the_same_wish_is_not_counted_twice(tmp_path: Path) -> None:
    """Two learners go on from a policy that has settled under the defaults, one with the wish. Uptake is measured between them on every
    other view, pages are made for the rest: mean tier of the first ten of everything in the shop.

    Served with the wish, the policy that knows nothing of it gives the page right after the change. The one into which it has
    sunk stays nearer to that, less what was taken up, than a third of the way that it has gone on without the subtraction.
    """
    shop = small_shop(tmp_path, warm_steps=40)
    views = tuple({view.query: view for view in shop.examples}.values())
    plain = Line(shop, LEARNER)
    plain.learn(RewardWeights(), STEPS)
    learned, found = plain.fork(), Found(plain, views[::2], beam=240)
    plain.learn(RewardWeights(), STEPS)
    learned.learn(WISH, STEPS)
    more_BW = found.reward(WISH) - found.reward(RewardWeights())
    measured = uptake(found.logp(plain), found.logp(learned), more_BW)
    assert measured > 0.1
    assert learned.state.absorbed[-1].share > 0.99

    parts = Parts.load(shop.store, shop.artefacts, shop.settings.reward)
    tier = {
        name: mean_tier(parts, shop, line, book, measured if name == "less" else 0.0, views[1::2])
        for name, line, book in (
            ("before", plain, RewardWeights()), ("right after", plain, WISH), ("less", learned, WISH), ("twice", learned, WISH))
    }  # fmt: skip
    print(measured, tier)
    assert tier["before"] + 0.1 < tier["right after"] < tier["twice"]
    assert abs(tier["less"] - tier["right after"]) < (tier["twice"] - tier["right after"]) / 3, tier


def mean_tier(
    parts: Parts, shop: SmallShop, line: Line, book: RewardWeights, uptake_scale: float, views: tuple[TrainingExample, ...]
) -> float:
    """Of the pages that a server gives, everything in its pool."""
    manifest = checkpoints.read(shop.store, shop.artefacts.frozen)
    manifest = msgspec.structs.replace(manifest, absorbed=line.state.absorbed)
    score = ServingScoreSettings(relevance_scale=0.3, ctr_scale=0, uptake_scale=uptake_scale)
    line.state.policy.module.eval()
    engine = parts.engine(
        line.state.policy, manifest, EngineSettings(beam=240, exploration=0), RewardSettings(serving=score)
    )
    requests = [
        SearchRequest(v.request_id, v.ts, v.user, v.query, recent_queries=v.recent_queries, recent_items=v.recent_items)
        for v in views
    ]
    answers = engine.answer(requests, book, PosteriorSnapshot.prior(PosteriorSettings()))
    return float(np.mean([item.scores.tier for answer in answers for item in answer.items]))
