"""A decoder-only model's attention for the three shapes a policy needs: prompts, a tree of prefixes, one step of many rows.

The prompt is one segment and the identifier the other. Tree and step read the prompt's keys and values where `prompt_layer`
left them, once a prompt, never copied for its rows. Several query heads may share a key head (N < H): they are then rows
of one product. Letters as in `trainers.policies.base`; N key heads, Q queries, X keys.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainers.policies.decoder_modules import DecoderLayer, Rotary
from trainers.policies.packing import PrefixTree, Ragged

Cache = tuple[Tensor, Tensor]  #: keys and values, as `EncoderState` or `DecodeState` holds them


def prompt_layer(
    layer: DecoderLayer, x_PD: Tensor, rotary: Rotary, ragged: Ragged, bias_11SS: Tensor
) -> tuple[Tensor, Cache]:
    """One layer over the prompts' tokens, padding left out: ([P, D], keys and values [B, N, S, C])."""
    query, key, value = _padded(layer, x_PD, rotary, ragged)
    mixed = attend(layer, query, key, value, bias_11SS)
    return layer.finish(x_PD, ragged.flatten(mixed)), (key, value)


def tree_layer(
    layer: DecoderLayer, x_PD: Tensor, rotary: Rotary, tree: PrefixTree, prompt: Cache, bias_B1MX: Tensor
) -> Tensor:
    """One layer over the distinct prefixes of all prompts: [P, D]. X is the prompt, then the prefixes."""
    query, key, value = _padded(layer, x_PD, rotary, tree.ragged)
    key, value = torch.cat([prompt[0], key], dim=2), torch.cat([prompt[1], value], dim=2)
    mixed = attend(layer, query, key, value, bias_B1MX)
    return layer.finish(x_PD, tree.ragged.flatten(mixed))


def step_layer(
    layer: DecoderLayer, x_BRD: Tensor, rotary: Rotary, past: Cache | None, prompt: Cache, bias_B11S: Tensor
) -> tuple[Tensor, Cache]:
    """One layer at one new position of R rows: (x_BRD, keys and values [B, R, N, T, C] with the position appended)."""
    query_BRHC, key_BRNC, value_BRNC = layer.project(x_BRD, rotary)
    key, value = key_BRNC[:, :, :, None], value_BRNC[:, :, :, None]
    if past is not None:
        key, value = torch.cat([past[0], key], dim=3), torch.cat([past[1], value], dim=3)
    prompts, rows, _ = x_BRD.shape
    heads, width = layer.kv_heads, prompt[0].shape[2]
    query_BNRGC = query_BRHC.reshape(prompts, rows, heads, -1, layer.head_dim).transpose(1, 2)
    # A handful of own positions: sums of products beat thousands of tiny matrix products.
    own_BNRGT = (query_BNRGC[..., None, :] * key.transpose(1, 2)[:, :, :, None]).sum(dim=-1)
    shared_BNQS = query_BNRGC.flatten(2, 3) @ prompt[0].transpose(2, 3)
    score_BNQX = torch.cat([shared_BNQS * layer.scaling + bias_B11S, own_BNRGT.flatten(2, 3) * layer.scaling], dim=-1)
    share_BNQX = score_BNQX.softmax(dim=-1).to(value.dtype)
    own_share = share_BNQX[..., width:].reshape(own_BNRGT.shape)
    mixed_BNRGC = (share_BNQX[..., :width] @ prompt[1]).view(query_BNRGC.shape)
    mixed_BNRGC = mixed_BNRGC + (own_share[..., None] * value.transpose(1, 2)[:, :, :, None]).sum(dim=-2)
    return layer.finish(x_BRD, mixed_BNRGC.transpose(1, 2).flatten(2)), (key, value)


def attend(layer: DecoderLayer, query_BQHC: Tensor, key_BNXC: Tensor, value_BNXC: Tensor, bias: Tensor) -> Tensor:
    """Scaled dot-product attention under a bias [B or 1, 1, Q, X]: [B, Q, H C]."""
    prompts, queries = query_BQHC.shape[:2]
    query = query_BQHC.reshape(prompts, queries, layer.kv_heads, -1, layer.head_dim).permute(0, 2, 3, 1, 4)
    mask = bias.to(query.dtype).repeat(1, 1, query.shape[2], 1)
    out = functional.scaled_dot_product_attention(
        query.flatten(2, 3), key_BNXC, value_BNXC, attn_mask=mask, scale=layer.scaling
    )
    return out.view(query.shape).permute(0, 3, 1, 2, 4).flatten(2)


def _padded(layer: DecoderLayer, x_PD: Tensor, rotary: Rotary, ragged: Ragged) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, Q, H, C], keys and values [B, N, Q, C] of tokens that lie without gaps."""
    query, key, value = (ragged.pad(part.flatten(1)) for part in layer.project(x_PD, rotary))
    shape = (*query.shape[:2], -1, layer.head_dim)
    return query.view(shape), key.view(shape).transpose(1, 2), value.view(shape).transpose(1, 2)
