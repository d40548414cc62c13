"""The engine as a library: order by the serving score, availability, filters, exploration that two arms share."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from reward.settings import RewardSettings, ServingScoreSettings
from reward.snapshot import PosteriorSnapshot
from schemas.errors import Corrupt, Incompatible
from schemas.events import SUPPORT_FLOOR, ItemAdded
from schemas.filters import Filter
from schemas.store import Store
from schemas.weights import RewardWeights
from serving.exploration import gumbel, item_keys
from serving.parts import Parts, open_checkpoint
from serving.requests import SearchAnswer, impression
from serving.settings import EngineSettings
from trainers.policies.base import PromptContext
from trainers.settings import LearnerSettings
from trainers.state import Versions, load_state, own_weights, save_warm_start

Shop = Prepared = Any  # the fixture's class; conftest files are not importable by name


def names(answer: SearchAnswer) -> list[str]:
    return [item.item for item in answer.items]


def test_total_is_policy_plus_weighted_components_and_orders_the_page(shop: Shop, prior: PosteriorSnapshot) -> None:
    """total = logp + 0.5 * w_rel * tier + 2 * w_ctr * log(ctr); without exploration the page falls by it."""
    score = ServingScoreSettings(relevance_scale=0.5, ctr_scale=2.0)
    weights = RewardWeights(version=7, relevance=3.0, ctr=0.25)
    engine = shop.engine(1, score, exploration=0)
    for answer in engine.answer(shop.requests(6), weights, prior, 4):
        assert (answer.weights_version, answer.snapshot_version, answer.checkpoint) == (7, 4, "policy-1")
        totals = [item.scores.total for item in answer.items]
        assert totals == sorted(totals, reverse=True)
        for item in answer.items:
            s = item.scores
            assert s.total == pytest.approx(s.policy + 1.5 * s.tier + 0.5 * math.log(s.ctr))
            assert s.tier == shop.world.tiers(answer.query, [item.item])[0]
            assert item.propensity == 1.0
        assert answer.list_propensity_log == 0.0
        assert [item.position for item in answer.items] == list(range(1, 11))


def test_a_weight_change_acts_on_the_next_search(shop: Shop, prior: PosteriorSnapshot) -> None:
    """With a heavy relevance weight the best tier of the pool leads the page; with none it need not."""
    engine = shop.engine(1, exploration=0, beam=200)
    requests = shop.requests(12)
    heavy = engine.answer(requests, RewardWeights(relevance=100.0), prior)
    none = engine.answer(requests, RewardWeights(relevance=0.0), prior)

    def tiers(answers: list[SearchAnswer]) -> float:
        return float(np.mean([item.scores.tier for a in answers for item in a.items]))

    assert tiers(heavy) > tiers(none) + 0.2
    for answer in heavy:
        found = [item.scores.tier for item in answer.items]
        assert found == sorted(found, reverse=True)


def test_propensities_multiply_to_the_list_and_match_the_pool(shop: Shop, prior: PosteriorSnapshot) -> None:
    """A page of the whole pool: each propensity is a softmax of total/temperature over what stands at or below it."""
    engine = shop.engine(1, exploration=0.8, beam=20)
    rows = [n for n in range(240) if shop.world.catalogue.available_from_N[n] == 0][:12]
    only = tuple(shop.world.catalogue.items[n] for n in rows)
    request = msgspec.structs.replace(shop.requests(1)[0], items=only, k=50)
    (answer,) = engine.answer([request], RewardWeights(), prior)
    assert sorted(names(answer)) == sorted(only)
    utility = [item.scores.total / 0.8 for item in answer.items]
    support = 0
    for n, item in enumerate(answer.items):
        rest = sum(math.exp(u - utility[n]) for u in utility[n:])
        assert item.propensity == pytest.approx(1 / rest, rel=1e-9)
        support += sum(math.exp(u - utility[n]) / rest >= SUPPORT_FLOOR for u in utility[n:])
    assert impression(request, answer).support == answer.support == support > 0
    product = sum(math.log(item.propensity) for item in answer.items)
    assert answer.list_propensity_log == pytest.approx(product, rel=1e-9)


def test_two_arms_meet_the_same_noise(shop: Shop, prior: PosteriorSnapshot) -> None:
    """Two policies, one request: each page is the order of its own totals plus one and the same noise per item."""
    request = shop.requests(1)[0]
    only = tuple(shop.world.catalogue.items[:30])
    request = msgspec.structs.replace(request, items=only, k=30, ts=shop.world.end_ms)
    noise = dict(zip(only, gumbel(9, request.request_id, item_keys(only)), strict=True))
    pages = []
    for seed in (1, 2):
        (answer,) = shop.engine(seed, exploration=0.5, seed=9).answer([request], RewardWeights(), prior)
        drawn = {item.item: item.scores.total / 0.5 + noise[item.item] for item in answer.items}
        assert names(answer) == sorted(drawn, key=lambda item: -drawn[item])
        pages.append(names(answer))
    assert sorted(pages[0]) == sorted(pages[1]) == sorted(only)
    assert pages[0] != pages[1]


def test_batch_composition_changes_nothing(shop: Shop, prior: PosteriorSnapshot, weights: RewardWeights) -> None:
    """The same pages one by one, together, and beside a request whose k widens the beam: of a wide beam the best are not a narrow
    one's, so the beam is narrow enough here to lose prefixes that the wide one keeps."""
    engine = shop.engine(1, exploration=0.3, beam=6)
    requests = shop.requests(40, k=6)
    alone = [names(engine.answer([request], weights, prior)[0]) for request in requests]
    wide = msgspec.structs.replace(requests[0], request_id="wide", k=60)
    together = engine.answer([*requests, wide], weights, prior)
    assert [names(answer) for answer in together[:-1]] == alone
    assert len(together[-1].items) == 60


