"""GPT-2's parameters under the names and shapes that transformers gives them, and its config.json."""

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
from trainers.policies.linear import ACTIVATIONS, Activation, linear


@dataclass(frozen=True)
class Gpt2Shape:
    """The part of config.json that decides parameters and forward pass; names are transformers'.

    Of the dropouts ``resid_pdrop`` alone is read, for what a layer adds and for its input; attention weights are not dropped.
    """

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int | None
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    resid_pdrop: float = 0.0
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True

    @property
    def positions(self) -> int:
        """Most tokens of prompt and identifier together."""
        return self.n_positions

    def save(self, folder: Path) -> None:
        """Write config.json."""
        fixed: dict[str, Any] = {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "embd_pdrop": self.resid_pdrop,
            "attn_pdrop": 0.0,
            "dtype": "float32",
        }
        (folder / "config.json").write_text(json.dumps(fixed | asdict(self), indent=1, sort_keys=True))

    @classmethod
    def load(cls, folder: Path) -> Gpt2Shape:
        """Read config.json.

        Raises:
            Corrupt: it is missing, not JSON, or lacks a field.
            Incompatible: another architecture, an unknown activation function, or cross-attention.
        """
        data, path = read_config(folder), folder / "config.json"
        try:
            shape = cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})
        except TypeError as error:
            raise Corrupt(str(path), str(error), "use the checkpoint before it") from error
        found = (data.get("model_type"), shape.activation_function, bool(data.get("add_cross_attention", False)))
        if found[0] != "gpt2" or found[1] not in ACTIVATIONS or found[2]:
            bound = ("gpt2", tuple(ACTIVATIONS), "no cross-attention")
            raise Incompatible(str(path), bound, found, "use a folder of a plain GPT-2 model")
        return shape


class Conv1D(nn.Module):
    """A linear layer whose weight lies the other way round, [in, out], as GPT-2's files have it."""

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(wide, narrow)), nn.Parameter(torch.zeros(narrow))

    def forward(self, x: Tensor, then: Activation | None = None) -> Tensor:
        """[..., in] to [..., out]."""
        return linear(x, self.weight.T, self.bias, then)


class Attention(nn.Module):
    """Projections of one attention block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj = Conv1D(width, 3 * width), Conv1D(width, width)


class FeedForward(nn.Module):
    """The two matrices of one feed-forward block."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = Conv1D(width, inner), Conv1D(inner, width)


class Gpt2Layer(DecoderLayer):
    """Norm, attention, norm, feed-forward."""

    def __init__(self, shape: Gpt2Shape, index: int) -> None:
        super().__init__()
        width = shape.n_embd
        self.heads = self.kv_heads = shape.n_head
        self.head_dim, self.dropout = width // shape.n_head, shape.resid_pdrop
        self.scaling = self.head_dim**-0.5 if shape.scale_attn_weights else 1.0
        if shape.scale_attn_by_inverse_layer_idx:
            self.scaling /= index + 1
        self.activation = ACTIVATIONS[shape.activation_function]
        self.ln_1, self.attn = nn.LayerNorm(width, eps=shape.layer_norm_epsilon), Attention(width)
        self.ln_2, self.mlp = (
            nn.LayerNorm(width, eps=shape.layer_norm_epsilon),
            FeedForward(width, shape.n_inner or 4 * width),
        )

    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """[..., D] to queries, keys and values [..., H, C]."""
        three = self.attn.c_attn(self.ln_1(x)).unflatten(-1, (3, self.heads, self.head_dim))
        query, key, value = three.unbind(dim=-3)
        return query, key, value

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """From what attention mixed to the layer's output."""
        x = x + functional.dropout(self.attn.c_proj(mixed), p=self.dropout, training=self.training)
        inner = self.mlp.c_proj(self.mlp.c_fc(self.ln_2(x), self.activation))
        return x + functional.dropout(inner, p=self.dropout, training=self.training)


class Transformer(nn.Module):
    """Token and position embeddings, layers, last norm."""

    def __init__(self, shape: Gpt2Shape) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(shape.vocab_size, shape.n_embd), nn.Embedding(shape.n_positions, shape.n_embd)
        self.h = nn.ModuleList(Gpt2Layer(shape, index) for index in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd, eps=shape.layer_norm_epsilon)


class Gpt2Model(DecoderModel):
    """All parameters, fresh ones drawn from torch's generator; what a layer adds starts smaller, as GPT-2's paper has it."""

    shape: Gpt2Shape

    def __init__(self, shape: Gpt2Shape) -> None:
        super().__init__()
        self.shape = shape
        self.transformer = Transformer(shape)
        self.repeated = ("lm_head.weight",) if shape.tie_word_embeddings else ()
        if not shape.tie_word_embeddings:
            self.lm_head = nn.Linear(shape.n_embd, shape.vocab_size, bias=False)
        for name, module in self.named_modules():
            if isinstance(module, Conv1D | nn.Embedding | nn.Linear):
                shrink = (2 * shape.n_layer) ** -0.5 if name.endswith("c_proj") else 1.0
                nn.init.normal_(module.weight, std=shape.initializer_range * shrink)

    def embeddings(self) -> Tensor:
        """Token embeddings [V, D]."""
        return self.transformer.wte.weight

    def output(self) -> Tensor:
        """Output matrix [V, D]."""
        return self.transformer.wte.weight if self.shape.tie_word_embeddings else self.lm_head.weight

    def enter(self, embedded: Tensor, position: Tensor) -> tuple[Tensor, Rotary]:
        """Token plus position, and dropout."""
        x = embedded + functional.embedding(position, self.transformer.wpe.weight)
        return functional.dropout(x, p=self.shape.resid_pdrop, training=self.training), None

    def leave(self, x: Tensor) -> Tensor:
        """The norm before the output."""
        out: Tensor = self.transformer.ln_f(x)
        return out

    def blocks(self) -> list[DecoderLayer]:
        """The layers in order."""
        return [layer for layer in self.transformer.h if isinstance(layer, Gpt2Layer)]
