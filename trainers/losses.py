"""Losses: pure functions from named tensors to (scalar loss, metrics). No state, no logging, no randomness.

What these differ in from the paper is a parameter with the paper's value as its default (EQUATIONS 4, Eq. 12, 17-19).
They do not compute advantages, rewards or log-probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from schemas.errors import LearningError

Metrics = dict[str, Tensor]


def on_policy_ratio(logp_BGL: Tensor) -> Tensor:
    """exp(logp - logp.detach()): the value is 1, the gradient that of logp. Rollouts come from the present weights."""
    return torch.exp(logp_BGL - logp_BGL.detach())


def tpma_loss(
    logp_BGL: Tensor,
    position_BGL: Tensor,
    item_BG: Tensor,
    gate_BGL: Tensor,
    w_item: float = 1.0,
    w_position: float = 1.0,
    gate_item_advantage: bool = True,
) -> tuple[Tensor, Metrics]:
    """Eq. 19 without its SFT term: -mean over B, G, L of g_{i,l} r_{i,l} (A_{i,l} + w_item A_i). No clipping.

    [trap] Eq. 19 gates the item advantage too: a page view without a click has gates (1, 0, 0, 0, 0), so only its first
    token would learn from relevance and CTR. ``gate_item_advantage=False`` leaves the item advantage ungated.

    Raises:
        LearningError: the loss is not finite.
    """
    gated_BGL = gate_BGL * w_position * position_BGL
    item_BGL = (w_item * item_BG)[..., None].expand_as(gated_BGL)
    final_BGL = gated_BGL + (gate_BGL * item_BGL if gate_item_advantage else item_BGL)
    loss = -(on_policy_ratio(logp_BGL) * final_BGL.detach()).mean()
    metrics = {"gate_mean": gate_BGL.mean(), "advantage_spread": final_BGL.std(), "position_spread": position_BGL.std()}
    return _finite(loss, "TPMA loss"), metrics


def grpo_loss(
    logp_BGL: Tensor, item_BG: Tensor, old_logp_BGL: Tensor | None = None, clip: float = 0.2
) -> tuple[Tensor, Metrics]:
    """Eq. 12: -mean over B, G, L of min(r A_i, clip(r, 1 - c, 1 + c) A_i), the same advantage on every token.

    ``old_logp_BGL`` None means on-policy: the ratio is 1 and nothing is clipped.

    Raises:
        LearningError: the loss is not finite.
    """
    ratio_BGL = on_policy_ratio(logp_BGL) if old_logp_BGL is None else torch.exp(logp_BGL - old_logp_BGL.detach())
    item_BG1 = item_BG.detach()[..., None]
    bounded_BGL = ratio_BGL.clamp(1 - clip, 1 + clip)
    loss = -torch.minimum(ratio_BGL * item_BG1, bounded_BGL * item_BG1).mean()
    clipped = ((ratio_BGL - 1).abs() > clip).to(logp_BGL.dtype).mean()
    return _finite(loss, "GRPO loss"), {"advantage_spread": item_BG.std(), "clipped_share": clipped}


def sft_loss(ce_BL: Tensor, has_target_B: Tensor) -> tuple[Tensor, Metrics]:
    """Mean over prompts of the cross-entropy per token of the first target; a prompt without one counts 0.

    Dividing by all prompts, not by those with a target, keeps the sum over micro-batches equal to the whole batch.

    Args:
        ce_BL: nats over the whole vocabulary; rows without a target may hold anything finite.

    Raises:
        LearningError: the loss is not finite.
    """
    kept_B = torch.where(has_target_B, ce_BL.mean(dim=-1), torch.zeros_like(ce_BL[:, 0]))
    loss = kept_B.mean()
    per_token = kept_B.detach().sum() / has_target_B.sum().clamp(min=1)
    return _finite(loss, "SFT loss"), {"sft_ce": per_token, "target_share": has_target_B.to(ce_BL.dtype).mean()}


def _finite(loss: Tensor, name: str) -> Tensor:
    if not torch.isfinite(loss):
        raise LearningError(f"{name} is {loss.item()}", "lower the learning rate, or resume from the checkpoint before")
    return loss
