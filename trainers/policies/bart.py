"""The encoder-decoder policy: BART's parameters, a level-wise decoder of our own.

The prompt is read once and its cross-attention keys and values are shared by all rows; a step computes the logits of its
level alone; a teacher-forced pass runs over the distinct prefixes (`trainers.policies.packing`). The dense query vector
enters through token 0 of the prompt. Letters as in `trainers.policies.base`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainers.identifiers.trie import Trie
from trainers.policies import folder as folders
from trainers.policies.bart_layers import cross_cache, encoder_layer, step_layer, tree_layer
from trainers.policies.bart_modules import POSITION_OFFSET, TIED, BartModel, BartShape, Side
from trainers.policies.base import DecodeState, EncoderState, PromptBatch
from trainers.policies.geometry import fresh_embeddings
from trainers.policies.packing import PrefixTree, Ragged, pack
from trainers.policies.restricted import TrieTables, check_levels, check_temperature, restricted_logp
from trainers.policies.settings import PolicySettings
from trainers.policies.tokenizer import PromptTokenizer


class BartPolicy(nn.Module):
    """A `trainers.policies.base.Policy` over `BartModel`."""

    backbone = "bart"

    def __init__(
        self,
        model: BartModel,
        tokenizer: PromptTokenizer,
        settings: PolicySettings,
        version: str,
        width: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.dense = nn.Linear(width, settings.d_model, bias=False)
        self.tokenizer, self.settings, self.codebook_version = tokenizer, settings, version

    @classmethod
    def create(
        cls,
        settings: PolicySettings,
        tokenizer: PromptTokenizer,
        codebook_version: str,
        dense_width: int,
        seed: int,
        centroids: Sequence[NDArray[np.float32]] | None = None,
    ) -> BartPolicy:
        """A policy from scratch, in evaluation mode; the same seed gives the same weights.

        ``centroids``: per level [K, E] in the space of the dense query vector, from which identifier embeddings start
        (narrower ones are taken as coordinates of their own). Without them identifiers start at random.

        Raises:
            InvalidValue: centroids that do not have one row for every code.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            policy = cls(
                BartModel(_shape(settings, tokenizer)),
                tokenizer,
                settings,
                codebook_version,
                dense_width,
            )
            shared = policy.model.model.shared.weight
            with torch.no_grad():
                fresh_embeddings(shared, policy.dense.weight, tokenizer, settings.init_std, centroids)
        return policy.eval()

    @classmethod
    def load(cls, folder: Path, about: folders.About) -> BartPolicy:
        """From a folder that `save` wrote; use `trainers.policies.load_policy`, which reads ``about`` first."""
        tokenizer = PromptTokenizer.load(folder / "model")
        shape = BartShape.load(folder / "model")
        with torch.random.fork_rng(devices=[]):  # building the modules draws random numbers that nobody asked for
            model = BartModel(shape)
            policy = cls(model, tokenizer, about.settings, about.codebook_version, about.dense_width)
        folders.load_weights(model, folder / "model" / "model.safetensors", repeated=TIED)
        folders.load_weights(policy.dense, folder / folders.EXTRA)
        return policy.eval()

    def save(self, folder: Path) -> None:
        """Write ``model/`` (opens with ``from_pretrained``), ``extra.safetensors`` and ``policy.json``."""
        self.tokenizer.save(folder / "model")
        self.model.shape.save(folder / "model")
        folders.save_weights(self.model, folder / "model" / "model.safetensors")
        folders.save_weights(self.dense, folder / folders.EXTRA)
        about = folders.About(self.backbone, self.codebook_version, self.dense.in_features, self.settings)
        folders.save_about(folder, about)

    @property
    def module(self) -> nn.Module:
        """Itself: all parameters."""
        return self

    def encode(self, prompts: PromptBatch) -> EncoderState:
        """Read B prompts once."""
        encoder, ragged = self.model.model.encoder, Ragged.of(prompts.mask_BS)
        width = prompts.tokens_BS.shape[1]
        token_BSD = functional.embedding(prompts.tokens_BS, self.model.model.shared.weight)
        dense_BE = prompts.dense_BE.to(self.dense.weight.dtype)
        slot_BSD = functional.pad(self.dense(dense_BE)[:, None], (0, 0, 0, width - 1))
        position_SD = encoder.embed_positions.weight[POSITION_OFFSET : POSITION_OFFSET + width]
        x_PD = ragged.flatten(self._enter(encoder, token_BSD + slot_BSD, position_SD))
        bias_BS = torch.zeros(prompts.mask_BS.shape, dtype=x_PD.dtype, device=x_PD.device)
        bias_B11S = bias_BS.masked_fill_(~prompts.mask_BS, torch.finfo(x_PD.dtype).min)[:, None, None]
        for layer in encoder.blocks():
            x_PD = encoder_layer(layer, x_PD, ragged, bias_B11S)
        caches = [cross_cache(layer, x_PD, ragged) for layer in self.model.model.decoder.blocks()]
        return EncoderState(tuple(k for k, _ in caches), tuple(v for _, v in caches), bias_B11S)

    def advance(self, state: DecodeState, codes_BR: Tensor | None) -> tuple[Tensor, DecodeState]:
        """One step of decoding: (hidden_BRD that predicts the next level, the longer state)."""
        prompts = len(state.encoder)
        if codes_BR is None:
            tokens_BR = torch.full((prompts, 1), self.tokenizer.bos, device=state.encoder.bias_B11S.device)
        else:
            tokens_BR = codes_BR + self.tokenizer.level_start[state.depth - 1]
        decoder = self.model.model.decoder
        x_BRD = functional.embedding(tokens_BR, self.model.model.shared.weight)
        x_BRD = self._enter(decoder, x_BRD, decoder.embed_positions.weight[POSITION_OFFSET + state.depth])
        keys, values = [], []
        for n, layer in enumerate(decoder.blocks()):
            past = (state.keys_BRHTC[n], state.values_BRHTC[n]) if state.depth else None
            shared = state.encoder.keys_BHSC[n], state.encoder.values_BHSC[n]
            x_BRD, key, value = step_layer(layer, x_BRD, past, *shared, state.encoder.bias_B11S)
            keys.append(key)
            values.append(value)
        return x_BRD, DecodeState(state.encoder, state.depth + 1, tuple(keys), tuple(values))

    def teacher_forced(self, state: EncoderState, sids_BGL: Tensor) -> Tensor:
        """hidden_BGLD that predicts every level of given identifiers, in one pass, with gradient."""
        tree = pack(sids_BGL, self.tokenizer.level_sizes)
        return tree.spread(self._tree_hidden(state, tree))

    def level_logits(self, level: int, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., K_level]: this level's tokens only."""
        start, size = self.tokenizer.level_start[level], self.tokenizer.level_sizes[level]
        weight, bias = self.model.model.shared.weight, self.model.final_logits_bias
        return functional.linear(hidden, weight[start : start + size], bias[0, start : start + size])

    def vocabulary_logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]: every token, text included."""
        return functional.linear(hidden, self.model.model.shared.weight, self.model.final_logits_bias[0])

    def logprobs(
        self, prompts: PromptBatch | EncoderState, sids_BGL: Tensor, trie: Trie, temperature: float = 1.0
    ) -> Tensor:
        """logp_BGL of each code, renormalised over the trie's allowed children, with gradient (EQUATIONS 4).

        Raises:
            InvalidValue: an identifier that is not in the trie, or a temperature that is not positive.
        """
        check_levels(self.tokenizer.level_sizes, trie)
        check_temperature(temperature)
        tables = TrieTables.of(trie, sids_BGL.device)
        nodes_BGL = tables.path(sids_BGL)
        state = prompts if isinstance(prompts, EncoderState) else self.encode(prompts)
        tree = pack(sids_BGL, self.tokenizer.level_sizes)
        hidden_PD = self._tree_hidden(state, tree)
        columns = []
        for level, (rows, inverse_BG) in enumerate(zip(tree.level_rows, tree.inverse_BG, strict=True)):
            nodes = torch.zeros_like(rows)
            nodes[inverse_BG] = nodes_BGL[..., level]
            logits = self.level_logits(level, hidden_PD.index_select(0, rows))
            logp = restricted_logp(logits, tables.bias(level, nodes), temperature)
            at_BG = inverse_BG * logp.shape[-1] + sids_BGL[..., level]
            columns.append(logp.view(-1).index_select(0, at_BG.reshape(-1)).view(at_BG.shape))
        return torch.stack(columns, dim=-1)

    def full_ce(self, prompts: PromptBatch | EncoderState, sids_BL: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """ce_BL in nats: cross-entropy of each code over the whole vocabulary, with gradient (the SFT term)."""
        state = prompts if isinstance(prompts, EncoderState) else self.encode(prompts)
        logits_BLV = self.vocabulary_logits(self.teacher_forced(state, sids_BL[:, None])[:, 0])
        tokens_BL = sids_BL + torch.tensor(self.tokenizer.level_start, device=sids_BL.device)
        ce = functional.cross_entropy(
            logits_BLV.flatten(0, 1), tokens_BL.reshape(-1), reduction="none", label_smoothing=label_smoothing
        )
        return ce.view(sids_BL.shape)

    def _tree_hidden(self, state: EncoderState, tree: PrefixTree) -> Tensor:
        start = torch.tensor((0, *self.tokenizer.level_start[:-1]), device=tree.code_P.device)
        tokens_P = torch.where(tree.depth_P == 0, self.tokenizer.bos, tree.code_P + start[tree.depth_P])
        decoder = self.model.model.decoder
        x_PD = functional.embedding(tokens_P, self.model.model.shared.weight)
        x_PD = self._enter(
            decoder, x_PD, functional.embedding(tree.depth_P + POSITION_OFFSET, decoder.embed_positions.weight)
        )
        for layer, key_BHSC, value_BHSC in zip(decoder.blocks(), state.keys_BHSC, state.values_BHSC, strict=True):
            x_PD = tree_layer(layer, x_PD, tree, key_BHSC, value_BHSC, state.bias_B11S)
        return x_PD

    def _enter(self, side: Side, embedded: Tensor, position: Tensor) -> Tensor:
        """Token plus position, norm and dropout: the entrance of either side."""
        scale = self.model.shape.d_model**0.5 if self.model.shape.scale_embedding else 1.0
        x: Tensor = side.layernorm_embedding(embedded * scale + position)
        return functional.dropout(x, p=self.model.shape.dropout, training=self.training)


def _shape(settings: PolicySettings, tokenizer: PromptTokenizer) -> BartShape:
    levels = len(tokenizer.level_sizes)
    return BartShape(
        vocab_size=len(tokenizer),
        d_model=settings.d_model,
        encoder_layers=settings.encoder_layers,
        decoder_layers=settings.decoder_layers,
        encoder_ffn_dim=settings.ffn,
        decoder_ffn_dim=settings.ffn,
        encoder_attention_heads=settings.heads,
        decoder_attention_heads=settings.heads,
        max_position_embeddings=max(settings.prompt.longest(levels), levels + 1),
        bos_token_id=tokenizer.bos,
        pad_token_id=tokenizer.pad,
        eos_token_id=tokenizer.eos,
        decoder_start_token_id=tokenizer.bos,
        dropout=settings.dropout,
        init_std=settings.init_std,
    )
