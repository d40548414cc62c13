"""BART's parameters under the names and shapes that transformers gives them, and its config.json.

A folder with these opens with ``BartForConditionalGeneration.from_pretrained`` and the other way round (tests hold both,
logits and gradients included). The modules are ours because importing transformers' costs every process that loads a
policy 300 MB and several seconds, for a forward pass that the policy replaces anyway.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import Corrupt, Incompatible
from trainers.policies.linear import ACTIVATIONS, Linear

POSITION_OFFSET = 2  #: BART keeps two unused rows before position 0
#: Names under which a file may repeat ``model.shared.weight``.
TIED = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True)
class BartShape:
    """The part of config.json that decides parameters and forward pass; names are transformers'."""

    vocab_size: int
    d_model: int
    encoder_layers: int
    decoder_layers: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    encoder_attention_heads: int
    decoder_attention_heads: int
    max_position_embeddings: int
    bos_token_id: int
    pad_token_id: int
    eos_token_id: int
    decoder_start_token_id: int
    dropout: float = 0.0
    init_std: float = 0.02
    activation_function: str = "gelu"
    scale_embedding: bool = False

    @property
    def positions(self) -> int:
        """Most tokens of a prompt."""
        return self.max_position_embeddings

    def save(self, folder: Path) -> None:
        """Write config.json."""
        fixed: dict[str, Any] = {
            "architectures": ["BartForConditionalGeneration"],
            "model_type": "bart",
            "is_encoder_decoder": True,
            "tie_word_embeddings": True,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "forced_eos_token_id": None,
            "dtype": "float32",
        }
        (folder / "config.json").write_text(json.dumps(fixed | asdict(self), indent=1, sort_keys=True))

    @classmethod
    def load(cls, folder: Path) -> BartShape:
        """Read config.json.

        Raises:
            Corrupt: it is missing, not JSON, or lacks a field.
            Incompatible: another architecture, or an activation function that is not known.
        """
        path = folder / "config.json"
        try:
            data = json.loads(path.read_text())
            shape = cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})
        except (OSError, json.JSONDecodeError, TypeError) as error:
            raise Corrupt(str(path), str(error), "use the checkpoint before it") from error
        if data.get("model_type") != "bart" or shape.activation_function not in ACTIVATIONS:
            found = (data.get("model_type"), shape.activation_function)
            raise Incompatible(str(path), ("bart", tuple(ACTIVATIONS)), found, "use a folder of a BART model")
        return shape


class Attention(nn.Module):
    """Projections of one attention block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scaling = heads, width // heads, (width // heads) ** -0.5
        self.k_proj, self.v_proj = Linear(width, width), Linear(width, width)
        self.q_proj, self.out_proj = Linear(width, width), Linear(width, width)


class Layer(nn.Module):
    """One layer; `encoder_attn` is there in the decoder only."""

    encoder_attn: Attention
    encoder_attn_layer_norm: nn.LayerNorm

    def __init__(self, shape: BartShape, decoder: bool) -> None:
        super().__init__()
        width = shape.d_model
        heads = shape.decoder_attention_heads if decoder else shape.encoder_attention_heads
        ffn = shape.decoder_ffn_dim if decoder else shape.encoder_ffn_dim
        self.dropout, self.activation = shape.dropout, ACTIVATIONS[shape.activation_function]
        self.self_attn, self.self_attn_layer_norm = Attention(width, heads), nn.LayerNorm(width)
        if decoder:
            self.encoder_attn, self.encoder_attn_layer_norm = Attention(width, heads), nn.LayerNorm(width)
        self.fc1, self.fc2, self.final_layer_norm = Linear(width, ffn), Linear(ffn, width), nn.LayerNorm(width)


class Side(nn.Module):
    """Encoder or decoder: positions, entrance norm, layers. Token embeddings are the backbone's shared ones."""

    def __init__(self, shape: BartShape, decoder: bool) -> None:
        super().__init__()
        self.embed_positions = nn.Embedding(shape.max_position_embeddings + POSITION_OFFSET, shape.d_model)
        self.layernorm_embedding = nn.LayerNorm(shape.d_model)
        count = shape.decoder_layers if decoder else shape.encoder_layers
        self.layers = nn.ModuleList(Layer(shape, decoder) for _ in range(count))

    def blocks(self) -> list[Layer]:
        """The layers, with their type."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]


class Backbone(nn.Module):
    """Shared token embeddings, encoder, decoder."""

    def __init__(self, shape: BartShape) -> None:
        super().__init__()
        self.shared = nn.Embedding(shape.vocab_size, shape.d_model)
        self.encoder, self.decoder = Side(shape, decoder=False), Side(shape, decoder=True)


class BartModel(nn.Module):
    """All parameters, fresh ones drawn from torch's generator."""

    final_logits_bias: Tensor
    repeated = TIED

    def __init__(self, shape: BartShape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Backbone(shape)
        self.register_buffer("final_logits_bias", torch.zeros(1, shape.vocab_size))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=shape.init_std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
