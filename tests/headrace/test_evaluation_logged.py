"""Judging pages of a log: what nobody knows is no number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headrace.adapters.log_split import LoggedView, split_log
from headrace.adapters.logged import LoggedWorld
from headrace.evaluation.lists import JUDGING, PAGE_METRICS, Judge
from headrace.evaluation.run import known_mean, known_paired
from headrace.shop.settings import FolderSettings
from headrace.world import Outcome
from reward.composite import CTR_FLOOR
from reward.judgments import Judgment
from schemas.catalogue import Catalogue
from schemas.events import Click, Impression, Order, ShownItem

T = 1_700_000_000_000


def _world(judgments: tuple[Judgment, ...] = ()) -> LoggedWorld:
    """One page of items a, b, c; b was clicked and bought."""
    shown = tuple(ShownItem(item, place) for place, item in enumerate("abc", start=1))
    outcome = Outcome((Click(T + 5, "u", "b", "v", 2),), (Order(T + 9, "u", "b", "o-v-b", 5.0),), ())
    view = LoggedView(Impression(T, "v", "u", "lamp", shown), outcome)
    catalogue = Catalogue(
        tuple("abc"), tuple("abc"), ("",) * 3, ("",) * 3, np.zeros(3, np.float32), np.zeros(3, np.int64), ({},) * 3
    )
    return LoggedWorld("log", catalogue, judgments, split_log([view], FolderSettings(log_history_share=0), 1))


def test_a_page_without_labels_has_clicks_and_no_ndcg():
    """b on top is an order, and a click of probability 1; a beside it was not clicked."""
    world = _world()
    [request] = world.requests()
    metrics, outcome = Judge(world).page(request, ["b", "a"])
    assert tuple(metrics) == PAGE_METRICS and math.isnan(metrics["ndcg10"])
    expected = (JUDGING.order + JUDGING.ctr * (1 - CTR_FLOOR) + JUDGING.ctr * CTR_FLOOR) / 2
    assert metrics["reward_per_search"] == pytest.approx(expected)
    assert [metrics[name] for name in ("clicks_per_search", "orders_per_search", "hr10", "mrr10")] == [1, 1, 1, 1]
    assert [click.position for click in outcome.clicks] == [1]
    assert Judge(world).page(request, ["a", "c"])[0]["clicks_per_search"] == 0


def test_an_empty_page_is_worth_nothing_but_its_ndcg_is_as_little_known():
    [request] = _world().requests()
    metrics, _ = Judge(_world()).page(request, [])
    assert math.isnan(metrics.pop("ndcg10")) and set(metrics.values()) == {0.0}
    labelled = _world((Judgment("lamp", "c", 2),))
    assert set(Judge(labelled).page(request, [])[0].values()) == {0.0}


def test_with_a_label_ndcg_is_over_what_the_logged_page_offers():
    """c alone has a label: second of two, its gain is discounted by log2(3)."""
    world = _world((Judgment("lamp", "c", 2),))
    [request] = world.requests()
    assert Judge(world).page(request, ["b", "c"])[0]["ndcg10"] == pytest.approx(1 / math.log2(3))
    assert Judge(world).page(request, ["a", "b"])[0]["ndcg10"] == 0


def test_means_and_intervals_are_over_known_pages_and_absent_without_any():
    nan = math.nan
    ours, theirs = np.array([1.0, nan, 3.0, nan]), np.array([0.0, nan, 1.0, nan])
    assert known_mean(ours) == 2.0 and known_mean(np.array([nan, nan])) is None
    pair = known_paired(ours, theirs, ["q", "r", "s", "t"], seed=1)
    assert pair is not None and (pair["diff"], pair["n"]) == (1.5, 2) and pair["low"] <= 1.5 <= pair["high"]
    assert known_paired(ours, theirs, ["q", "r", "q", "t"], seed=1) is None  # one query: nothing to resample
    assert known_paired(np.full(4, nan), theirs, ["q", "r", "s", "t"], seed=1) is None