def test_only_items_available_at_the_requests_time(shop: Shop, prior: PosteriorSnapshot, weights: RewardWeights) -> None:
    """Early in the live part later items never appear; at its end the same search may show all 240."""
    engine = shop.engine(1, exploration=0)
    early = msgspec.structs.replace(shop.requests(1)[0], ts=shop.world.live_ms, k=240)
    late = msgspec.structs.replace(early, ts=shop.world.end_ms)
    before, after = engine.answer([early, late], weights, prior)
    known = {i for i, t in zip(shop.world.catalogue.items, shop.world.catalogue.available_from_N, strict=True) if t == 0}
    assert set(names(before)) == known
    assert set(names(after)) == set(shop.world.catalogue.items)


def test_filter_limits_what_returns_but_not_the_scores(shop: Shop, prior: PosteriorSnapshot, weights: RewardWeights) -> None:
    """All k of the filter come back, though the beam is narrower than the rest, with their unfiltered log-probabilities."""
    request = msgspec.structs.replace(shop.requests(1)[0], ts=shop.world.end_ms, k=240)
    (everything,) = shop.engine(1, exploration=0).answer([request], weights, prior)
    worst = [item.item for item in sorted(everything.items, key=lambda i: i.scores.policy)[:7]]
    narrow = shop.engine(1, exploration=0, beam=8)
    (filtered,) = narrow.answer([msgspec.structs.replace(request, items=tuple(worst), k=7)], weights, prior)
    assert sorted(names(filtered)) == sorted(worst)
    policy = {item.item: item.scores.policy for item in everything.items}
    for item in filtered.items:
        assert item.scores.policy == pytest.approx(policy[item.item], abs=1e-4)


def test_filter_that_leaves_nothing_says_why(shop: Shop, prior: PosteriorSnapshot, weights: RewardWeights) -> None:
    """Unknown items, and items of the future, in one batch with a good request that is answered all the same."""
    catalogue, request = shop.world.catalogue, shop.requests(1)[0]
    later = catalogue.items[int(np.argmax(catalogue.available_from_N))]
    batch = [
        msgspec.structs.replace(request, items=("nothing", "nobody")),
        msgspec.structs.replace(request, items=(later,), ts=shop.world.live_ms),
        request,
        msgspec.structs.replace(request, items=("nothing", catalogue.items[0]), ts=shop.world.end_ms),
        msgspec.structs.replace(request, ts=0, items=()),
    ]
    unknown, future, good, partly, _ = shop.engine(1).answer(batch, weights, prior)
    assert unknown.items == () and "none of the 2 items in the filter is in the catalogue" in unknown.reason
    assert future.items == () and "available at the request's time" in future.reason
    assert len(good.items) == 10 and good.reason == ""
    assert names(partly) == [catalogue.items[0]]
    assert partly.notes == ("1 of 2 items in the filter are not in the catalogue",)


def test_a_shop_whose_items_are_all_gone_says_so(shop: Shop, prior: PosteriorSnapshot, weights: RewardWeights) -> None:
    """An empty page with its reason, whatever is asked, and no error of the trie."""
    ts, version = shop.world.end_ms, shop.identifiers.version
    engine = shop.engine().with_items([ItemAdded(ts, item, "gone", (), version) for item in shop.world.catalogue.items])
    request = msgspec.structs.replace(shop.requests(1)[0], ts=ts)
    pinned = msgspec.structs.replace(request, filter=Filter(pin=shop.world.catalogue.items[:1]))
    for answer in engine.answer([request, pinned], weights, prior):
        assert answer.items == () and answer.reason == "no item of the catalogue is available at the request's time"


