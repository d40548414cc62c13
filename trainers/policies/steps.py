"""What a pass of the decoder works on: a step's rows, and beside them, where wanted, rows that go one code further.

A pass over a few rows takes as long as reading the weights does. So where few rows can follow at all, they are decoded together with
those that they continue: they wait for nothing but keys and values of the same layer. Letters as in `trainers.policies.base`; X rows
per prompt that go further, P rows of all prompts together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainers.policies.base import Ahead, Cache, DecodeState
from trainers.policies.packing import Ragged


class Step(NamedTuple):
    """The rows of a pass: first the state's own, then those that go further."""

    token_P: Tensor
    depth_P: Tensor  #: codes before the token's place
    rows: tuple[Ragged, ...]  #: of the state's, and of those that go further
    all_rows: Ragged
    elder_P: Tensor | None  #: of each that goes further, the one of the state's own that it continues; None: none does

    @classmethod
    def of(
        cls, state: DecodeState, codes_BR: Tensor | None, ahead: Ahead | None, start: int, level_start: Sequence[int]
    ) -> Step:
        """``start``: the token that stands before the first code; ``level_start``: of each level the first token."""
        rows, depth, device = state.rows, state.depth, state.encoder.bias_B11S.device
        if codes_BR is None:
            token_P = torch.full((len(state.encoder),), start, device=device)
        else:
            token_P = rows.flatten(codes_BR) + level_start[depth - 1]
        depth_P = torch.full_like(token_P, depth)
        if ahead is None:
            return cls(token_P, depth_P, (rows,), rows, None)
        further_P = ahead.rows.flatten(ahead.code_BX) + level_start[depth]
        depth_P = torch.cat([depth_P, torch.full_like(further_P, depth + 1)])
        elder_P = ahead.rows.flatten(rows.starts(device)[:, None] + ahead.row_BX)
        return cls(torch.cat([token_P, further_P]), depth_P, (rows, ahead.rows), rows.beside(ahead.rows), elder_P)

    def lengthened(self, past: Cache | None, key: Tensor, value: Tensor) -> list[Cache]:
        """A layer's keys and values [P, H, T, C] of the state's own rows and of those that go further, from the new position's [P, H, 1, C]."""
        if self.elder_P is None:
            return [(key, value) if past is None else _after(past, key, value)]
        own = len(key) - len(self.elder_P)
        here = (key[:own], value[:own]) if past is None else _after(past, key[:own], value[:own])
        elder = here[0].index_select(0, self.elder_P), here[1].index_select(0, self.elder_P)
        return [here, _after(elder, key[own:], value[own:])]

    def results(
        self, state: DecodeState, hidden_PD: Tensor, caches: Sequence[Sequence[Cache]]
    ) -> list[tuple[Tensor, DecodeState]]:
        """hidden [B, R or X, D] and longer state of the state's own rows and of those that go further. ``caches``: of every layer."""
        parts = torch.split_with_sizes(hidden_PD, [len(own[0]) for own in caches[0]])
        kept = zip(*caches, strict=True)
        return [
            (rows.pad(part), state.longer(layers, rows)) for rows, part, layers in zip(self.rows, parts, kept, strict=True)
        ]


def _after(past: Cache, key: Tensor, value: Tensor) -> Cache:
    return torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """One behind the other; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
