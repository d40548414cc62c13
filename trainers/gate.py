"""The gate: is a candidate at least as good as what is served, on the newest views that neither was trained on?

Both retrieve by beam search and order what they found as the server does, by the policy's log-probability plus what is
wished today on the components, less what each has taken up of it: what is compared is what people would be shown. A list
is worth the mean composite reward of its first k, with the view's own clicks and orders; views are compared in pairs, with
an interval clustered by query.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward.campaigns.relative import Relative
from reward.composite import serving_score
from reward.settings import ServingScoreSettings
from reward.text import normalise
from schemas.checkpoints import Absorbed
from schemas.examples import TrainingExample
from schemas.journal import GateDecision
from schemas.posteriors import SnapshotPointer
from schemas.weights import RewardWeights
from trainers.beam import beam_search
from trainers.evaluation import paired_bootstrap
from trainers.identifiers.trie import Trie
from trainers.passes import prompts_of
from trainers.policies.base import Policy
from trainers.policies.prompts import PromptBuilder
from trainers.rewards import ClickRates, RewardModel, asked_of
from trainers.settings import GateSettings
from trainers.tools import Tools


class Contender(NamedTuple):
    """What may be served. ``absorbed``: what the policy was trained with."""

    name: str
    policy: Policy
    absorbed: Sequence[Absorbed]


def compare(
    candidate: Contender, served: Contender, views: Sequence[TrainingExample], tools: Tools, weights: RewardWeights,
    snapshot: SnapshotPointer | None, settings: GateSettings, seed: int,
) -> GateDecision:  # fmt: skip
    """Both retrieve and order for the same views, judged by the same weights and snapshot."""
    rates = tools.rates(snapshot)
    candidate_n, served_n = (
        list_rewards(
            one.policy, views, tools.trie, tools.builder, tools.rewards, weights, rates, settings, tools.order, one.absorbed
        )
        for one in (candidate, served)
    )
    return decide((candidate.name, served.name), candidate_n, served_n, views, settings, seed)


def list_rewards(
    policy: Policy, views: Sequence[TrainingExample], trie: Trie, builder: PromptBuilder, rewards: RewardModel,
    weights: RewardWeights, rates: ClickRates, settings: GateSettings, order: ServingScoreSettings,
    absorbed: Sequence[Absorbed] = (),
) -> NDArray[np.float64]:  # fmt: skip
    """Mean composite reward of the first ``k`` identifiers of the page that the policy would give, per view [n].

    ``order``: the server's; ``absorbed``: what this policy was trained with. A view for which fewer than k identifiers are
    available is averaged over those; none at all counts 0.
    """
    values, lean = np.zeros(len(views)), Relative(weights, absorbed, rewards.facts)
    policy.module.eval()
    for start in range(0, len(views), settings.batch):
        part = views[start : start + settings.batch]
        allowed = [rewards.available(view) for view in part]
        masks = [trie.node_mask(mask_N) for mask_N in allowed]
        beams = beam_search(policy, prompts_of(builder, part), trie, max(settings.beam, settings.k), masks)
        scored = rewards.score(part, beams.leaf_BW.numpy(), weights, rates, allowed)
        shown_BW = beams.valid_BW.numpy() & (scored.row_BG >= 0)
        score_BW = np.zeros(shown_BW.shape)
        for b, view in enumerate(part):
            wished, excess = lean.of(asked_of(view), scored.row_BG[b], view.ts)  # row -1, not shown, may have any weights
            logp_W = beams.score_BW[b].numpy()
            score_BW[b] = serving_score(logp_W, scored.tier_BG[b], scored.ctr_BG[b], wished, order, excess)
        place_BK = np.argsort(-np.where(shown_BW, score_BW, -np.inf), axis=1, kind="stable")[:, : settings.k]
        reward_BK = np.take_along_axis(scored.reward_BG, place_BK, axis=1)
        shown_BK = np.take_along_axis(shown_BW, place_BK, axis=1)
        values[start : start + len(part)] = (reward_BK * shown_BK).sum(axis=1) / np.maximum(shown_BK.sum(axis=1), 1)
    return values


def decide(
    names: tuple[str, str], candidate_n: NDArray[np.float64], served_n: NDArray[np.float64],
    views: Sequence[TrainingExample], settings: GateSettings, seed: int,
) -> GateDecision:  # fmt: skip
    """Promote if and only if the interval's low end is at least -margin * |mean of the served one|.

    Args:
        names: ids of (candidate, served).
        candidate_n, served_n: mean reward per view, the same views.
    """
    blank = GateDecision(
        checkpoint=names[0], against=names[1], promoted=False, metric=f"reward@{settings.k}", diff=0.0, low=0.0, high=0.0,
        n=len(views), reason="", created_ms=int(time.time() * 1000),
    )  # fmt: skip
    queries = [normalise(view.query) for view in views]
    if reason := lacking(len(views), len(set(queries)), settings.min_views):
        return msgspec.structs.replace(blank, reason=reason)
    interval = paired_bootstrap(candidate_n, served_n, queries, settings.repeats, seed)
    bound = -settings.margin * abs(float(served_n.mean()))
    reason = f"low end {interval.low:+.4f} of {interval.diff:+.4f} against a bound of {bound:+.4f}"
    return msgspec.structs.replace(
        blank, promoted=interval.low >= bound, diff=interval.diff, low=interval.low, high=interval.high, reason=reason
    )


def lacking(views: int, queries: int, min_views: int) -> str:
    """What there is too little of for a comparison, and what helps, for people to read; empty: nothing.

    An interval that is clustered by query takes two of them.
    """
    if views < min_views:
        return (
            f"too few page views kept out of training to compare on: {views} of the {min_views} that it takes; more searches bring "
            "more, or lower trainers.gate.min_views"
        )
    if queries < 2:
        return (
            f"too few different queries to compare on: the {views} page views kept out of training are all of one query, and it takes "
            "2; searches for something else help"
        )
    return ""