def test_a_shared_identifier_shows_each_of_its_available_items(
    shop: Shop, prior: PosteriorSnapshot, weights: RewardWeights
) -> None:
    """A new item under another's identifier comes with it once its time has come, with the same policy score."""
    catalogue, end = shop.world.catalogue, shop.world.end_ms
    sid = tuple(shop.identifiers.sids_NL[0].tolist())
    added = ItemAdded(end + 5, "twin", "twin of the first", sid, shop.identifiers.version)
    engine = shop.engine(1, exploration=0)
    more = engine.with_items([added], lambda grown: shop.truth(grown))
    request = msgspec.structs.replace(shop.requests(1)[0], items=(catalogue.items[0], "twin"), ts=end)
    assert names(more.answer([request], weights, prior)[0]) == [catalogue.items[0]]
    assert "not in the catalogue" in engine.answer([request], weights, prior)[0].notes[0]
    (both,) = more.answer([msgspec.structs.replace(request, ts=end + 5)], weights, prior)
    assert sorted(names(both)) == sorted([catalogue.items[0], "twin"])
    assert both.items[0].scores.policy == both.items[1].scores.policy
    assert {item.title for item in both.items} == {catalogue.titles[0], "twin of the first"}


def test_a_new_item_passes_filters_on_what_is_said_of_it(
    shop: Shop, prior: PosteriorSnapshot, weights: RewardWeights
) -> None:
    """By category and price, both bounds included; a later record that says another price, and of the category nothing, changes the
    price alone; an item of which nothing is said passes neither."""
    end, (free, other) = shop.world.end_ms, (tuple(sid) for sid in shop.identifiers.sids_NL[:2].tolist())
    version, engine = shop.identifiers.version, shop.engine(1, exploration=0)
    new = ItemAdded(end, "new", "a new lamp", free, version, category="aquariums", price=19.99)
    blank = ItemAdded(end, "blank", "a blank lamp", other, version)
    dearer = ItemAdded(end, "new", "a new lamp", free, version, price=30.0)

    def found(records: list[ItemAdded], asked: Filter) -> list[str]:
        request = msgspec.structs.replace(shop.requests(1)[0], items=("new", "blank"), filter=asked, ts=end)
        return names(engine.with_items(records, shop.truth).answer([request], weights, prior)[0])

    cheap, dear = Filter(min_price=19.99, max_price=19.99), Filter(min_price=30.0, max_price=30.0)
    assert found([new, blank], Filter(categories=("aquariums",))) == found([new, blank], cheap) == ["new"]
    assert found([new, blank], dear) == found([new, blank], Filter(categories=("lamps",))) == []
    assert found([new, dearer], Filter(categories=("aquariums",))) == found([new, dearer], dear) == ["new"]
    assert found([new, dearer], cheap) == []
    assert sorted(found([new, blank], Filter())) == ["blank", "new"]


def test_known_items_change_nothing_and_arrays_are_shared(shop: Shop) -> None:
    """An announced item that the catalogue already has is no new engine; another checkpoint shares shelf and trie."""
    engine = shop.engine(1)
    catalogue = shop.world.catalogue
    sid, version = tuple(shop.identifiers.sids_NL[3].tolist()), shop.identifiers.version
    known = ItemAdded(5, catalogue.items[3], catalogue.titles[3], sid, version)
    assert engine.with_items([known, ItemAdded(5, "never there", "", (), version)]) is engine
    assert engine.with_policy(shop.policy(2), "other").shelf is engine.shelf


