"""New, moved and removed items: what a step rolls out, rewards, writes into prompts and mixes in, over any run of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import ItemAdded
from schemas.weights import RewardWeights
from tests.trainers import policy_toys
from tests.trainers.learner_toys import ITEMS, PRIOR, RuleTiers, catalogue, tools, trie, view
from trainers.batches import is_held_out
from trainers.follow import Feed
from trainers.identifiers.assortment import Assortment
from trainers.noise import Noise
from trainers.optimiser import Optimiser
from trainers.pairs import Pair, PairSampler
from trainers.policies.base import Policy, PromptContext
from trainers.rollout import sample
from trainers.settings import LearnerSettings
from trainers.state import LearnerState
from trainers.stock import Stock, stocked, take_on
from trainers.targets import targets_of
from trainers.tools import Tools
from trainers.window import Window

torch.set_num_threads(1)
SIDS = [tuple(row) for row in trie().sids_NL.tolist()]
NAMES = [*(f"i{n}" for n in range(4)), "x", "y", "z"]
FREE = sorted(set(np.ndindex(*policy_toys.SIZES)) - set(SIDS))[:3]


def record(item: str, sid: Sequence[int], ts: int = 5, title: str = "") -> ItemAdded:
    return ItemAdded(ts, item, title or f"title of {item}", tuple(sid), "cb1")


RECORDS = st.lists(
    st.builds(
        record,
        st.sampled_from(NAMES),
        st.sampled_from([(), (), *SIDS[:5], *FREE]),
        st.integers(1, 9),
        st.sampled_from(["a", "b"]),
    ),
    max_size=12,
)


def shop() -> Assortment:
    return Assortment(catalogue(), trie())


def read_slowly(records: Sequence[ItemAdded]) -> dict[str, tuple[tuple[int, ...], str, int]]:
    """Item -> (identifier or none, title, available from), by the sentences of the documentation, one record at a time."""
    first = catalogue()
    known = {item: (SIDS[n], first.titles[n], 0) for n, item in enumerate(first.items)}
    for one in records:
        if one.item in known:
            _, title, since = known[one.item]
            known[one.item] = (one.sid, one.title if one.sid else title, since)
        elif one.sid:
            known[one.item] = (one.sid, one.title, one.ts)
    return known


def as_read(shown: Assortment) -> dict[str, tuple[tuple[int, ...], str, int]]:
    sids = [tuple(shown.sid_of(item) or ()) for item in shown.catalogue.items]
    columns = sids, shown.catalogue.titles, shown.catalogue.available_from_N.tolist()
    return dict(zip(shown.catalogue.items, zip(*columns, strict=True), strict=True))


@given(records=RECORDS, cut=st.integers(0, 12))
def test_records_in_one_go_and_in_two_come_to_the_same_items_in_the_same_rows(records: list[ItemAdded], cut: int) -> None:
    """And to what the documentation says of each item; rows keep their numbers, new ones come behind."""
    at_once, in_two = shop().after(records), shop().after(records[:cut]).after(records[cut:])
    assert as_read(at_once) == as_read(in_two) == read_slowly(records)
    assert at_once.catalogue.items == in_two.catalogue.items and at_once.catalogue.items[:ITEMS] == catalogue().items
    present = {sid for sid, _, _ in read_slowly(records).values() if sid}
    every = np.array(list(np.ndindex(*policy_toys.SIZES)))
    assert {tuple(sid) for sid in every[at_once.trie.contains(every)].tolist()} == present
    assert (shop().after(records[:0]).catalogue.items, len(at_once.trie)) == (catalogue().items, len(at_once.catalogue))


@given(records=RECORDS)
def test_moves_name_the_identifiers_that_nobody_has_any_more(records: list[ItemAdded]) -> None:
    """Every identifier of the first items that all of its items gave up, with where the first of them is now."""
    before, after = shop(), shop().after(records)
    now = read_slowly(records)
    wanted = {}
    for sid in SIDS:
        owners = [f"i{n}" for n, other in enumerate(SIDS) if other == sid]
        if all(now[item][0] != sid for item in owners):
            wanted[sid] = now[owners[0]][0] or None
    assert after.moves(before) == wanted


@pytest.fixture(scope="module")
def changed() -> tuple[Tools, Tools]:
    """(before, after): i0 is gone, i1 has moved, x is new, available from 1,500 on."""
    policy = policy_toys.toy_policy()
    first = tools(policy, LearnerSettings(group=8))
    return first, stocked(first, [record("i0", ()), record("i1", FREE[0], title="another"), record("x", FREE[1], 1_500)])


def test_rollouts_follow_what_is_there(changed: tuple[Tools, Tools]) -> None:
    """A new item's identifier is drawn, a removed one's and a moved one's old one never; before it was the other way round."""
    policy, seen = policy_toys.toy_policy(), []
    for made in changed:
        prompts = policy.encode(policy_toys.toy_prompts(policy))
        drawn = sample(policy, prompts, made.trie, 2_000, 4.0, Noise(1, 0, range(len(prompts))))
        seen.append({tuple(sid) for sid in drawn.sids_BGL.reshape(-1, 5).tolist()})
    before, after = seen
    assert {SIDS[0], SIDS[1]} <= before and not {FREE[0], FREE[1]} & before
    assert {FREE[0], FREE[1]} <= after and not {SIDS[0], SIDS[1]} & after


