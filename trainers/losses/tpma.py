"""The loss of TPMA-GRPO: an advantage for every position, behind a gate, beside that of the whole item."""

from __future__ import annotations

from torch import Tensor

from trainers.losses.terms import Metrics, finite, group_mean, on_policy_ratio


def tpma_loss(
    logp_BGL: Tensor,
    position_BGL: Tensor,
    item_BG: Tensor,
    gate_BGL: Tensor,
    w_item: float = 1.0,
    w_position: float = 1.0,
    gate_item_advantage: bool = True,
    weight_BG: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """Eq. 19 without its SFT term: -mean over B, G, L of g_{i,l} r_{i,l} (A_{i,l} + w_item A_i). No clipping.

    ``weight_BG`` (`trainers.rollout.Rollouts.weight_BG`): each rollout's share in the mean over G; None: 1 / G.

    [trap] Eq. 19 gates the item advantage too: a page view without a click has gates (1, 0, 0, 0, 0), so only its first
    token would learn from relevance and CTR. ``gate_item_advantage=False`` leaves the item advantage ungated.

    Raises:
        LearningError: the loss is not finite.
    """
    gated_BGL = gate_BGL * w_position * position_BGL
    item_BGL = (w_item * item_BG)[..., None].expand_as(gated_BGL)
    final_BGL = gated_BGL + (gate_BGL * item_BGL if gate_item_advantage else item_BGL)
    loss = -group_mean(on_policy_ratio(logp_BGL) * final_BGL.detach(), weight_BG)
    metrics = {"gate_mean": gate_BGL.mean(), "advantage_spread": final_BGL.std(), "position_spread": position_BGL.std()}
    return finite(loss, "TPMA loss"), metrics
