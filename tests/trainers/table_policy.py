"""A policy without a model: logits are a written-down function of prompt, prefix and code, so that an oracle can repeat it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from trainers.policies.base import Ahead, DecodeState, EncoderState

Logit = Callable[[int, Sequence[int], int], float]  #: of prompt, prefix and code
TEXT = 7  #: tokens of the vocabulary that belong to no level


def wave(prompt: int, prefix: Sequence[int], code: int) -> float:
    """Uneven, different for every prefix, without ties."""
    return 2.5 * math.sin(1.7 * prompt + sum((n + 1) * 2.3 * c for n, c in enumerate(prefix)) + 5.1 * code + len(prefix))


class TablePolicy:
    """As much of `trainers.policies.base.Policy` as a search needs. Hidden states are the prompt and the prefix themselves."""

    def __init__(self, sizes: Sequence[int], logit: Logit = wave) -> None:
        starts = [TEXT + sum(sizes[:level]) for level in range(len(sizes))]
        self.tokenizer: Any = SimpleNamespace(level_sizes=tuple(sizes), level_start=tuple(starts))
        self._logit = logit

    def prompts(self, count: int) -> EncoderState:
        """What stands for that many encoded prompts."""
        return EncoderState((), (), torch.zeros(count, 1, 1, 1))

    def advance(self, state: DecodeState, codes_BR: Tensor | None) -> tuple[Tensor, DecodeState]:
        """The prefix, one code longer."""
        prefix_PT = torch.arange(len(state.encoder))[:, None]
        if codes_BR is not None:
            prefix_PT = torch.cat([state.keys_PHTC[0], state.rows.flatten(codes_BR)[:, None]], dim=1)
        return state.rows.pad(prefix_PT), DecodeState(state.encoder, state.depth + 1, (prefix_PT,), (), state.rows)

    def advance_twice(
        self, state: DecodeState, codes_BR: Tensor | None, ahead: Ahead
    ) -> tuple[tuple[Tensor, DecodeState], tuple[Tensor, DecodeState]]:
        """The prefixes, and those that go further."""
        here = self.advance(state, codes_BR)
        return here, self.advance(here[1].select(ahead.row_BX, ahead.rows), ahead.code_BX)

    def level_logits(self, level: int, hidden: Tensor) -> Tensor:
        """The table, one code after the other."""
        size = self.tokenizer.level_sizes[level]
        rows = [[self._logit(row[0], row[1:], code) for code in range(size)] for row in hidden.flatten(0, 1).tolist()]
        return torch.tensor(rows).view(*hidden.shape[:2], size)

    def vocabulary_logits(self, hidden: Tensor) -> Tensor:
        """Every level's codes after the prefix, and text tokens of logit 0."""
        text = torch.zeros(*hidden.shape[:2], TEXT)
        return torch.cat(
            [text, *(self.level_logits(level, hidden) for level in range(len(self.tokenizer.level_sizes)))], dim=-1
        )


def normaliser(policy: TablePolicy, prompt: int, prefix: Sequence[int], allowed: Sequence[int], scoring: str) -> float:
    """log of the sum that a code's probability is divided by."""
    sizes, level = policy.tokenizer.level_sizes, len(prefix)
    codes = {
        "trie": list(allowed),
        "level": list(range(sizes[level])),
        "vocabulary": [code for size in sizes for code in range(size)],
    }[scoring]
    text = TEXT if scoring == "vocabulary" else 0
    return math.log(sum(math.exp(policy._logit(prompt, prefix, code)) for code in codes) + text)
