"""Prefix rewards of TPMA: how much of a target each rollout has reproduced after every token (EQUATIONS 4, Eq. 13-14).

Letters: B prompts, G rollouts, T targets of a prompt (padded, see the mask), L identifier length.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: w of Eq. 13: three shared residual levels weigh 2, the two OPQ levels 1. [trap] indexed from the first token: the
#: authors' release shifts it by one, under-weights level 3 and never rewards the last token.
WEIGHTS_L: tuple[float, ...] = (2.0, 2.0, 2.0, 1.0, 1.0)


def token_matches(sids_BGL: Tensor, targets_BTL: Tensor, has_target_BT: Tensor) -> Tensor:
    """m_BGTL = [o_i^l = t^l], bool; a padded target (mask False) matches nothing.

    In memory T comes first: reducing over targets then runs over whole blocks, in half the time.
    """
    wanted_BTL = torch.where(has_target_BT[..., None], targets_BTL, -1)  # no code is -1
    return (sids_BGL == wanted_BTL.transpose(0, 1)[:, :, None]).permute(1, 2, 0, 3)


def best_prefix(score_BGTL: Tensor) -> Tensor:
    """max over targets of the running sum over positions, [B, G, T, L] -> [B, G, L]; zeros where T is 0.

    The maximum is taken at every position on its own, as Eq. 13 prints it: two positions may speak of two targets.
    """
    if score_BGTL.shape[2] == 0:
        return score_BGTL.new_zeros(score_BGTL.shape[0], score_BGTL.shape[1], score_BGTL.shape[3])
    return score_BGTL.movedim(2, 0).cumsum(dim=-1).amax(dim=0)


def prefix_rewards(match_BGTL: Tensor, weights_L: Tensor) -> Tensor:
    """Eq. 13: R_{i,l} = max_t sum_{k<=l} w_k m_{i,k,t}. Returns R_BGL in the dtype of the weights."""
    return best_prefix(match_BGTL.to(weights_L.dtype) * weights_L)


def marginal_rewards(reward_BGL: Tensor) -> Tensor:
    """Eq. 14: dR_{i,l} = R_{i,l} - R_{i,l-1}, with R_{i,0} = 0. [B, G, L] -> [B, G, L]."""
    return torch.diff(reward_BGL, dim=-1, prepend=torch.zeros_like(reward_BGL[..., :1]))
