"""A change sinks into a policy over the small shop: less what was taken up it is served as right after, added whole it overshoots."""

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
from serving.engine import SearchEngine
from serving.parts import Parts
from serving.requests import AnsweredItem, SearchRequest
from serving.settings import EngineSettings
from trainers import checkpoints
from trainers.settings import LearnerSettings

WISH, FOUND = RewardWeights(version=2, relevance=3), 50
#: Steeper than the defaults: in 60 steps a change sinks in as far as else in a thousand.
LEARNER = LearnerSettings(learning_rate=1e-3, warm_start_weight=0, absorb_half_life=5)


@pytest.mark.slow
def test_the_same_wish_is_not_counted_twice(tmp_path: Path) -> None:
    """Two learners go on from a policy that has settled under the defaults, one with relevance at 3. What was taken up is measured
    between them on every other view; the rest are served.

    The wished component of a page is how many nats its score rises with a tier. The policy that knows nothing of the wish shows
    what it is right after the change. Where it has sunk in and is added whole it is far above; less what was taken up it stays.
    """
    shop = small_shop(tmp_path, warm_steps=120)
    views = tuple({view.query: view for view in shop.examples}.values())
    plain = Line(shop, LEARNER)
    plain.learn(RewardWeights(), 20)
    learned, found = plain.fork(), Found(plain, views[::2], FOUND)
    plain.learn(RewardWeights(), 60)
    learned.learn(WISH, 60)
    more_BW = found.reward(WISH) - found.reward(RewardWeights())
    measured = uptake(found.logp(plain), found.logp(learned), more_BW)
    assert learned.state.absorbed[-1].share > 0.99

    parts = Parts.load(shop.store, shop.artefacts, shop.settings.reward)
    pages = answers(engine(parts, shop, plain, 0.0), WISH, [request(view) for view in views[1::2]])
    same = [
        request(view, tuple(item.item for item in page)) for view, page in zip(views[1::2], pages, strict=True)
    ]  # what is asked for again, so that only the order differs
    right_after, less, whole = (
        nats_per_tier(answers(engine(parts, shop, line, scale), WISH, same))
        for line, scale in ((plain, measured), (learned, measured), (learned, 0.0))
    )
    assert whole > right_after + 0.1
    assert abs(less - right_after) < (whole - right_after) / 3


def engine(parts: Parts, shop: SmallShop, line: Line, uptake_scale: float) -> SearchEngine:
    """A server's, over a learner's policy and its record."""
    manifest = checkpoints.read(shop.store, shop.artefacts.frozen)
    manifest = msgspec.structs.replace(manifest, absorbed=line.state.absorbed)
    score = ServingScoreSettings(ctr_scale=0, uptake_scale=uptake_scale)
    line.state.policy.module.eval()
    return parts.engine(
        line.state.policy, manifest, EngineSettings(beam=FOUND, exploration=0), RewardSettings(serving=score)
    )


def request(view: TrainingExample, items: tuple[str, ...] = ()) -> SearchRequest:
    return SearchRequest(
        view.request_id, view.ts, view.user, view.query, FOUND, items,
        recent_queries=view.recent_queries, recent_items=view.recent_items,
    )  # fmt: skip


def answers(by: SearchEngine, book: RewardWeights, requests: list[SearchRequest]) -> list[tuple[AnsweredItem, ...]]:
    return [answer.items for answer in by.answer(requests, book, PosteriorSnapshot.prior(PosteriorSettings()))]


def nats_per_tier(pages: list[tuple[AnsweredItem, ...]]) -> float:
    """Slope of the score on the tier, within each page."""
    rises = spread = 0.0
    for page in pages:
        tier_C = np.array([item.scores.tier for item in page], dtype=np.float64)
        tier_C -= tier_C.mean()
        rises += float(tier_C @ [item.scores.total for item in page])
        spread += float(tier_C @ tier_C)
    return rises / spread