def test_a_new_item_is_worth_something_from_its_time_on(changed: tuple[Tools, Tools]) -> None:
    """Row 24 with the tier that the rule gives it; before its time its identifier has no item in the shop."""
    after = changed[1]
    leaf = int(after.trie.path([FREE[1]])[0, -1])
    late, early = view(600), view(400)  # shown at 1,600 and 1,400
    scored = after.rewards.score([late, early], [[leaf], [leaf]], RewardWeights(), PRIOR)
    assert scored.row_BG.tolist() == [[ITEMS], [-1]]
    assert scored.tier_BG[0, 0] == RuleTiers().tiers(late.query, np.array([ITEMS]))[0][0]


def test_prompts_name_items_by_their_present_identifiers_and_keep_what_is_known_of_queries(
    changed: tuple[Tools, Tools],
) -> None:
    first, after = changed
    context = PromptContext("red lamp", (), ("i1", "i0", "x"))
    first.builder.build([context])
    asked = first.builder.encoder.texts  # type: ignore[attr-defined]
    tokens = after.builder.build([context]).tokens_BS[0].tolist()
    assert after.builder.encoder.texts == asked  # type: ignore[attr-defined]
    wanted = [*after.builder.tokenizer.sid(FREE[0]), *after.builder.tokenizer.sid(FREE[1])]
    assert tokens[-1 - len(wanted) : -1] == wanted


def test_warm_start_pairs_go_where_their_items_went() -> None:
    """The draws stay; a moved item's lead to its new identifier, a removed one's are left out."""
    pairs = [Pair(PromptContext(f"q{n}"), SIDS[n]) for n in range(6)]
    plain = PairSampler({"titles": pairs}, {"titles": 1.0}, 3)
    moved = plain.over({SIDS[0]: None, SIDS[1]: FREE[0]})
    for counter in range(5):
        drawn, now = plain.batch(counter, 8), moved.batch(counter, 8)
        assert [pair.context.query for pair in now] == [p.context.query for p in drawn if p.context.query != "q0"]
        assert all(
            pair.sid == (FREE[0] if pair.context.query == "q1" else SIDS[int(pair.context.query[1:])]) for pair in now
        )


def test_a_removed_item_is_no_target() -> None:
    """A click on an item that is gone since teaches nothing, rather than an identifier that is none."""
    clicked = view(3, clicked=[1, 2])
    gone, kept = clicked.items[0].item, clicked.items[1].item
    after = shop().after([record(gone, ())])
    targets = targets_of([clicked], after.catalogue.row, after.trie.sids_NL)
    assert targets.sids_BTL.tolist() == [[list(SIDS[int(kept[1:])])]] and targets.has_BT.tolist() == [[True]]


def test_nothing_new_is_the_same_tools() -> None:
    policy = policy_toys.toy_policy()
    first = tools(policy, LearnerSettings(group=8))
    assert stocked(first, []) is first
    assert stocked(first, [record("i3", SIDS[3], title="title 3"), record("never", ())]) is first


def test_other_settings_reach_state_and_tools_and_the_present_ones_open_nothing() -> None:
    """Windows of 9 views are cut to 4, the rate is another, tools are opened once; a window that was cut stays so when the settings
    come back."""
    first, other = (
        LearnerSettings(threads=1, window_size=size, held_out_size=size, learning_rate=rate)
        for size, rate in ((9, 1e-3), (4, 2e-3))
    )
    policy, opened = policy_toys.toy_policy(), list[LearnerSettings]()
    state = LearnerState(policy, Optimiser(policy.module, first), Window(9), Window(9))
    for n in range(1_000):  # the last nine of each kind stay
        window = state.held_out if is_held_out(f"r{n}", first.held_out_share) else state.window
        window.insert(view(n))

    def opening(mine: Policy, settings: LearnerSettings) -> Tools:
        assert mine is policy
        opened.append(settings)
        return tools(mine, settings)

    stock = Stock(tools(policy, first), cast(Feed, None))  # offset 0 asks no feed
    for wanted, views, rate, times in ((first, 9, 1e-3, 0), (other, 4, 2e-3, 1), (other, 4, 2e-3, 1), (first, 4, 1e-3, 2)):
        take_on(wanted, state, stock, opening)
        assert stock.settings == stock.at(0).settings == wanted and len(opened) == times
        assert (len(state.window), len(state.held_out)) == (views, views)
        assert {group["lr"] for group in state.optimiser._adamw.param_groups} == {rate}
