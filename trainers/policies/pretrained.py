"""A policy from a folder with a pretrained BART, GPT-2 or Qwen3: its vocabulary extended by identifier tokens.

transformers reads the folder, whatever its age and form; from there on the parameters are ours. New tokens start from the
statistics of the text's: at the mean of its rows, away from it as far as a text token is on (root mean square) average.
Identifiers go there in the direction of their centroids, projected as the query's embedding is, each level keeping its own
geometry; separators and slots in a random one. An output matrix that is not tied is treated likewise.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from schemas.errors import Corrupt, Incompatible, InvalidSetting, Unavailable
from trainers.policies import folder as folders
from trainers.policies.backbones import backbone
from trainers.policies.geometry import Centroids, fresh_projection, identifiers_at_centroids
from trainers.policies.levels import LevelPolicy, slots_of
from trainers.policies.settings import PolicySettings
from trainers.policies.tokenizer import PromptTokenizer, sizes_in

REMEDY = "use a folder that save_pretrained of a BART, GPT-2 or Qwen3 model and its tokenizer wrote"


def adopt(
    settings: PolicySettings,
    level_sizes: Sequence[int],
    codebook_version: str,
    dense_width: int,
    seed: int,
    centroids: Centroids,
) -> LevelPolicy:
    """A policy over the model in ``settings.pretrained``, in evaluation mode; its settings say the folder's sizes.

    Raises:
        Unavailable: there is no such folder, or no config.json in it.
        Corrupt: transformers cannot read it.
        Incompatible: it holds another kind of model, or a variant that is not supported.
        InvalidSetting: prompts are longer than the model's positions.
    """
    folder = Path(settings.pretrained)
    kind = backbone(_model_type(folder), f"model type of {folder}")
    tokenizer, texts, theirs = _read(folder, kind.backbone, level_sizes)
    with tempfile.TemporaryDirectory(prefix="headrace-pretrained-") as place:
        theirs.save_pretrained(place, max_shard_size="1TB")
        changes = {kind.dropout_name: settings.dropout, **tokenizer.ids()}
        shape = replace(kind.shape_type.load(Path(place)), **changes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = kind.model_type(shape)
            folders.load_weights(model, Path(place) / "model.safetensors", repeated=model.repeated)
            sized = _sized(settings, kind.sizes(shape), kind.backbone, shape.positions, len(level_sizes))
            policy = kind(model, tokenizer, sized, codebook_version, slots_of(dense_width, sized))
            _start(policy, texts, centroids)
    return policy.eval()


def _model_type(folder: Path) -> str:
    path = folder / "config.json"
    if not path.exists():
        raise Unavailable(str(path), "no such file", REMEDY)
    try:
        return str(json.loads(path.read_text()).get("model_type"))
    except (json.JSONDecodeError, AttributeError) as error:
        raise Corrupt(str(path), str(error), REMEDY) from error


def _read(folder: Path, name: str, level_sizes: Sequence[int]) -> tuple[PromptTokenizer, int, Any]:
    """The extended tokenizer, how many tokens it had, and transformers' model with as many rows as it needs."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        text = AutoTokenizer.from_pretrained(folder)
        kind = AutoModelForSeq2SeqLM if name == "bart" else AutoModelForCausalLM
        theirs = kind.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise Corrupt(str(folder), str(error).strip().split("\n")[0], REMEDY) from error
    if not text.is_fast:
        raise Incompatible(f"tokenizer of {folder}", "one of the tokenizers library", type(text).__name__, REMEDY)
    if (known := sizes_in(text.get_vocab())) and known != tuple(level_sizes):
        remedy = "name the folder of the text model that it was made from, or build identifiers of its level sizes"
        raise Incompatible(
            f"identifier tokens of {folder}", f"none, or level sizes {tuple(level_sizes)}", str(known), remedy
        )
    roles = {role: getattr(text, f"{role}_token") for role in ("bos", "pad", "eos")}
    start = getattr(theirs.config, "decoder_start_token_id", None)
    if name == "bart" and start is not None:  # what its decoder has learned to begin with
        roles["bos"] = text.convert_ids_to_tokens(start)
    texts = len(text)
    tokenizer = PromptTokenizer.extend(text.backend_tokenizer, {k: v for k, v in roles.items() if v}, level_sizes)
    rows = max(theirs.get_input_embeddings().weight.shape[0], len(tokenizer))
    theirs.resize_token_embeddings(rows, mean_resizing=False)
    return tokenizer, texts, theirs


def _sized(settings: PolicySettings, sizes: dict[str, Any], name: str, positions: int, levels: int) -> PolicySettings:
    longest = settings.prompt.longest(levels) + levels + 1
    if longest > positions:
        raise InvalidSetting(
            "trainers.policy.prompt", f"up to {longest} tokens with the identifier",
            f"at most {positions}, the positions of the pretrained model", "shorten the prompt's parts",
        )  # fmt: skip
    return PolicySettings.model_validate(settings.model_dump() | sizes | {"backbone": name})


@torch.no_grad()
def _start(policy: LevelPolicy, texts: int, centroids: Centroids) -> None:
    """Give the new rows their start."""
    tables = {id(table): table for table in (policy.embeddings(), policy.output()[0])}.values()
    for number, table_VD in enumerate(tables):
        mean_D, std = _statistics(table_VD[:texts])
        if number == 0:
            fresh_projection(policy.dense, std)
        table_VD[texts:] = mean_D + std * torch.randn_like(table_VD[texts:])
        identifiers_at_centroids(table_VD, policy.dense, policy.tokenizer, std, centroids, mean_D)


def _statistics(rows_VD: Tensor) -> tuple[Tensor, float]:
    mean_D = rows_VD.mean(dim=0)
    return mean_D, float((rows_VD - mean_D).square().mean().sqrt())
