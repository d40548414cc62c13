"""The expected effect on the simulated shop, whose people's true click probabilities are known."""

from __future__ import annotations

import numpy as np

from headrace.shop import behaviour
from headrace.shop.lexical import LexicalSearch
from headrace.shop.settings import ShopSettings
from headrace.shop.world import ShopWorld
from reward.campaigns.facts import ItemFacts
from reward.composite import serving_score
from reward.preview.preview import preview
from reward.preview.rates import Rates
from reward.settings import RewardSettings, ServingScoreSettings
from schemas.examples import ExampleItem, TrainingExample
from schemas.pools import Pool
from schemas.views import ViewStatus
from schemas.weights import RewardWeights

NOW_MS = 1_780_000_000_000
PAGES, CANDIDATES, SHOWN, TEMPERATURE, TRUTHS = 1_500, 20, 5, 4.0, 40
TODAY, DRAFT = RewardWeights(relevance=0.5, ctr=0.5), RewardWeights(version=2, relevance=1.2, ctr=0.5)


def test_expected_clicks_are_the_true_ones() -> None:
    """1,500 searches, pages of 5 drawn from 20 by today's weights, and what people did. The truth: pages drawn by both books for
    the same searches, each worth its true click probabilities. The draft's gain is inside twice the interval's half width (about
    four standard errors), well above zero, and so are the levels of both; orders and tiers rise as well."""
    settings = ShopSettings(items=300, users=80, queries=40, live_requests=PAGES, history_impressions=0, page=SHOWN)
    world, score, rng = ShopWorld(settings, NOW_MS), ServingScoreSettings(), np.random.default_rng(3)
    search = LexicalSearch(world.catalogue.titles, np.arange(len(world.catalogue)), 7)
    seen_K = behaviour.examination(SHOWN, settings.position_power)
    examples, pools, truth = [], {}, np.zeros((2, PAGES))
    for n, request in enumerate(world.requests()):
        found = search.pool(request.query)
        rows, logp = found.rows_P[:CANDIDATES], found.z_P[:CANDIDATES]
        names = [world.catalogue.items[row] for row in rows]
        click_C, tier_C = world.click_probability(request, names), world.tiers(request.query, names).astype(np.int64)
        ctr_C = np.clip(click_C * rng.lognormal(0, 0.5, len(rows)), 1e-3, 0.9)  # known about as well as a posterior knows it
        utility_2C = np.array([serving_score(logp, tier_C, ctr_C, book, score) / TEMPERATURE for book in (TODAY, DRAFT)])
        noise_RC = rng.gumbel(size=(TRUTHS, len(rows)))
        for b, utility_C in enumerate(utility_2C):
            lists_RK = np.argsort(-(utility_C + noise_RC), axis=1)[:, :SHOWN]
            truth[b, n] = (click_C[lists_RK] * seen_K).sum(axis=1).mean()
        order_C = np.argsort(-(utility_2C[0] + rng.gumbel(size=len(rows))))
        left_C = np.logaddexp.accumulate(utility_2C[0][order_C][::-1])[::-1]
        shown = [names[c] for c in order_C[:SHOWN]]
        outcome = world.feedback(request, shown)
        clicked, ordered = {c.item for c in outcome.clicks}, {o.item: o.value for o in outcome.orders}
        items = tuple(
            ExampleItem(
                names[c], k + 1, float(np.exp(utility_2C[0][c] - left_C[k])), int(tier_C[c]), 1.0, float(ctr_C[c]), 0.0,
                int(names[c] in clicked), int(names[c] in ordered), ordered.get(names[c], 0.0),
            )
            for k, c in enumerate(order_C[:SHOWN].tolist())
        )  # fmt: skip
        examples.append(
            TrainingExample(
                f"{request.request_id}:provisional:1", request.request_id, ViewStatus.PROVISIONAL, 1, request.ts, request.ts, request.user,
                request.query, items, "r", 0, weights_version=1,
            )
        )  # fmt: skip
        columns = (logp.tobytes(), tier_C.astype("i1").tobytes(), ctr_C.tobytes())
        pools[request.request_id] = Pool(
            request.ts, request.request_id, request.query, tuple(names), *columns, TEMPERATURE, "c", 1
        )
    about = (world.catalogue.row, ItemFacts.of(world.catalogue), RewardSettings(), NOW_MS, Rates(0, None, None))
    said = preview(examples, pools, TODAY, DRAFT, *about)
    assert said.support.used == PAGES and said.support.inconsistent == 0
    before, after = truth.mean(axis=1)
    assert after - before > 0.01
    for kind in said.expected:
        clicks = kind.values["clicks"]
        assert clicks.low is not None and clicks.high is not None
        assert abs(clicks.change - (after - before)) < clicks.high - clicks.low, kind.estimator
        assert kind.values["tier"].change > 0.05 and abs(kind.mean_weight - 1) < 0.3
        if kind.estimator == "sequence":
            assert clicks.low > 0
            assert abs(clicks.before - before) < 0.05 and abs(clicks.after - after) < 0.05
    assert said.warnings == ()
