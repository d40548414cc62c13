"""Qwen3's parameters under the names and shapes that transformers gives them, and its config.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.errors import Corrupt, Incompatible
from trainers.policies.decoder_modules import DecoderLayer, DecoderModel, Rotary, read_config
from trainers.policies.linear import Linear


@dataclass(frozen=True)
class Qwen3Shape:
    """The part of config.json that decides parameters and forward pass; names are transformers'.

    ``residual_dropout`` is ours: Qwen3 has no dropout but of attention weights, which is not used here.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    bos_token_id: int | None
    eos_token_id: int
    pad_token_id: int
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    residual_dropout: float = 0.0
    attention_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def positions(self) -> int:
        """Most tokens of prompt and identifier together."""
        return self.max_position_embeddings

    def save(self, folder: Path) -> None:
        """Write config.json."""
        fixed: dict[str, Any] = {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "use_sliding_window": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "dtype": "float32",
        }
        (folder / "config.json").write_text(json.dumps(fixed | asdict(self), indent=1, sort_keys=True))

    @classmethod
    def load(cls, folder: Path) -> Qwen3Shape:
        """Read config.json.

        Raises:
            Corrupt: it is missing, not JSON, or lacks a field.
            Incompatible: another architecture, activation function or rotary scheme, or a sliding window.
        """
        data, path = read_config(folder), folder / "config.json"
        rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
        theta = rope.get("rope_theta", data.get("rope_theta", cls.rope_theta))
        try:
            shape = cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data} | {"rope_theta": float(theta)})
        except TypeError as error:
            raise Corrupt(str(path), str(error), "use the checkpoint before it") from error
        found = (
            data.get("model_type"), data.get("hidden_act", "silu"), rope.get("rope_type", "default"),
            bool(data.get("use_sliding_window", False)),
        )  # fmt: skip
        bound = ("qwen3", "silu", "default", False)
        if found != bound:
            raise Incompatible(f"{path} (type, activation, rotary, window)", bound, found, "use a plain Qwen3 model")
        return shape


class Norm(nn.Module):
    """Root mean square norm."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        """Any leading shape."""
        return functional.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Projections and head norms of one attention block."""

    def __init__(self, shape: Qwen3Shape) -> None:
        super().__init__()
        width, bias = shape.hidden_size, shape.attention_bias
        own, shared = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
        self.q_proj, self.k_proj = Linear(width, own, bias=bias), Linear(width, shared, bias=bias)
        self.v_proj, self.o_proj = Linear(width, shared, bias=bias), Linear(own, width, bias=bias)
        self.q_norm, self.k_norm = Norm(shape.head_dim, shape.rms_norm_eps), Norm(shape.head_dim, shape.rms_norm_eps)


class FeedForward(nn.Module):
    """The three matrices of one gated feed-forward block."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = Linear(width, inner, bias=False), Linear(width, inner, bias=False)
        self.down_proj = Linear(inner, width, bias=False)


class Qwen3Layer(DecoderLayer):
    """Norm, attention, norm, gated feed-forward."""

    def __init__(self, shape: Qwen3Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads = shape.num_attention_heads, shape.num_key_value_heads
        self.head_dim, self.scaling, self.dropout = shape.head_dim, shape.head_dim**-0.5, shape.residual_dropout
        self.input_layernorm, self.self_attn = Norm(shape.hidden_size, shape.rms_norm_eps), Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = FeedForward(shape.hidden_size, shape.intermediate_size)

    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """[..., D] to queries [..., H, C], keys and values [..., N, C], queries and keys turned by their position."""
        x, attention = self.input_layernorm(x), self.self_attn
        query = attention.q_norm(attention.q_proj(x).unflatten(-1, (self.heads, self.head_dim)))
        key = attention.k_norm(attention.k_proj(x).unflatten(-1, (self.kv_heads, self.head_dim)))
        return turn(query, rotary), turn(key, rotary), attention.v_proj(x).unflatten(-1, (self.kv_heads, self.head_dim))

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """From what attention mixed to the layer's output."""
        x = x + functional.dropout(self.self_attn.o_proj(mixed), p=self.dropout, training=self.training)
        normed = self.post_attention_layernorm(x)
        inner = self.mlp.down_proj(functional.silu(self.mlp.gate_proj(normed)) * self.mlp.up_proj(normed))
        return x + functional.dropout(inner, p=self.dropout, training=self.training)


class Backbone(nn.Module):
    """Token embeddings, layers, last norm."""

    def __init__(self, shape: Qwen3Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Qwen3Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)


class Qwen3Model(DecoderModel):
    """All parameters, fresh ones drawn from torch's generator."""

    shape: Qwen3Shape

    def __init__(self, shape: Qwen3Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Backbone(shape)
        self.repeated = ("lm_head.weight",) if shape.tie_word_embeddings else ()
        if not shape.tie_word_embeddings:
            self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=shape.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def embeddings(self) -> Tensor:
        """Token embeddings [V, D]."""
        return self.model.embed_tokens.weight

    def output(self) -> Tensor:
        """Output matrix [V, D]."""
        return self.model.embed_tokens.weight if self.shape.tie_word_embeddings else self.lm_head.weight

    def enter(self, embedded: Tensor, position: Tensor) -> tuple[Tensor, Rotary]:
        """The embeddings as they are; positions turn queries and keys. Angles are float32, whatever the model's precision."""
        pairs = torch.arange(0, self.shape.head_dim, 2, dtype=torch.float32, device=position.device)
        frequency = 1.0 / self.shape.rope_theta ** (pairs / self.shape.head_dim)
        angle = position[..., None, None].float() * torch.cat([frequency, frequency])
        return embedded, (angle.cos().to(embedded.dtype), angle.sin().to(embedded.dtype))

    def leave(self, x: Tensor) -> Tensor:
        """The norm before the output."""
        out: Tensor = self.model.norm(x)
        return out

    def blocks(self) -> list[DecoderLayer]:
        """The layers in order."""
        return [layer for layer in self.model.layers if isinstance(layer, Qwen3Layer)]


def turn(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotary position embedding: [..., heads, C] turned in the planes (c, c + C / 2)."""
    assert rotary is not None
    cos, sin = rotary
    one, two = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-two, one], dim=-1) * sin
