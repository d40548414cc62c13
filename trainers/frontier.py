"""Which rows of a group the decoder has to see at a level: distinct prefixes that still have a choice to make.

A hidden state depends on the prefix alone, so the rollouts (or beams) of a prompt that agree so far share one row. And where only one
identifier of the catalogue lies below a prefix, the rest of it is certain: its codes follow from the trie, each with
probability 1, and no row is needed at all. Neither changes the distribution. Letters as in `trainers.policies.base`; R is
the most distinct open prefixes of any prompt.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainers.policies.packing import Ragged
from trainers.policies.restricted import TrieTables

#: Decoder rows come in multiples of this, as far as there are gaps to fill.
TOGETHER = 16


class Frontier(NamedTuple):
    """R rows per prompt; a prompt with fewer open prefixes has gaps behind them, which name some rollout and nobody reads.

    A few gaps are filled all the same, up to a multiple of `TOGETHER` rows of all prompts: oneDNN prepares (a millisecond)
    and keeps something for every number of rows it meets.
    """

    leader_BR: Tensor  #: which rollout of the prompt stands for the row
    row_BG: Tensor  #: the row of every open rollout; of others any row
    open_BG: Tensor  #: bool: more than one identifier lies below the rollout's prefix
    rows: Ragged | None = None  #: where among [B, R] there is a row; None: everywhere
    count_B: Tensor | None = None  #: how many rows there are without what fills gaps; None: R

    @classmethod
    def of(cls, tables: TrieTables, depth: int, nodes_BG: Tensor, alive_BG: Tensor | None = None) -> Frontier:
        """Of rollouts that stand at these nodes of ``depth``; those that are not ``alive_BG`` are left out."""
        open_BG = tables.leaves(depth, nodes_BG) > 1
        if alive_BG is not None:
            open_BG &= alive_BG
        # Closed rollouts sort behind every node, and so never begin a row.
        behind = tables.level_nodes(depth)
        key_BG, order_BG = torch.where(open_BG, nodes_BG, behind).sort(dim=1, stable=True)
        begins_BG = key_BG < behind
        begins_BG[:, 1:] &= key_BG[:, 1:] != key_BG[:, :-1]
        rank_BG = (begins_BG.cumsum(dim=1) - 1).clamp_min_(0)
        prompt_P, at_P = begins_BG.nonzero(as_tuple=True)
        count_B = begins_BG.sum(dim=1)
        leader_BR = nodes_BG.new_zeros(len(nodes_BG), int(count_B.max()))
        leader_BR[prompt_P, rank_BG[prompt_P, at_P]] = order_BG[prompt_P, at_P]
        there_BR = torch.arange(leader_BR.shape[1], device=nodes_BG.device) < filled(count_B, leader_BR.shape[1])[:, None]
        row_BG = torch.empty_like(rank_BG).scatter_(1, order_BG, rank_BG)
        return cls(leader_BR, row_BG, open_BG, Ragged.of(there_BR), count_B)

    @classmethod
    def whole(cls, nodes_BG: Tensor) -> Frontier:
        """Every rollout in a row of its own: where probabilities are not the catalogue's, nothing is certain."""
        row_BG = torch.arange(nodes_BG.shape[1], device=nodes_BG.device).expand(nodes_BG.shape)
        return cls(row_BG, row_BG, torch.ones_like(nodes_BG, dtype=torch.bool))

    @property
    def width(self) -> int:
        """R; 0 where everything is certain."""
        return self.leader_BR.shape[1]


def filled(count_B: Tensor, width: int) -> Tensor:
    """Rows per prompt, up to ``width``, once gaps are filled; prompts without a row keep none: theirs would continue nothing."""
    room_B = torch.where(count_B > 0, width - count_B, 0)
    spare = -count_B.sum() % TOGETHER
    before_B = room_B.cumsum(dim=0) - room_B
    return count_B + torch.minimum((spare - before_B).clamp_min(0), room_B)
