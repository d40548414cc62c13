"""One step: prompts, rollouts of the present weights, rewards, loss, update. Deterministic given state, batch and intent.

The gradient is made share by share, as many as the step's intent says, and added up in their order. Ranks take a share each; a
process that is alone, or one of another number of ranks, takes them one after the other and gets the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import structlog
import torch
from torch import Tensor

from reward.campaigns.relative import absorb
from schemas.errors import NotFinite
from schemas.journal import StepIntent
from trainers.batches import Batch, compose, draws
from trainers.follow import Arrival
from trainers.pairs import Pair
from trainers.passes import Groups, Share, Work, loss_of, together
from trainers.ranks import ALONE, Ranks, flat_of, parts_of
from trainers.state import LearnerState
from trainers.targets import targets_of
from trainers.tools import Tools

log = structlog.get_logger()


def advance(
    tools: Tools, state: LearnerState, records: Sequence[Arrival], intent: StepIntent, ranks: Ranks = ALONE,
    left_out: bool = False,
) -> tuple[Batch, dict[str, float]]:  # fmt: skip
    """The step that an intent and its records make, windows included; equal however often it is taken from one state, and on
    every rank.

    A step whose loss or gradient is not finite changes no weight, and says so in its metrics (`trainers.guards`). So does one that an
    operator has ``left_out``.
    """
    settings = tools.settings
    random = draws(settings.seed, intent.random_counter)
    batch = compose(records, state.window, state.held_out, settings, random, intent.aside)
    metrics: dict[str, float] = {}
    try:
        if left_out:
            metrics = {"left_out": 1.0}
        elif batch.views:
            metrics = take_step(tools, state, batch, intent, ranks)
    except NotFinite as error:
        log.error("step left out", step=intent.step, error=str(error))
        metrics = {"not_finite": 1.0}
    state.step, state.idle = intent.step, 0 if batch.fresh else state.idle + 1
    return batch, metrics


def take_step(tools: Tools, state: LearnerState, batch: Batch, intent: StepIntent, ranks: Ranks = ALONE) -> dict[str, float]:
    """Update the policy by one batch; returns the metrics of the step.

    Raises:
        NotFinite: a loss or the gradient; the weights are then as before.
    """
    started, settings = time.perf_counter(), tools.settings
    state.policy.module.eval()  # dropout off: what is sampled is what is trained
    pairs: list[Pair] = []
    if tools.pairs is not None and settings.warm_start_weight > 0:
        pairs = tools.pairs.batch(intent.random_counter, settings.warm_start_batch)
    targets = targets_of(batch.views, tools.catalogue.row, tools.trie.sids_NL)
    work = Work(tools, state.policy, batch.views, targets, pairs, intent)
    shares = _gradient(work, ranks)
    metrics = _measured(work, shares)
    metrics["gradient_norm"] = state.optimiser.update(settings.max_grad_norm)
    if settings.loss.learner != "sft":  # which no weight shapes
        state.absorbed = absorb(state.absorbed, intent.weights, settings.absorb_half_life)
        metrics["absorbed"] = state.absorbed[-1].share
    seconds = time.perf_counter() - started
    samples = 0 if settings.loss.learner == "sft" else settings.group * len(batch.views)
    prompts = sum(int(seen.tokens_B.sum()) for share in shares for _, seen in share.prompts)
    return {
        **metrics,
        "step_s": seconds,
        "prompts_per_s": len(batch.views) / seconds,
        "rollouts_per_s": samples / seconds,
        "tokens_per_s": (prompts + samples * tools.trie.levels) / seconds,  # read and written, without warm-start pairs
    }


class _Outcome(NamedTuple):
    """What a rank tells the others of its share."""

    share: Share | None  #: None: something in it was not finite
    error: tuple[str, str]  #: what, and the remedy
    touched: tuple[bool, ...]  #: which parameters have a gradient


def _gradient(work: Work, ranks: Ranks) -> list[Share]:
    """Leave the gradient of the whole step with the weights; what every share saw.

    Raises:
        NotFinite: a share's loss, on every rank.
    """
    count = work.intent.ranks
    parameters = list(work.policy.module.parameters())
    if ranks.size == count:
        outcome = _taken(work, ranks.rank, parameters)
        outcomes = ranks.exchange(outcome)
        _check(outcomes)
        if count > 1:
            for part in parts_of(parameters):
                _spread(ranks.sum(flat_of(parameters[part])), _touched(outcomes)[part], parameters[part])
    else:
        outcomes, total = [], None
        for share in range(count):
            outcomes.append(_taken(work, share, parameters))
            _check(outcomes)
            flat = flat_of(parameters)
            total = flat if total is None else total.add_(flat)
        assert total is not None
        _spread(total, _touched(outcomes), parameters)
    return [outcome.share for outcome in outcomes if outcome.share is not None]


def _taken(work: Work, share: int, parameters: Sequence[torch.nn.Parameter]) -> _Outcome:
    for parameter in parameters:
        parameter.grad = None
    try:
        seen = work.learn(share, work.intent.ranks)
    except NotFinite as error:
        return _Outcome(None, (error.what, error.remedy), ())
    return _Outcome(seen, ("", ""), tuple(p.grad is not None for p in parameters))


def _check(outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        if outcome.share is None:
            raise NotFinite(*outcome.error)


def _touched(outcomes: Sequence[_Outcome]) -> list[bool]:
    """Which parameters have a gradient from any share."""
    return [any(one) for one in zip(*(outcome.touched for outcome in outcomes), strict=True)]


def _spread(flat: Tensor, touched: Sequence[bool], parameters: Sequence[torch.nn.Parameter]) -> None:
    """Hand each parameter its part; one that no share touched has no gradient, as in a step of one share."""
    parts = torch.split(flat, [p.numel() for p in parameters])
    for parameter, part, has in zip(parameters, parts, touched, strict=True):
        parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape)) if has else None


def _measured(work: Work, shares: Sequence[Share]) -> dict[str, float]:
    """The metrics of the whole step, whoever took its parts."""
    settings = work.tools.settings
    seen = together([part for share in shares for part in share.prompts])
    loss, values = loss_of(seen, work.targets, settings.loss)
    metrics: dict[str, Tensor | float] = {**values}
    if seen.groups is not None:
        metrics |= {**seen.groups.rewards.metrics(), **_health(seen.groups)}
    if work.pairs:
        metrics["warm_start_ce"] = mixed = together([part for share in shares for part in share.pairs]).mean()
        loss = loss + settings.warm_start_weight * mixed
    return {**{name: float(value) for name, value in metrics.items()}, "loss": float(loss)}


def _health(groups: Groups) -> dict[str, float]:
    """How varied the rollouts are, and how far the sampled log-probabilities are from the recomputed ones."""
    entropy_BGL, weight_BG = groups.rollouts.entropy_BGL, groups.rollouts.weight_BG
    entropy_BL = entropy_BGL.mean(dim=1) if weight_BG is None else (weight_BG[..., None] * entropy_BGL).sum(dim=1)
    found = {
        **{f"entropy.{level + 1}": float(value) for level, value in enumerate(entropy_BL.mean(dim=0))},
        "unique_sids": float(groups.rollouts.distinct().double().mean()),
        "logp_gap": float((groups.rollouts.logp_BGL - groups.logp_BGL).abs().max()),
    }
    if groups.reference_BG is not None:
        gap_BG = groups.logp_BGL.sum(dim=-1) - groups.reference_BG
        gap_B = gap_BG.mean(dim=1) if weight_BG is None else (weight_BG * gap_BG).sum(dim=1)
        found["kl_warm_start"] = float(gap_B.mean())
    return found
