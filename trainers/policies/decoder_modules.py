"""What a decoder-only backbone brings: parameters under transformers' names, and the four pieces of a pass over them.

As with BART (`trainers.policies.bart_modules`), the modules are ours so that a process that loads a policy need not
import transformers; its folder opens with ``from_pretrained`` all the same. Attention is not here: it differs by what
attends to what (`trainers.policies.decoder_layers`), not by backbone.
Letters as in `trainers.policies.base`; N key and value heads, which may be fewer than H.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from schemas.errors import Corrupt

#: What a layer's keys and queries are turned by, (cos, sin), each [..., 1, C]; None where positions entered with the tokens.
Rotary = tuple[Tensor, Tensor] | None


class DecoderShape(Protocol):
    """The part of config.json that decides parameters and forward pass."""

    @property
    def positions(self) -> int:
        """Most tokens of prompt and identifier together."""

    def save(self, folder: Path) -> None:
        """Write config.json."""


class DecoderLayer(nn.Module, ABC):
    """One layer, cut in two around its attention. ``dropout`` acts on what a layer adds, in training mode."""

    heads: int
    kv_heads: int
    head_dim: int
    scaling: float
    dropout: float = 0.0

    @abstractmethod
    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """[..., D] to queries [..., H, C], keys and values [..., N, C]."""

    @abstractmethod
    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """From what attention mixed, [..., H C], to the layer's output [..., D]."""


class DecoderModel(nn.Module, ABC):
    """All parameters of a backbone."""

    shape: DecoderShape
    #: Names under which a file may repeat the token embeddings.
    repeated: tuple[str, ...]

    @abstractmethod
    def embeddings(self) -> Tensor:
        """Token embeddings [V, D]."""

    @abstractmethod
    def output(self) -> Tensor:
        """Output matrix [V, D]; the embeddings themselves where the two are tied."""

    @abstractmethod
    def enter(self, embedded: Tensor, position: Tensor) -> tuple[Tensor, Rotary]:
        """Token embeddings [..., D] at positions [...]: what the first layer reads."""

    @abstractmethod
    def leave(self, x: Tensor) -> Tensor:
        """The norm before the output."""

    @abstractmethod
    def blocks(self) -> list[DecoderLayer]:
        """The layers in order."""


def read_config(folder: Path) -> Mapping[str, Any]:
    """config.json as it stands.

    Raises:
        Corrupt: it is missing, or no JSON object.
    """
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise Corrupt(str(path), str(error), "use the checkpoint before it") from error
    if not isinstance(data, dict):
        raise Corrupt(str(path), "not a JSON object", "use the checkpoint before it")
    return data
