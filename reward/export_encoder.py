"""`python -m reward.export_encoder FOLDER TARGET`: a sentence model as one ONNX graph, mean-pooled and normalised."""

from __future__ import annotations

import json
import sys
import uuid
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModel

from schemas.errors import Incompatible


class _Sentence(torch.nn.Module):
    """Token states averaged over the mask, unit length: [B, S] and [B, S] to [B, D]."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states_BSD = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask_BS1 = attention_mask.unsqueeze(-1).to(states_BSD.dtype)
        mean_BD = (states_BSD * mask_BS1).sum(1) / mask_BS1.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean_BD, dim=1)


def export(folder: Path, target: Path) -> None:
    """Write the graph to ``target``, whole or not at all.

    Raises:
        Incompatible: the model pools otherwise than by the mean.
    """
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file() and not json.loads(pooling.read_text()).get("pooling_mode_mean_tokens", False):
        raise Incompatible(f"pooling of {folder}", "mean of the tokens", "another", "use a mean-pooled sentence model")
    torch.set_num_threads(1)
    loader: Any = AutoModel
    model = loader.from_pretrained(str(folder), attn_implementation="eager")
    # eval() on the wrapper: the exporter reads the outer module's mode, and would otherwise export dropout.
    sentence = _Sentence(cast(torch.nn.Module, model)).eval()
    ids_BS = torch.tensor([[101, 2417, 102], [101, 6007, 102]])
    axes = {0: "batch", 1: "pieces"}
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own traced constants
        torch.onnx.export(
            sentence,
            (ids_BS, torch.ones_like(ids_BS)),
            str(scratch),
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "batch"}},
            dynamo=False,
        )
    scratch.replace(target)


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
