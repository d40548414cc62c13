"""The learner's objective: which loss, on which advantages, for a batch of groups. Tensors in, (loss, metrics) out."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.credit import (
    WEIGHTS_L,
    item_advantages,
    marginal_rewards,
    position_advantages,
    prefix_gates,
    prefix_rewards,
    token_matches,
)
from trainers.losses import Metrics, dpo_loss, grpo_loss, tpma_loss
from trainers.settings import LossSettings
from trainers.targets import Targets


def group_loss(
    logp_BGL: Tensor, sids_BGL: Tensor, reward_BG: Tensor, targets: Targets, settings: LossSettings,
    reference_BG: Tensor | None = None, weight_BG: Tensor | None = None,
) -> tuple[Tensor, Metrics]:  # fmt: skip
    """TPMA-GRPO (Eq. 19), GRPO (Eq. 12) or list-wise DPO (V1 Eq. 11) on a batch of groups, without the SFT term.

    The first two see `soft_rewards`; DPO the rewards themselves, as its reference already holds it back.

    ``reference_BG``: the rollouts' log-probability under the warm start; needed where ``settings.needs_reference``.
    ``weight_BG``: `trainers.rollout.Rollouts.weight_BG`; every mean and deviation over a group is by it. DPO has none: it
    compares each rollout with the best one.

    Rewards are float64, because a CTR near 0.02 beside a click of 3 would lose digits; advantages take logp's dtype.

    Raises:
        LearningError: a group of one, or a loss that is not finite.
        ValueError: ``settings.learner`` is ``sft``, which has no groups.
    """
    match_BGTL = token_matches(sids_BGL, targets.sids_BTL, targets.has_BT)
    hit_B = match_BGTL.all(dim=-1).any(dim=-1).any(dim=-1)
    share = {"target_in_group": hit_B.sum() / targets.any_B.sum()} if targets.any_B.any() else {}
    if settings.learner == "dpo":
        if reference_BG is None:
            raise ValueError("dpo needs the log-probabilities of the warm start")
        loss, metrics = dpo_loss(logp_BGL.sum(dim=-1), reference_BG, reward_BG, settings.dpo_beta)
        return loss, metrics | share
    soft_BG = soft_rewards(reward_BG, logp_BGL.detach().sum(dim=-1), reference_BG, settings)
    item_BG = item_advantages(soft_BG, settings.delta, weight_BG).to(logp_BGL.dtype)
    if settings.learner == "grpo":
        loss, metrics = grpo_loss(logp_BGL, item_BG, clip=settings.clip, weight_BG=weight_BG)
        return loss, metrics | share
    if settings.learner != "tpma":
        raise ValueError(f"learner {settings.learner!r} has no groups")
    loss, metrics = _tpma(logp_BGL, match_BGTL, item_BG, settings, weight_BG)
    return loss, metrics | share


def _tpma(
    logp_BGL: Tensor, match_BGTL: Tensor, item_BG: Tensor, settings: LossSettings, weight_BG: Tensor | None
) -> tuple[Tensor, Metrics]:
    """From matches with the targets to the loss of Eq. 19."""
    weights_L = torch.tensor(WEIGHTS_L, dtype=logp_BGL.dtype, device=logp_BGL.device)
    marginal_BGL = marginal_rewards(prefix_rewards(match_BGTL, weights_L))
    position_BGL = position_advantages(marginal_BGL, weights_L, settings.delta, settings.position_weighting, weight_BG)
    gate_BGL = prefix_gates(match_BGTL, settings.gate, logp_BGL.dtype)
    return tpma_loss(
        logp_BGL, position_BGL, item_BG, gate_BGL, settings.w_item, settings.w_position, settings.gate_item_advantage,
        weight_BG,
    )  # fmt: skip


def soft_rewards(reward_BG: Tensor, logp_BG: Tensor, reference_BG: Tensor | None, settings: LossSettings) -> Tensor:
    """R - beta log pi - kappa log(pi / pi_ref), float64 [B, G], with beta ``settings.entropy`` and kappa ``settings.kl``.

    Its expected gradient is that of E[R] + beta H(pi) - kappa KL(pi | pi_ref), whose optimum is pi proportional to
    (pi_ref^kappa exp(R))^(1 / (beta + kappa)): a score that ranks a page and keeps what the warm start knows, where the
    optimum of R alone is the single best identifier.

    Raises:
        ValueError: ``settings.kl`` is above 0 and there is no reference.
    """
    soft_BG = reward_BG.double() - (settings.entropy + settings.kl) * logp_BG.double()
    if settings.kl == 0:
        return soft_BG
    if reference_BG is None:
        raise ValueError("kl above 0 needs the log-probabilities of the warm start")
    return soft_BG + settings.kl * reference_BG.double()
