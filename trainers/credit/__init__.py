"""Credit: what each token of a rollout is worth, from matches with the targets and the rewards of the group (Eq. 11 and 13 to 16)."""

from __future__ import annotations

from trainers.credit.gates import prefix_gates
from trainers.credit.item_advantages import item_advantages
from trainers.credit.marginals import marginal_rewards
from trainers.credit.matches import token_matches
from trainers.credit.position_advantages import position_advantages
from trainers.credit.prefix_rewards import WEIGHTS_L, prefix_rewards

__all__ = [
    "WEIGHTS_L",
    "item_advantages",
    "marginal_rewards",
    "position_advantages",
    "prefix_gates",
    "prefix_rewards",
    "token_matches",
]
