"""Supervised pairs and the warm start: what is learned from, and that it is learned."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from schemas.catalogue import Catalogue
from schemas.errors import InvalidValue, LearningError
from schemas.events import Click, Impression, Order, ShownItem
from tests.trainers import policy_toys as toys
from trainers.beam import beam_search
from trainers.identifiers.trie import Trie
from trainers.lessons import lesson
from trainers.pairs import Pair, PairSampler, click_pairs, judgment_pairs, title_pairs
from trainers.policies.bart import BartPolicy
from trainers.policies.base import PromptContext
from trainers.policies.settings import WarmStartSettings
from trainers.warm_start import WarmStartProgress, rate_factor, warm_start

torch.set_num_threads(1)

#: Twelve things, each with an identifier of its own that follows from its words.
SHOP = {
    f"{colour} {thing}": (c, t, (c + t) % 3, c % 2, t % 2)
    for (c, colour), (t, thing) in itertools.product(enumerate(toys.COLOURS), enumerate(toys.THINGS))
}
PAIRS = [Pair(PromptContext(query), sid) for query, sid in SHOP.items()]


def trained(steps: int, seed: int = 0, **settings: float) -> tuple[BartPolicy, list[WarmStartProgress]]:
    policy = toys.toy_policy(seed=1, init_std=0.02, dropout=0.1)
    heard: list[WarmStartProgress] = []
    options = WarmStartSettings(
        **{"seconds": 0, "steps": steps, "batch": 12, "learning_rate": 5e-3, "report_every": 10} | settings
    )
    report = warm_start(
        policy, PairSampler({"clicks": PAIRS}, {"clicks": 1}, 0), toys.toy_builder(policy), options, seed, heard.append
    )
    assert report.history == tuple(heard)
    assert not policy.training
    return policy, heard


def hit_rate(policy: BartPolicy) -> float:
    """Share of queries whose own identifier is the first of the beam."""
    trie = Trie.build(np.array(list(SHOP.values())), toys.SIZES)
    beams = beam_search(policy, toys.toy_builder(policy).build([pair.context for pair in PAIRS]), trie, 12)
    return float(np.mean([tuple(sid[0]) == pair.sid for sid, pair in zip(beams.sids_BWL.tolist(), PAIRS, strict=True)]))


def test_it_learns_the_shop() -> None:
    """Before: one of twelve by chance and log(V) nats a code. After: nearly all, and a loss near nothing."""
    before = hit_rate(toys.toy_policy(seed=1, init_std=0.02))
    policy, history = trained(300)
    assert before <= 0.35
    assert hit_rate(policy) >= 0.9
    assert history[0].loss > 2.0
    assert history[-1].loss < 0.3
    assert [h.step for h in history] == list(range(10, 301, 10))
    assert history[-1].share == 1.0


def test_the_same_seed_gives_the_same_weights_bit_by_bit() -> None:
    """Dropout included; the caller's random state is left alone, and another seed drops other activations."""
    before = torch.random.get_rng_state()
    one, two, other = (trained(6, seed)[0].state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_gradient_that_is_not_finite_ends_it_before_the_weights_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of the last update is finite, one number of its gradient is not."""
    policy, steps = toys.toy_policy(seed=1), itertools.count(1)

    def broken(policy: BartPolicy, *given: Any) -> float:
        ce = lesson(policy, *given)
        if next(steps) == 3:
            policy.embeddings().grad[0, 0] = float("nan")  # type: ignore[index]
        return ce

    monkeypatch.setattr("trainers.warm_start.lesson", broken)
    options = WarmStartSettings(seconds=0, steps=3, batch=4)
    with pytest.raises(LearningError, match="norm of the gradient nan at step 2"):
        warm_start(policy, PairSampler({"clicks": PAIRS}, {"clicks": 1}, 0), toys.toy_builder(policy), options, 0)
    assert all(bool(value.isfinite().all()) for value in policy.state_dict().values())


@pytest.mark.parametrize("field", ["distillation", "told"])
def test_a_teacher_without_keywords_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="need keywords"):
        trained(1, **{field: 1.0})


def test_a_time_budget_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves by 1/8 s a look, and one look a step: half a second is four steps."""
    looks = itertools.count()
    monkeypatch.setattr("trainers.warm_start.time", SimpleNamespace(monotonic=lambda: next(looks) / 8))
    _, history = trained(0, seconds=0.5)
    assert (history[-1].step, history[-1].share) == (4, 1.0)


def test_the_rate_rises_to_its_peak_and_falls_to_a_twentieth() -> None:
    assert rate_factor(0.0, 0.1) == pytest.approx(0.1)
    assert rate_factor(0.1, 0.1) == 1.0
    assert rate_factor(1.0, 0.1) == pytest.approx(0.05)
    assert rate_factor(0.0, 0.0) == 1.0


def page(request: str, user: str, items: tuple[str, ...], ts: int) -> Impression:
    shown = tuple(ShownItem(item, n + 1) for n, item in enumerate(items))
    return Impression(ts, request, user, f"query of {request}", shown, recent_queries=("old",), recent_items=("x",))


def test_click_pairs_have_the_context_of_their_page() -> None:
    sids = {"x": (0, 0, 0, 0, 0), "y": (1, 1, 1, 1, 1)}
    events = [
        page("r1", "u", ("x", "y"), 1),
        page("r2", "u", ("x",), 2),
        Click(3, "u", "y", "r1"),
        Click(4, "u", "y", "r1"),  # the same item of the same page: counted once
        Click(5, "u", "x"),  # without a request: the user's latest page that shows it, r2
        Click(6, "u", "y"),  # r2 does not show y: r1, which has it already
        Click(7, "v", "x"),  # another user never saw it
        Click(8, "u", "x", "r9"),  # an unknown page
        Order(9, "u", "x", "o1"),
    ]
    pairs = click_pairs(events, sids.get)
    assert [(pair.context.query, pair.sid) for pair in pairs] == [("query of r1", sids["y"]), ("query of r2", sids["x"])]
    assert pairs[0].context == PromptContext("query of r1", ("old",), ("x",), (), 1)
    assert click_pairs(events, {"x": (0, 0, 0, 0, 0)}.get) == pairs[1:]


def test_title_and_judgment_pairs_leave_out_what_is_unknown_late_or_poor() -> None:
    from reward.judgments import Judgment

    empty: tuple[dict[str, str], ...] = ({}, {}, {})
    catalogue = Catalogue(
        ("x", "y", "z"), ("X!", "Y!", "Z!"), ("", "", ""), ("", "", ""), np.ones(3, np.float32), np.array([0, 50, 0]), empty
    )
    sids = {"x": (0, 0, 0, 0, 0), "y": (1, 1, 1, 1, 1)}
    assert [p.context.query for p in title_pairs(catalogue, sids.get)] == ["X!", "Y!"]
    assert [p.context.query for p in title_pairs(catalogue, sids.get, until_ms=49)] == ["X!"]
    judged = [Judgment("q", "x", 1), Judgment("q", "y", 2), Judgment("q", "z", 3)]
    assert judgment_pairs(judged, sids.get) == [Pair(PromptContext("q"), sids["y"])]


def test_batches_follow_their_counter_and_the_shares() -> None:
    """The counter alone decides a batch, in any order of asking; 3:1 shares give 3:1 pairs within 5 standard errors."""
    sources = {"clicks": PAIRS[:6], "titles": PAIRS[6:], "judged": []}
    sampler = PairSampler(sources, {"clicks": 3, "titles": 1, "judged": 5}, seed=2)
    again = PairSampler(sources, {"clicks": 3, "titles": 1, "judged": 5}, seed=2)
    late, early = sampler.batch(9, 40), sampler.batch(4, 40)
    assert (again.batch(4, 40), again.batch(9, 40)) == (early, late)
    assert late != early
    clicks = sum(pair in PAIRS[:6] for n in range(50) for pair in sampler.batch(n, 40))
    assert abs(clicks / 2_000 - 0.75) < 5 * (0.75 * 0.25 / 2_000) ** 0.5


def test_a_sampler_without_pairs_or_with_wrong_shares_is_refused() -> None:
    with pytest.raises(InvalidValue, match="supervised pairs"):
        PairSampler({"clicks": []}, {"clicks": 1}, 0)
    with pytest.raises(InvalidValue, match="titles"):
        PairSampler({"titles": PAIRS}, {"clicks": 1}, 0)
    with pytest.raises(InvalidValue, match="at least 0"):
        PairSampler({"clicks": PAIRS}, {"clicks": -1}, 0)
