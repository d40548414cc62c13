"""A decoder-only model's attention for the three shapes a policy needs: prompts, a tree of prefixes, one step of many rows.

The prompt is one segment and the identifier the other. Tree and step read the prompt's keys and values where `prompt_layer`
left them, once a prompt, never copied for its rows. Several query heads may share a key head (N < H): they are then rows
of one product. Letters as in `trainers.policies.base`; N key heads, Q queries, X keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainers.policies.attention import add_mixed, attention
from trainers.policies.base import Cache
from trainers.policies.decoder_modules import DecoderLayer, Rotary
from trainers.policies.packing import PrefixTree, Ragged
from trainers.policies.steps import Step, joined


def prompt_layer(
    layer: DecoderLayer, x_PD: Tensor, rotary: Rotary, ragged: Ragged, bias_11SS: Tensor
) -> tuple[Tensor, Cache]:
    """One layer over the prompts' tokens, padding left out: ([P, D], keys and values [B, N, S, C])."""
    query, key, value = _padded(layer, x_PD, rotary, ragged)
    mixed = attend(layer, query, key, value, bias_11SS)
    # Each step reads them: better laid out once than by every product.
    return layer.finish(x_PD, ragged.flatten(mixed)), (key.contiguous(), value.contiguous())


def tree_layer(
    layer: DecoderLayer, x_PD: Tensor, rotary: Rotary, tree: PrefixTree, prompt: Cache, bias_B1MX: Tensor
) -> Tensor:
    """One layer over the distinct prefixes of all prompts: [P, D]. X is the prompt, then the prefixes."""
    query, key, value = _padded(layer, x_PD, rotary, tree.ragged)
    key, value = torch.cat([prompt[0], key], dim=2), torch.cat([prompt[1], value], dim=2)
    mixed = attend(layer, query, key, value, bias_B1MX)
    return layer.finish(x_PD, tree.ragged.flatten(mixed))


def step_layer(
    layer: DecoderLayer, x_PD: Tensor, rotary: Rotary, step: Step, past: Cache | None, prompt: Cache, bias_B11S: Tensor
) -> tuple[Tensor, list[Cache]]:
    """One layer at the new position of P rows: (x_PD, keys and values [P, N, T, C] with the position appended)."""
    query_PHC, key_PNC, value_PNC = layer.project(x_PD, rotary)
    caches, rows = step.lengthened(past, key_PNC[:, :, None], value_PNC[:, :, None]), step.all_rows
    counts = [len(own[0]) for own in caches]
    query_PNGC = query_PHC.reshape(len(x_PD), layer.kv_heads, -1, layer.head_dim)
    own_PNGT = _own_scores(torch.split_with_sizes(query_PNGC, counts), [key for key, _ in caches])
    query_BNQC, own_BNQT = _by_prompt(rows, query_PNGC), _by_prompt(rows, own_PNGT)
    shared_BNQS = query_BNQC @ prompt[0].transpose(2, 3)
    score_BNQX = torch.cat([shared_BNQS * layer.scaling + bias_B11S, own_BNQT * layer.scaling], dim=-1)
    width = prompt[0].shape[2]
    share_BNQX = score_BNQX.softmax(dim=-1).to(prompt[1].dtype)
    own_share_PNGT = _by_row(rows, share_BNQX[..., width:], own_PNGT.shape)
    mixed_PNGC = _by_row(rows, share_BNQX[..., :width] @ prompt[1], query_PNGC.shape)
    parts = (torch.split_with_sizes(part, counts) for part in (mixed_PNGC, own_share_PNGT))
    for mixed, share, (_, value) in zip(*parts, caches, strict=True):
        add_mixed(mixed, share[..., : value.shape[2]], value[:, :, None])
    return layer.finish(x_PD, mixed_PNGC.flatten(1)), caches


def _own_scores(queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
    """[P, N, G, T] of rows [P, N, G, C] with their own positions [P, N, T, C]; -inf past a row's last."""
    # A handful of positions: sums of products beat thousands of tiny matrix products.
    scores = [(query[..., None, :] * key[:, :, None]).sum(dim=-1) for query, key in zip(queries, keys, strict=True)]
    longest = scores[-1].shape[-1]
    return joined([functional.pad(score, (0, longest - score.shape[-1]), value=-torch.inf) for score in scores])


def attend(layer: DecoderLayer, query_BQHC: Tensor, key_BNXC: Tensor, value_BNXC: Tensor, bias: Tensor) -> Tensor:
    """Scaled dot-product attention under a bias [B or 1, 1, Q, X]: [B, Q, H C]."""
    prompts, queries = query_BQHC.shape[:2]
    query = query_BQHC.reshape(prompts, queries, layer.kv_heads, -1, layer.head_dim).permute(0, 2, 3, 1, 4)
    out = attention(query.flatten(2, 3), key_BNXC, value_BNXC, bias.repeat(1, 1, query.shape[2], 1), layer.scaling)
    return out.view(query.shape).permute(0, 3, 1, 2, 4).flatten(2)


def _padded(layer: DecoderLayer, x_PD: Tensor, rotary: Rotary, ragged: Ragged) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, Q, H, C], keys and values [B, N, Q, C] of tokens that lie without gaps."""
    query, key, value = (ragged.pad(part.flatten(1)) for part in layer.project(x_PD, rotary))
    shape = (*query.shape[:2], -1, layer.head_dim)
    return query.view(shape), key.view(shape).transpose(1, 2), value.view(shape).transpose(1, 2)


def _by_prompt(rows: Ragged, part: Tensor) -> Tensor:
    """[P, N, G, ...] to [B, N, R G, ...]."""
    padded = rows.pad(part.flatten(1)).view(rows.rows, rows.width, *part.shape[1:])
    return padded.transpose(1, 2).flatten(2, 3)


def _by_row(rows: Ragged, part: Tensor, shape: torch.Size) -> Tensor:
    """The way back, to [P, N, G, ...] of this shape."""
    padded = part.reshape(rows.rows, shape[1], rows.width, *shape[2:]).transpose(1, 2)
    return rows.flatten(padded)
