"""Each distinct prefix of a prompt's rollouts, once: what a teacher-forced pass has to compute.

Rollouts of one prompt share their first codes, and often all of them. A hidden state depends on the prefix alone, so the
decoder runs over distinct prefixes (a tree per prompt) and the gradients of the rollouts that share one are summed before
the decoder's backward. Letters: P distinct prefixes of the batch, M the most of any prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths: held without gaps as [P, D], row after row, and padded to [B, M, D] for attention."""

    rows: int  #: B
    width: int  #: M, the longest
    place_P: Tensor | None  #: where each entry stands in the padded [B * M]; None where no row is shorter

    @classmethod
    def of(cls, mask_BS: Tensor) -> Ragged:
        """From a mask that is False on padding."""
        flat = mask_BS.reshape(-1)
        rows, width = mask_BS.shape
        return cls(rows, width, None if bool(flat.all()) else flat.nonzero()[:, 0])

    def starts(self, device: torch.device) -> Tensor:
        """Where each row begins in [P, D]: int64 [B]."""
        begin = torch.arange(self.rows, device=device) * self.width
        return begin if self.place_P is None else torch.searchsorted(self.place_P, begin)

    def beside(self, other: Ragged) -> Ragged:
        """Of these rows, each longer by the other's: all of these entries in their order, then all of the other's."""
        width, places = self.width + other.width, list[Tensor]()
        for part, shift in ((self, 0), (other, self.width)):
            device = next((place.device for place in (self.place_P, other.place_P) if place is not None), None)
            place_P = torch.arange(part.rows * part.width, device=device) if part.place_P is None else part.place_P
            places.append(place_P // part.width * width + place_P % part.width + shift)
        return Ragged(self.rows, width, torch.cat(places))

    def pad(self, flat_PD: Tensor) -> Tensor:
        """[P, D] to [B, M, D], zeros in the gaps."""
        if self.place_P is None:
            return flat_PD.view(self.rows, self.width, flat_PD.shape[-1])
        padded = flat_PD.new_zeros(self.rows * self.width, flat_PD.shape[-1])
        return padded.index_copy(0, self.place_P, flat_PD).view(self.rows, self.width, -1)

    def flatten(self, padded: Tensor) -> Tensor:
        """[B, M, ...] to [P, ...]."""
        flat = padded.reshape(self.rows * self.width, *padded.shape[2:])
        return flat if self.place_P is None else flat.index_select(0, self.place_P)


@dataclass(frozen=True)
class PrefixTree:
    """P prefixes, prompt by prompt, short before long inside a prompt."""

    ragged: Ragged
    depth_P: Tensor  #: codes in the prefix
    code_P: Tensor  #: its last code, 0 at depth 0
    bias_B1MM: Tensor  #: 0 where a prefix may attend (to its own prefixes), a large negative number elsewhere
    level_rows: tuple[Tensor, ...]  #: per level l: the prefixes of depth l, as rows into P
    inverse_BG: tuple[Tensor, ...]  #: per level l: which entry of ``level_rows[l]`` is the rollout's prefix

    def spread(self, flat_PD: Tensor) -> Tensor:
        """[P, D] to [B, G, L, D]: every rollout gets the rows of its own prefixes."""
        rows_BGL = torch.stack([rows[inv] for rows, inv in zip(self.level_rows, self.inverse_BG, strict=True)], dim=-1)
        return functional.embedding(rows_BGL, flat_PD)


def pack(sids_BGL: Tensor, level_sizes: Sequence[int], open_BGL: Tensor | None = None) -> PrefixTree:
    """The prefixes of lengths 0 to L - 1 of B x G identifiers.

    ``open_BGL`` (bool): which of a rollout's prefixes are wanted; of one that is, so are its own prefixes, and the empty one always.
    ``inverse_BG`` is 0 where they are not.
    """
    prompts, _, levels = sids_BGL.shape
    device = sids_BGL.device
    owner = [torch.arange(prompts, device=device)]
    code = [torch.zeros(prompts, dtype=torch.int64, device=device)]
    parent: list[Tensor] = [owner[0]]
    inverse = [owner[0][:, None].expand(sids_BGL.shape[:2])]
    for level in range(levels - 1):
        key_BG, inv = inverse[-1] * level_sizes[level] + sids_BGL[..., level], torch.zeros_like(sids_BGL[..., level])
        wanted = slice(None) if open_BGL is None else open_BGL[..., level + 1]
        key, inv[wanted] = torch.unique(key_BG[wanted], return_inverse=True)
        parent.append(key // level_sizes[level])
        code.append(key % level_sizes[level])
        owner.append(owner[-1][parent[-1]])
        inverse.append(inv)
    counts = [len(rows) for rows in owner]
    owner_P = torch.cat(owner)
    depth_P = torch.repeat_interleave(torch.arange(levels, device=device), torch.tensor(counts, device=device))
    # Found level by level, wanted prompt by prompt: a stable sort by prompt keeps short before long.
    order = torch.argsort(owner_P, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=device)
    level_rows = torch.split_with_sizes(rank, counts)
    per_prompt = torch.bincount(owner_P, minlength=prompts)
    width = int(per_prompt.max())
    owner_P = owner_P[order]
    slot_P = torch.arange(len(order), device=device) - (per_prompt.cumsum(0) - per_prompt)[owner_P]
    return PrefixTree(
        ragged=Ragged(prompts, width, None if len(order) == prompts * width else owner_P * width + slot_P),
        depth_P=depth_P[order],
        code_P=torch.cat(code)[order],
        bias_B1MM=_ancestry(parent, level_rows, owner_P, slot_P, prompts, width),
        level_rows=level_rows,
        inverse_BG=tuple(inverse),
    )


def _ancestry(
    parent: list[Tensor], level_rows: tuple[Tensor, ...], owner_P: Tensor, slot_P: Tensor, prompts: int, width: int
) -> Tensor:
    """bias_B1MM: 0 from a prefix to itself and to every prefix of it. Gaps see themselves, so that no row is empty."""
    bias = torch.full((prompts, width, width), torch.finfo(torch.float32).min, device=owner_P.device)
    bias.diagonal(dim1=1, dim2=2).zero_()
    for depth in range(1, len(parent)):
        rows, ancestors = level_rows[depth], torch.arange(len(parent[depth]), device=owner_P.device)
        for above in range(depth, 0, -1):
            ancestors = parent[above][ancestors]
            bias[owner_P[rows], slot_P[rows], slot_P[level_rows[above - 1][ancestors]]] = 0.0
    return bias[:, None]
