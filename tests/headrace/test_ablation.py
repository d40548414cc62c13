"""The ablation's loop: arms meet the same world, step and publish at the stated rate, and repeat to the bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.ablation.arms import Arm, chosen
from headrace.ablation.lab import Lab, open_lab
from headrace.ablation.loop import Played, play
from headrace.ablation.settings import setup_of
from headrace.ablation.withheld import WithheldWorld
from headrace.context import with_context
from headrace.evaluation.lists import Judge
from headrace.world import Outcome, Request
from reward.composite import item_reward
from reward.snapshot import PosteriorSnapshot
from reward.text import normalise
from schemas.events import Click, Impression, Order
from schemas.weights import RewardWeights
from serving.parts import open_checkpoint
from serving.requests import SearchRequest
from tests.headrace.ablation_toys import LOOP, small_settings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def lab(ablation_root: Path) -> Lab:
    return open_lab(ablation_root, small_settings(), LOOP)


@pytest.fixture(scope="module")
def played(lab: Lab) -> dict[str, Played]:
    """Two arms of the lab."""
    return {arm.name: play(lab, arm, setup_of(lab.settings, LOOP, arm)) for arm in chosen(["frozen", "tpma"])}


def test_an_arm_equals_itself_to_the_bit(lab: Lab, played: dict[str, Played]) -> None:
    """Rows, probes, every metric of every step and every decision of the gate."""
    (arm,) = chosen(["tpma"])
    again = play(lab, arm, setup_of(lab.settings, LOOP, arm))
    for one, other in ((again.stream, played["tpma"].stream), (again.probes, played["tpma"].probes)):
        assert {k: np.array(v).tobytes() for k, v in one.columns.items()} == {
            k: np.array(v).tobytes() for k, v in other.columns.items()
        }
    assert msgspec.json.encode([again.curves, again.publications]) == msgspec.json.encode(
        [played["tpma"].curves, played["tpma"].publications]
    )
    assert len(again.publications) == 3 and any(p["promoted"] for p in again.publications)
    assert played["tpma"].stream.columns != played["frozen"].stream.columns


def test_two_arms_meet_the_same_requests_and_the_same_feedback_for_the_same_page(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stood before: a click hangs on request, item and place alone."""
    met: dict[str, list[tuple[Request, tuple[str, ...], Outcome]]] = {}
    feedback = WithheldWorld.feedback
    for arm in chosen(["bm25", "click_memory"]):
        seen = met[arm.name] = []

        def spy(world: WithheldWorld, request: Request, shown: Any, seen: Any = seen) -> Outcome:
            seen.append((request, tuple(shown), feedback(world, request, shown)))
            return seen[-1][2]

        monkeypatch.setattr(WithheldWorld, "feedback", spy)
        play(lab, arm, setup_of(lab.settings, LOOP, arm))
    one, other = (sorted(met[name], key=lambda seen: seen[0].request_id) for name in ("bm25", "click_memory"))
    assert [r for r, *_ in one] == [r for r, *_ in other]
    assert sorted(r for r, *_ in one) == sorted([*lab.requests, *lab.probes])
    same = 0
    for (request, left, outcome), (_, right, beside) in zip(one, other, strict=True):
        places = {item for n, item in enumerate(left) if right[n : n + 1] == (item,)}
        clicked = [{c.item for c in o.clicks} & places for o in (outcome, beside)]
        assert clicked[0] == clicked[1], request
        same += len(places)
    assert same > len(one)