def test_a_swap_embeds_no_query_again(
    shop: Shop, prior: PosteriorSnapshot, weights: RewardWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine knows of its queries goes on with the next checkpoint and over new items; the answers are its own."""
    texts, encode, requests = list[str](), shop.encoder.encode, shop.requests(4)
    fresh = shop.engine(2).answer(requests, weights, prior)
    monkeypatch.setattr(shop.encoder, "encode", lambda asked: texts.extend(asked) or encode(asked))
    engine = shop.engine(1)
    engine.answer(requests, weights, prior)
    assert set(texts) == {request.query for request in requests}
    texts.clear()
    swapped = engine.with_policy(shop.policy(2), "policy-2")
    answers = swapped.answer(requests, weights, prior)
    more = ItemAdded(5, "one more", "a new item", tuple(shop.identifiers.sids_NL[0].tolist()), shop.identifiers.version)
    swapped.with_items([more], shop.truth).answer(requests, weights, prior)
    assert not texts
    assert answers == fresh


def test_removed_items_leave_the_trie_and_retitled_ones_move(
    shop: Shop, prior: PosteriorSnapshot, weights: RewardWeights
) -> None:
    """A removed item is not shown, whatever is asked, until it comes back; one with another title is found under its new
    identifier and title; of several events of an item the last counts; the others stay where they are."""
    catalogue, end, version = shop.world.catalogue, shop.world.end_ms, shop.identifiers.version
    engine, sid = shop.engine(1, exploration=0), tuple(shop.identifiers.sids_NL[0].tolist())
    request = msgspec.structs.replace(shop.requests(1)[0], items=catalogue.items[:3], ts=end)
    gone = ItemAdded(end, catalogue.items[0], catalogue.titles[0], (), version, sid)
    without = engine.with_items([gone], lambda grown: shop.truth(grown))
    assert sorted(names(without.answer([request], weights, prior)[0])) == sorted(catalogue.items[1:3])
    assert without.shelf.sid_of(catalogue.items[0]) is None and without.with_items([gone]) is without
    assert not without.shelf.trie.contains([sid])[0]
    assert np.array_equal(without.shelf.trie.sids_NL[1:], engine.shelf.trie.sids_NL[1:])
    back = ItemAdded(end, catalogue.items[0], catalogue.titles[0], sid, version)
    moved = ItemAdded(end, catalogue.items[1], "now a green lamp", sid, version, tuple(shop.identifiers.sids_NL[1].tolist()))
    again = without.with_items([back, gone, moved], lambda grown: shop.truth(grown))
    (answer,) = again.answer([request], weights, prior)
    shown = {item.item: item for item in answer.items}
    assert set(shown) == set(catalogue.items[1:3])
    assert (shown[catalogue.items[1]].sid, shown[catalogue.items[1]].title) == (sid, "now a green lamp")
    both = without.with_items([gone, back], lambda grown: shop.truth(grown))
    assert sorted(names(both.answer([request], weights, prior)[0])) == sorted(catalogue.items[:3])


def test_foreign_codebooks_are_refused(shop: Shop) -> None:
    """An item, and a policy, of other identifiers are refused by name."""
    engine = shop.engine(1)
    with pytest.raises(Incompatible, match="0ther"):
        engine.with_items([ItemAdded(5, "new", "x", tuple(shop.identifiers.sids_NL[3].tolist()), "0ther")])
    foreign = shop.policy(1)
    foreign.codebook_version = "0ther"
    with pytest.raises(Incompatible, match="0ther"):
        engine.with_policy(foreign, "foreign")


def test_after_a_rebuild_old_checkpoints_are_refused_by_name(shop: Shop, prepared: Prepared) -> None:
    """Identifiers of which one differs are another version: neither server nor learner takes a checkpoint of the old ones."""
    sids_NL = shop.identifiers.sids_NL.copy()
    sids_NL[[0, 1]] = sids_NL[[1, 0]]
    rebuilt, manifest = replace(shop.identifiers, sids_NL=sids_NL), prepared.promoted[0]
    parts = replace(Parts.load(prepared.store, prepared.artefacts, RewardSettings()), identifiers=rebuilt)
    policy, _ = open_checkpoint(prepared.store, manifest.checkpoint)
    both = f"{rebuilt.version}.*{shop.identifiers.version}|{shop.identifiers.version}.*{rebuilt.version}"
    with pytest.raises(Incompatible, match=both):
        parts.engine(policy, manifest, EngineSettings(), RewardSettings())
    with pytest.raises(Incompatible, match=f"{manifest.checkpoint}.*({both})"):
        load_state(prepared.store, manifest, LearnerSettings(), Versions(manifest.relevance_version, rebuilt.version))


def test_a_checkpoint_with_a_weight_that_is_no_number_is_refused_by_name(prepared: Prepared, tmp_path: Path) -> None:
    """Whole and unaltered it may be; nothing can be searched with it."""
    manifest, store = prepared.promoted[0], Store(str(tmp_path))
    policy = own_weights(open_checkpoint(prepared.store, manifest.checkpoint).policy)
    with torch.no_grad():
        next(policy.module.parameters()).view(-1)[-1] = torch.nan
    harmed = save_warm_start(
        store, policy, 0, Versions(manifest.relevance_version, manifest.codebook_version), {}
    ).checkpoint
    with pytest.raises(Corrupt, match=f"checkpoint {harmed}.*not finite"):
        open_checkpoint(store, harmed)


def test_a_gradient_passes_through_what_a_search_has_left(shop: Shop, prior: PosteriorSnapshot) -> None:
    """A search and a learner in one process share trie and policy, whoever comes first."""
    engine = shop.engine(3)
    engine.answer(shop.requests(2), RewardWeights(), prior)
    sids_BGL = torch.from_numpy(engine.shelf.trie.sids_NL[:1].astype(np.int64))[None]
    engine.policy.logprobs(engine.prompts([PromptContext("lamp")]), sids_BGL, engine.shelf.trie).sum().backward()
    assert any(weight.grad is not None and bool(weight.grad.any()) for weight in engine.policy.module.parameters())
    engine.policy.module.zero_grad()
