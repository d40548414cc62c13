"""BART's layers for the three shapes a policy needs: a prompt, a tree of prefixes, one step of many rows.

Letters as in `trainers.policies.base`; Q query positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.policies.attention import add_mixed
from trainers.policies.attention import attention as attention_of
from trainers.policies.bart_modules import Attention, Layer
from trainers.policies.base import Cache
from trainers.policies.packing import PrefixTree, Ragged
from trainers.policies.steps import Step, joined


def heads(attention: Attention, x_BQD: Tensor) -> Tensor:
    """[B, Q, D] to [B, H, Q, C]."""
    return x_BQD.reshape(*x_BQD.shape[:-1], attention.num_heads, attention.head_dim).transpose(1, 2)


def attend(attention: Attention, query_BQD: Tensor, key_BHSC: Tensor, value_BHSC: Tensor, bias: Tensor | None) -> Tensor:
    """Scaled dot-product attention: [B, Q, D] before the output projection."""
    out = attention_of(heads(attention, query_BQD), key_BHSC, value_BHSC, bias, attention.scaling)
    return out.transpose(1, 2).reshape(query_BQD.shape)


def after_attention(layer: Layer, attention: Attention, norm: nn.LayerNorm, residual: Tensor, mixed: Tensor) -> Tensor:
    """Output projection, dropout, residual and norm."""
    out = attention.out_proj(mixed)
    normed: Tensor = norm(residual + _dropped(layer, out))
    return normed


def feed_forward(layer: Layer, x: Tensor) -> Tensor:
    """The layer's last part, any leading shape."""
    inner = layer.fc2(layer.fc1(x, layer.activation))
    normed: Tensor = layer.final_layer_norm(x + _dropped(layer, inner))
    return normed


def encoder_layer(layer: Layer, x_PD: Tensor, ragged: Ragged, bias_B11S: Tensor) -> Tensor:
    """One layer over the prompts' tokens, padding left out: [P, D]."""
    attention = layer.self_attn
    mixed = attend(attention, *_projected(attention, x_PD, ragged), bias_B11S)
    x_PD = after_attention(layer, attention, layer.self_attn_layer_norm, x_PD, ragged.flatten(mixed))
    return feed_forward(layer, x_PD)


def cross_cache(layer: Layer, prompt_PD: Tensor, ragged: Ragged) -> Cache:
    """Keys and values of the prompts [B, H, S, C] that all rows of a prompt share."""
    attention = layer.encoder_attn
    key_BSD, value_BSD = (ragged.pad(p(prompt_PD)) for p in (attention.k_proj, attention.v_proj))
    # Each step reads them: better laid out once than by every product.
    return heads(attention, key_BSD).contiguous(), heads(attention, value_BSD).contiguous()


def tree_layer(layer: Layer, x_PD: Tensor, tree: PrefixTree, key_BHSC: Tensor, value_BHSC: Tensor, bias: Tensor) -> Tensor:
    """One decoder layer over the distinct prefixes of all prompts: [P, D]."""
    attention, cross = layer.self_attn, layer.encoder_attn
    ragged = tree.ragged
    mixed = attend(attention, *_projected(attention, x_PD, ragged), tree.bias_B1MM)
    x_PD = after_attention(layer, attention, layer.self_attn_layer_norm, x_PD, ragged.flatten(mixed))
    mixed = attend(cross, ragged.pad(cross.q_proj(x_PD)), key_BHSC, value_BHSC, bias)
    x_PD = after_attention(layer, cross, layer.encoder_attn_layer_norm, x_PD, ragged.flatten(mixed))
    return feed_forward(layer, x_PD)


def step_layer(
    layer: Layer, x_PD: Tensor, step: Step, past: Cache | None, prompt: Cache, bias: Tensor
) -> tuple[Tensor, list[Cache]]:
    """One decoder layer at the new position of P rows: (x_PD, keys and values [P, H, T, C] with the position appended)."""
    attention, cross = layer.self_attn, layer.encoder_attn
    shape = (len(x_PD), attention.num_heads, 1, attention.head_dim)
    key, value = (p(x_PD).view(shape) for p in (attention.k_proj, attention.v_proj))
    caches = step.lengthened(past, key, value)
    if past is None and step.elder_P is None:
        mixed = value.view(x_PD.shape)  # the first position has itself alone to attend to
    else:
        queries = torch.split_with_sizes(attention.q_proj(x_PD).view(shape), [len(own[0]) for own in caches])
        mixed = joined([_among_own(attention, query, own) for query, own in zip(queries, caches, strict=True)])
    x_PD = after_attention(layer, attention, layer.self_attn_layer_norm, x_PD, mixed)
    rows = step.all_rows
    mixed = rows.flatten(attend(cross, rows.pad(cross.q_proj(x_PD)), *prompt, bias))
    x_PD = after_attention(layer, cross, layer.encoder_attn_layer_norm, x_PD, mixed)
    return feed_forward(layer, x_PD), caches


def _among_own(attention: Attention, query: Tensor, own: Cache) -> Tensor:
    """Attention of rows [P, H, 1, C] to their own positions [P, H, T, C]: [P, D] before the output projection."""
    key, value = own
    # A handful of positions: sums of products beat thousands of tiny matrix products.
    score_PHT = (query * key).sum(dim=-1) * attention.scaling
    return add_mixed(torch.zeros_like(query[:, :, 0]), score_PHT.softmax(dim=-1), value).flatten(1)


def _dropped(layer: Layer, x: Tensor) -> Tensor:
    """Dropout; a search makes no call for what is off."""
    return functional.dropout(x, p=layer.dropout) if layer.training and layer.dropout else x


def _projected(attention: Attention, x_PD: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, M, D], keys and values [B, H, M, C] of self-attention."""
    query, key, value = (ragged.pad(p(x_PD)) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    return query, heads(attention, key), heads(attention, value)