def test_blocks_and_waves_cut_the_stream_where_searches_hang_together(lab: Lab) -> None:
    """No block over a snapshot or a publication; a user's searches in different waves, in their order; nothing left out."""
    setup = setup_of(lab.settings, LOOP, Arm("x"))
    every_ms = setup.settings.reward.posterior.snapshot_every_s * 1_000
    blocks = list(lab.blocks(setup))
    assert [n for block in blocks for n in block] == list(range(48))
    for block in blocks:
        assert len({lab.requests[n].ts // every_ms for n in block}) == 1
        assert block.start // 16 == (block.stop - 1) // 16  # a publication every 4 steps of 4 searches
        waves = lab.waves(block)
        assert sorted(n for wave in waves for n in wave) == list(block)
        place = {n: w for w, wave in enumerate(waves) for n in wave}
        for n in block:
            for m in range(n + 1, block.stop):
                if lab.requests[n].user == lab.requests[m].user:
                    assert place[n] < place[m]


def test_the_frozen_arm_s_first_pages_are_worth_what_a_by_hand_evaluation_says(lab: Lab, played: dict[str, Played]) -> None:
    """Before the first snapshot of the live part changes the order: engine, feedback and reward put together by hand."""
    setup = setup_of(lab.settings, LOOP, chosen(["frozen"])[0])
    policy, manifest = open_checkpoint(lab.store, lab.artefacts.frozen)
    engine = lab.parts.engine(policy, manifest, setup.settings.serving.engine, setup.settings.reward)
    snapshot = snapshot_of_history(lab)
    first = next(lab.blocks(setup))
    alone = [n for n in first if n in lab.waves(first)[0]]  # those whose user has no earlier search in the stream
    for n, request in ((n, lab.requests[n]) for n in alone):
        past = [e for e in with_context(lab.history) if isinstance(e, Impression) and e.user == request.user]
        queries = list(dict.fromkeys(e.query for e in reversed(past)))[:5]
        clicks = {e.item: e.ts for e in lab.history if isinstance(e, Click) and e.user == request.user and e.ts < request.ts}
        items = sorted(clicks, key=lambda item: (clicks[item], item), reverse=True)[:10]
        bought = {e.item: e.ts for e in lab.history if isinstance(e, Order) and e.user == request.user and e.ts < request.ts}
        orders = tuple(sorted(bought, key=lambda item: (bought[item], item), reverse=True)[:10])
        (answer,) = engine.answer(
            [SearchRequest(request.request_id, request.ts, request.user, request.query, 10, recent_queries=tuple(queries),
                           recent_items=tuple(items), recent_orders=orders)],
            RewardWeights(), snapshot,
        )  # fmt: skip
        shown = [item.item for item in answer.items]
        outcome = lab.world.feedback(request, shown)
        clicked, ordered = {c.item for c in outcome.clicks}, {o.item for o in outcome.orders}
        worth = item_reward(
            lab.world.tiers(request.query, shown), lab.world.click_probability(request, shown),
            [item in clicked for item in shown], [item in ordered for item in shown], RewardWeights(),
        )  # fmt: skip
        row = {name: column[n] for name, column in played["frozen"].stream.columns.items()}
        assert row["reward_per_search"] == pytest.approx(float(np.mean(worth)), rel=1e-12), request
        assert row["clicks_per_search"] == len(clicked) and row["orders_per_search"] == len(ordered)
        places = [k for k, item in enumerate(shown, start=1) if item in ordered]
        assert row["order_mrr10"] == (1 / places[0] if places else 0.0)


def snapshot_of_history(lab: Lab) -> PosteriorSnapshot:
    """The newest snapshot by the first live request, from a plane that sees the log event by event."""
    from headrace.ablation.plane import Plane

    plane = Plane(lab.parts.catalogue, lab.parts.relevance, lab.prefixes, lab.settings, lab.world.live_ms)
    for event in lab.history:
        plane.advance(event.ts)
        plane.offer([event])
    plane.advance(lab.requests[0].ts)
    return plane.rates(plane.pointer)


def test_what_the_plane_refuses_of_a_world_s_events_is_counted_by_reason(lab: Lab, played: dict[str, Played]) -> None:
    """One order that no click explains, one click on a page that nobody saw; the rest of the log is joined."""
    from headrace.ablation.plane import Plane

    plane = Plane(lab.parts.catalogue, lab.parts.relevance, lab.prefixes, lab.settings, lab.world.live_ms)
    first, item = lab.history[0].ts, lab.world.catalogue.items[0]
    plane.offer(
        [*lab.history, Click(first + 5, "nobody", item, "never-shown", 1), Order(first + 6, "nobody", item, "o-1", 9.0)]
    )
    plane.advance(lab.world.live_ms)
    assert plane.refused == {"attribution: unknown_request": 1, "attribution: no_click": 1}
    assert played["frozen"].refused == {}


def test_a_request_s_candidates_are_all_that_any_arm_may_show(lab: Lab) -> None:
    """They limit what is shown, live and when the withheld queries are asked."""
    some = lab.world.catalogue.items[:15]
    limited = dataclasses.replace(
        lab,
        requests=tuple(r._replace(candidates=some) for r in lab.requests[:8]),
        probes=tuple(r._replace(candidates=some) for r in lab.probes),
    )
    for arm in chosen(["frozen", "bm25", "click_memory", "tier_ctr"]):
        pages: list[tuple[str, ...]] = []
        with pytest.MonkeyPatch.context() as patch:
            page = Judge.page
            patch.setattr(Judge, "page", lambda *a, p=page, into=pages: into.append(tuple(a[2])) or p(*a))
            play(limited, arm, setup_of(lab.settings, LOOP, arm))
        assert len(pages) == 20 and all(pages), arm.name
        assert {item for shown in pages for item in shown} <= set(some), arm.name


@pytest.mark.parametrize("name", ["true_tiers", "frozen"])
def test_an_arm_with_true_tiers_orders_what_the_policy_finds_by_them(lab: Lab, name: str) -> None:
    """Where nothing but the tier counts and nothing is explored, no true tier stands above a lower one; the scorer errs."""
    heavy = ["reward.serving.relevance_scale=100", "reward.serving.ctr_scale=0", "serving.engine.exploration=0"]
    (arm,) = chosen([name], heavy)
    pages: list[tuple[str, tuple[str, ...]]] = []
    with pytest.MonkeyPatch.context() as patch:
        page = Judge.page
        patch.setattr(Judge, "page", lambda *a: pages.append((a[1].query, tuple(a[2]))) or page(*a))
        play(dataclasses.replace(lab, requests=lab.requests[:40]), arm, setup_of(lab.settings, LOOP, arm))
    sorted_pages = [bool((np.diff(lab.world.tiers(query, shown)) <= 0).all()) for query, shown in pages]
    assert all(sorted_pages) == (name == "true_tiers")


@pytest.mark.parametrize("name", ["tier_ctr", "scored_ctr"])
def test_the_table_s_page_is_the_best_by_tier_and_posterior(lab: Lab, name: str) -> None:
    """A slow oracle over the whole catalogue at the first request; the tiers are the world's, or the scorer's."""
    (arm,) = chosen([name])
    table_played = play(dataclasses.replace(lab, requests=lab.requests[:1]), arm, setup_of(lab.settings, LOOP, arm))
    request, snapshot, catalogue = lab.requests[0], snapshot_of_history(lab), lab.world.catalogue
    score = {}
    for item, since in zip(catalogue.items, catalogue.available_from_N.tolist(), strict=True):
        if since <= request.ts:
            row = np.array([catalogue.row[item]])
            true, scored = lab.world.tiers(request.query, [item]), lab.parts.relevance.tiers(request.query, row)[0]
            tier = int((true if name == "tier_ctr" else scored)[0])
            ctr = snapshot.ctr(normalise(request.query), [item]).mean_N[0]
            score[item] = 4 * tier + 4 * np.log(ctr)  # `reward.serving`'s scales
    best = sorted(score, key=lambda item: -score[item])[:10]
    worth, _ = lab.judge.page(request, best)
    assert table_played.stream.columns["reward_per_search"] == [pytest.approx(worth["reward_per_search"])]


def test_steps_and_publications_come_at_the_stated_rate(lab: Lab, played: dict[str, Played]) -> None:
    """48 searches, a step every 4, a publication every 4 steps; the frozen arm takes none."""
    assert played["tpma"].curves["step"][-1] == 12
    assert [p["step"] for p in played["tpma"].publications] == [4, 8, 12]
    assert played["frozen"].curves == {} and played["frozen"].publications == []
    assert {"unique_sids", "constant_groups", "entropy.1", "sft_ce"} <= set(played["tpma"].curves)
    arm = chosen(["loop.gated=false"])[0]
    ungated = play(lab, arm, setup_of(lab.settings, LOOP, arm))
    assert all(p["promoted"] for p in ungated.publications) and len(ungated.publications) == 3


def test_withheld_queries_are_in_nothing_an_arm_learns_from(lab: Lab) -> None:
    """Neither log nor labels nor stream nor a user's past; and there are some."""
    assert len(lab.probes) == 12 and all(lab.world.withheld(p.query) for p in lab.probes)
    assert not any(lab.world.withheld(r.query) for r in lab.requests)
    assert not any(lab.world.withheld(j.query) for j in lab.world.judgments)
    pages = [e for e in lab.history if isinstance(e, Impression)]
    assert not any(lab.world.withheld(query) for page in pages for query in (page.query, *page.recent_queries))
    kept = {page.request_id for page in pages}
    assert all(e.request_id in kept for e in lab.history if isinstance(e, Click))
