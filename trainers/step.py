"""One step: prompts, rollouts of the present weights, rewards, loss, update. Deterministic given state, batch and intent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
import torch
from torch import Tensor

from reward.campaigns.relative import absorb
from reward.settings import ServingScoreSettings
from schemas.catalogue import Catalogue
from schemas.errors import NotFinite
from schemas.examples import TrainingExample
from schemas.journal import StepIntent
from schemas.posteriors import SnapshotPointer
from trainers.batches import Batch, compose, draws
from trainers.distinct import sample_distinct
from trainers.follow import Arrival
from trainers.identifiers.trie import Trie
from trainers.losses import sft_loss
from trainers.noise import Noise
from trainers.objective import group_loss
from trainers.pairs import PairSampler
from trainers.policies.base import EncoderState, Policy, PromptBatch, context_of
from trainers.policies.prompts import PromptBuilder
from trainers.rewards import ClickRates, RewardModel
from trainers.rollout import Rollouts, sample
from trainers.settings import LearnerSettings
from trainers.state import LearnerState
from trainers.targets import Targets, targets_of
from trainers.warm_start import supervised_loss

log = structlog.get_logger()


@dataclass(frozen=True)
class Tools:
    """What a step uses and never changes."""

    catalogue: Catalogue
    trie: Trie
    builder: PromptBuilder
    rewards: RewardModel
    rates: Callable[[SnapshotPointer | None], ClickRates]
    pairs: PairSampler | None  #: warm-start pairs, None where there are none to mix in
    settings: LearnerSettings
    order: ServingScoreSettings = field(
        default_factory=ServingScoreSettings
    )  #: the server's, by which the gate orders a page
    reference: Policy | None = None  #: the warm start, where the objective holds on to it


def advance(
    tools: Tools, state: LearnerState, records: Sequence[Arrival], intent: StepIntent
) -> tuple[Batch, dict[str, float]]:
    """The step that an intent and its records make, windows included; equal however often it is taken from one state.

    A step whose loss or gradient is not finite changes no weight, and says so in its metrics (`trainers.guards`).
    """
    settings = tools.settings
    random = draws(settings.seed, intent.random_counter)
    batch = compose(records, state.window, state.held_out, settings, random, intent.aside)
    metrics: dict[str, float] = {}
    try:
        metrics = take_step(tools, state, batch, intent) if batch.views else {}
    except NotFinite as error:
        log.error("step left out", step=intent.step, error=str(error))
        metrics = {"not_finite": 1.0}
    state.step = intent.step
    return batch, metrics


def take_step(tools: Tools, state: LearnerState, batch: Batch, intent: StepIntent) -> dict[str, float]:
    """Update the policy by one batch; returns the metrics of the step.

    Raises:
        NotFinite: a loss or the gradient; the weights are then as before.
    """
    started, settings = time.perf_counter(), tools.settings
    state.policy.module.eval()  # dropout off: what is sampled is what is trained
    prompts = prompts_of(tools.builder, batch.views)
    encoder = state.policy.encode(prompts)
    targets = targets_of(batch.views, tools.catalogue.row, tools.trie.sids_NL)
    ce_BL = state.policy.full_ce(encoder, targets.first_BL)
    supervised, supervised_metrics = sft_loss(ce_BL, targets.any_B, settings.loss.sft)
    metrics: dict[str, Tensor | float] = {**supervised_metrics}
    if settings.loss.learner == "sft":
        loss = supervised
    else:
        loss, values, facts = _explore(tools, state.policy, prompts, encoder, targets, batch, intent)
        metrics |= {**values, **facts}
        loss = loss + settings.loss.beta_sft * supervised
    if tools.pairs is not None and settings.warm_start_weight > 0:
        pairs = tools.pairs.batch(intent.random_counter, settings.warm_start_batch)
        if pairs:
            look_up(tools.builder, [pair.context.query for pair in pairs])
            mixed = supervised_loss(state.policy, pairs, tools.builder)
            metrics["warm_start_ce"], loss = mixed.detach(), loss + settings.warm_start_weight * mixed
    norm = _update(state, loss, settings.max_grad_norm)
    if settings.loss.learner != "sft":  # which no weight shapes
        state.absorbed = absorb(state.absorbed, intent.weights, settings.absorb_half_life)
        metrics["absorbed"] = state.absorbed[-1].share
    seconds = time.perf_counter() - started
    samples = 0 if settings.loss.learner == "sft" else settings.group * len(batch.views)
    return {
        **{name: float(value) for name, value in metrics.items()},
        "loss": float(loss.detach()),
        "gradient_norm": norm,
        "step_s": seconds,
        "prompts_per_s": len(batch.views) / seconds,
        "rollouts_per_s": samples / seconds,
    }


def prompts_of(builder: PromptBuilder, views: Sequence[TrainingExample]) -> PromptBatch:
    """The prompts of page views."""
    look_up(builder, [view.query for view in views])
    return builder.build([context_of(view) for view in views])


def look_up(builder: PromptBuilder, queries: Sequence[str]) -> None:
    """Have the builder remember each query by itself: embedded in a batch, its last digits hang on its neighbours."""
    for query in dict.fromkeys(queries):
        builder.pieces([query])


def _explore(
    tools: Tools, policy: Policy, prompts: PromptBatch, encoder: EncoderState, targets: Targets, batch: Batch,
    intent: StepIntent,
) -> tuple[Tensor, dict[str, Tensor], dict[str, float]]:  # fmt: skip
    """Sample groups from the present policy, reward them, and form the group loss."""
    settings = tools.settings
    noise = Noise(settings.seed, intent.random_counter, range(len(batch.views)))
    draw = sample_distinct if settings.sampling == "without_replacement" else sample
    rollouts = draw(policy, encoder, tools.trie, settings.group, settings.temperature, noise)
    rewards = tools.rewards.score(batch.views, rollouts.leaf_BG.numpy(), intent.weights, tools.rates(intent.snapshot))
    logp_BGL = policy.logprobs(encoder, rollouts.sids_BGL, tools.trie, settings.temperature)
    reference_BG = _reference(tools, prompts, rollouts.sids_BGL)
    reward_BG = torch.from_numpy(rewards.reward_BG)
    loss, values = group_loss(
        logp_BGL, rollouts.sids_BGL, reward_BG, targets, settings.loss, reference_BG, rollouts.weight_BG
    )
    facts = {**rewards.metrics(), **_health(rollouts, logp_BGL.detach())}
    if reference_BG is not None:
        facts["kl_warm_start"] = float((logp_BGL.detach().sum(dim=-1) - reference_BG).mean())
    return loss, values, facts


@torch.no_grad()
def _reference(tools: Tools, prompts: PromptBatch, sids_BGL: Tensor) -> Tensor | None:
    """Log-probability [B, G] of the rollouts under the warm start, where the objective needs it."""
    if tools.reference is None or not tools.settings.loss.needs_reference:
        return None
    encoder = tools.reference.encode(prompts)
    return tools.reference.logprobs(encoder, sids_BGL, tools.trie, tools.settings.temperature).sum(dim=-1)


def _health(rollouts: Rollouts, logp_BGL: Tensor) -> dict[str, float]:
    """How varied the rollouts are, and how far the sampled log-probabilities are from the recomputed ones."""
    entropy_BGL, weight_BG = rollouts.entropy_BGL, rollouts.weight_BG
    entropy_BL = entropy_BGL.mean(dim=1) if weight_BG is None else (weight_BG[..., None] * entropy_BGL).sum(dim=1)
    return {
        **{f"entropy.{level + 1}": float(value) for level, value in enumerate(entropy_BL.mean(dim=0))},
        "unique_sids": float(rollouts.distinct().double().mean()),
        "logp_gap": float((rollouts.logp_BGL - logp_BGL).abs().max()),
    }


def _update(state: LearnerState, loss: Tensor, max_norm: float) -> float:
    """Backward, bound the gradient's norm, step. Returns the norm before it was bounded."""
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(state.policy.module.parameters(), max_norm)
    if not torch.isfinite(norm):
        raise NotFinite(f"the gradient's norm is {norm.item()}", "lower the learning rate, or resume from a checkpoint")
    state.optimiser.step()
    return float(norm)
