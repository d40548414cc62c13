"""What enters a prompt as vectors: the query's sentence embedding, and the user's long history (OneSearch-V1, Eq. 4).

Each vector has a slot, a ``<dense>`` token at the front of the prompt, to whose embedding its projection is added. The long
history is three sums over items of their residual centroids: of clicks, of orders, and of those of both that share the
query's first code. They lie in the space of the query's embedding; ours are scaled to unit length (the paper's grow with
the history), and a zero vector, no history, leaves the slot's own embedding.
Letters as in `trainers.policies.base`; J kinds of history.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from trainers.policies.base import PromptBatch

#: J, in this order in a prompt.
KINDS: Final = ("clicks", "orders", "related")


class Slots(nn.Linear):
    """Projections into the prompt: ``weight`` [D, E] of the query, ``history`` [J, D, E] where there are history slots."""

    def __init__(self, width: int, hidden: int, history: bool) -> None:
        super().__init__(width, hidden, bias=False)
        self.history = nn.Parameter(torch.empty(len(KINDS), hidden, width)) if history else None

    def forward(self, prompts: PromptBatch) -> Tensor:  # type: ignore[override]
        """[B, S, D]: what is added to the prompts' token embeddings, zeros after the slots."""
        slots = [super().forward(prompts.dense_BE.to(self.weight.dtype))[:, None]]
        if self.history is not None and prompts.history_BJE is not None:
            slots.append(torch.einsum("bje,jde->bjd", prompts.history_BJE.to(self.history.dtype), self.history))
        added_BQD = torch.cat(slots, dim=1)
        rest = prompts.tokens_BS.shape[1] - added_BQD.shape[1]
        return nn.functional.pad(added_BQD, (0, 0, 0, rest))
