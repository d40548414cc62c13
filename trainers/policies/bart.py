"""The encoder-decoder policy: BART's parameters, a level-wise decoder of our own.

The prompt is read once and its cross-attention keys and values are shared by all rows; a step computes the logits of its
level alone; a teacher-forced pass runs over the distinct prefixes (`trainers.policies.packing`). Vectors
enter through the first tokens of the prompt (`trainers.policies.slots`). Letters as in `trainers.policies.base`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainers.policies.bart_layers import cross_cache, encoder_layer, step_layer, tree_layer
from trainers.policies.bart_modules import POSITION_OFFSET, BartModel, BartShape, Side
from trainers.policies.base import Cache, DecodeState, EncoderState, PromptBatch
from trainers.policies.levels import LevelPolicy
from trainers.policies.packing import PrefixTree, Ragged
from trainers.policies.settings import PolicySettings
from trainers.policies.steps import Step
from trainers.policies.table import Table
from trainers.policies.tokenizer import PromptTokenizer


class BartPolicy(LevelPolicy):
    """A `trainers.policies.base.Policy` over `BartModel`."""

    backbone = "bart"
    model_type, shape_type, dropout_name = BartModel, BartShape, "dropout"
    model: BartModel

    @staticmethod
    def fresh_shape(settings: PolicySettings, tokenizer: PromptTokenizer) -> BartShape:
        """The shape that the settings ask for."""
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

    @staticmethod
    def sizes(shape: BartShape) -> dict[str, Any]:
        """The settings that describe a shape; of sides that differ, the decoder's."""
        return {
            "d_model": shape.d_model, "encoder_layers": shape.encoder_layers, "decoder_layers": shape.decoder_layers,
            "heads": shape.decoder_attention_heads, "kv_heads": 0, "ffn": shape.decoder_ffn_dim,
        }  # fmt: skip

    def encode(self, prompts: PromptBatch) -> EncoderState:
        """Read B prompts once."""
        encoder, ragged = self.model.model.encoder, Ragged.of(prompts.mask_BS)
        width = prompts.tokens_BS.shape[1]
        table = Table(self.embeddings())
        token_BSD = table.rows(prompts.tokens_BS)
        position_SD = encoder.embed_positions.weight[POSITION_OFFSET : POSITION_OFFSET + width]
        x_PD = ragged.flatten(self._enter(encoder, token_BSD + self.dense(prompts), position_SD))
        bias_BS = torch.zeros(prompts.mask_BS.shape, dtype=x_PD.dtype, device=x_PD.device)
        bias_B11S = bias_BS.masked_fill_(~prompts.mask_BS, torch.finfo(x_PD.dtype).min)[:, None, None]
        for layer in encoder.blocks():
            x_PD = encoder_layer(layer, x_PD, ragged, bias_B11S)
        caches = [cross_cache(layer, x_PD, ragged) for layer in self.model.model.decoder.blocks()]
        return EncoderState(tuple(k for k, _ in caches), tuple(v for _, v in caches), bias_B11S, table)

    def step(self, state: DecodeState, step: Step) -> tuple[Tensor, list[list[Cache]]]:
        """One pass over the decoder's layers: (hidden_PD that predicts the next level, every layer's keys and values)."""
        decoder = self.model.model.decoder
        position_PD = functional.embedding(step.depth_P + POSITION_OFFSET, decoder.embed_positions.weight)
        x_PD = self._enter(decoder, self.table(state.encoder).rows(step.token_P), position_PD)
        caches = []
        for n, layer in enumerate(decoder.blocks()):
            x_PD, cache = step_layer(layer, x_PD, step, state.past(n), state.prompt(n), state.encoder.bias_B11S)
            caches.append(cache)
        return x_PD, caches

    def tree_hidden(self, state: EncoderState, tree: PrefixTree) -> Tensor:
        """hidden_PD: of every distinct prefix, what predicts the code after it, with gradient."""
        start = torch.tensor((0, *self.tokenizer.level_start[:-1]), device=tree.code_P.device)
        tokens_P = torch.where(tree.depth_P == 0, self.tokenizer.bos, tree.code_P + start[tree.depth_P])
        decoder = self.model.model.decoder
        x_PD = self.table(state).rows(tokens_P)
        x_PD = self._enter(
            decoder, x_PD, functional.embedding(tree.depth_P + POSITION_OFFSET, decoder.embed_positions.weight)
        )
        for layer, key_BHSC, value_BHSC in zip(decoder.blocks(), state.keys_BHSC, state.values_BHSC, strict=True):
            x_PD = tree_layer(layer, x_PD, tree, key_BHSC, value_BHSC, state.bias_B11S)
        return x_PD

    def embeddings(self) -> Tensor:
        """Token embeddings [V, D]."""
        return self.model.model.shared.weight

    def output(self) -> tuple[Tensor, Tensor | None]:
        """The shared embeddings and the final bias."""
        return self.model.model.shared.weight, self.model.final_logits_bias[0]

    def _enter(self, side: Side, embedded: Tensor, position: Tensor) -> Tensor:
        """Token plus position, norm and dropout: the entrance of either side."""
        scale = self.model.shape.d_model**0.5 if self.model.shape.scale_embedding else 1.0
        x: Tensor = side.layernorm_embedding(embedded * scale + position)
        return functional.dropout(x, p=self.model.shape.dropout, training=self.training)
