"""The decoder-only policies, GPT-2 and Qwen3: prompt first, then a start token and the identifier, in one causal sequence.

The prompt is read once, gradient included, and all rows of it share its keys and values. The start token (``bos``) stands
after the prompt, as it opens BART's decoder: so the token *before* a code predicts it with every backbone, the first code
as well (the causal shift that the released code forgets), and prefixes form the same tree.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainers.policies.base import Cache, DecodeState, EncoderState, PromptBatch
from trainers.policies.decoder_layers import prompt_layer, step_layer, tree_layer
from trainers.policies.decoder_modules import DecoderModel
from trainers.policies.gpt2_modules import Gpt2Model, Gpt2Shape
from trainers.policies.levels import LevelPolicy
from trainers.policies.packing import PrefixTree, Ragged
from trainers.policies.qwen3_modules import Qwen3Model, Qwen3Shape
from trainers.policies.settings import PolicySettings
from trainers.policies.steps import Step
from trainers.policies.table import Table
from trainers.policies.tokenizer import PromptTokenizer


class DecoderPolicy(LevelPolicy):
    """What both have in common: everything but their parameters."""

    model: DecoderModel

    def encode(self, prompts: PromptBatch) -> EncoderState:
        """Read B prompts once."""
        ragged, width = Ragged.of(prompts.mask_BS), prompts.tokens_BS.shape[1]
        table = Table(self.embeddings())
        embedded_BSD = table.rows(prompts.tokens_BS) + self.dense(prompts)
        position_S = torch.arange(width, device=embedded_BSD.device)
        position_P = ragged.flatten(position_S.expand(len(prompts), -1))
        x_PD, rotary = self.model.enter(ragged.flatten(embedded_BSD), position_P)
        least = torch.finfo(x_PD.dtype).min
        # Padding stands on the right: who looks back alone never sees it.
        bias_SS = torch.full((width, width), least, dtype=x_PD.dtype, device=x_PD.device).triu_(1)
        caches = []
        for layer in self.model.blocks():
            x_PD, cache = prompt_layer(layer, x_PD, rotary, ragged, bias_SS[None, None])
            caches.append(cache)
        bias_BS = torch.zeros(prompts.mask_BS.shape, dtype=x_PD.dtype, device=x_PD.device)
        bias_B11S = bias_BS.masked_fill_(~prompts.mask_BS, least)[:, None, None]
        return EncoderState(tuple(k for k, _ in caches), tuple(v for _, v in caches), bias_B11S, table)

    def step(self, state: DecodeState, step: Step) -> tuple[Tensor, list[list[Cache]]]:
        """One pass over the layers: (hidden_PD that predicts the next level, every layer's keys and values)."""
        length_P = step.all_rows.flatten(state.encoder.lengths_B[:, None].expand(-1, step.all_rows.width))
        x_PD, rotary = self.model.enter(self.table(state.encoder).rows(step.token_P), length_P + step.depth_P)
        caches = []
        for n, layer in enumerate(self.model.blocks()):
            x_PD, cache = step_layer(layer, x_PD, rotary, step, state.past(n), state.prompt(n), state.encoder.bias_B11S)
            caches.append(cache)
        return self.model.leave(x_PD), caches

    def tree_hidden(self, state: EncoderState, tree: PrefixTree) -> Tensor:
        """hidden_PD: of every distinct prefix, what predicts the code after it, with gradient."""
        start = torch.tensor((0, *self.tokenizer.level_start[:-1]), device=tree.code_P.device)
        tokens_P = torch.where(tree.depth_P == 0, self.tokenizer.bos, tree.code_P + start[tree.depth_P])
        length_P = tree.ragged.flatten(state.lengths_B[:, None].expand(-1, tree.ragged.width))
        x_PD, rotary = self.model.enter(self.table(state).rows(tokens_P), length_P + tree.depth_P)
        prompt_B1MS = state.bias_B11S.expand(-1, -1, tree.ragged.width, -1)
        bias_B1MX = torch.cat([prompt_B1MS, tree.bias_B1MM.to(prompt_B1MS.dtype)], dim=-1)
        for layer, key_BHSC, value_BHSC in zip(self.model.blocks(), state.keys_BHSC, state.values_BHSC, strict=True):
            x_PD = tree_layer(layer, x_PD, rotary, tree, (key_BHSC, value_BHSC), bias_B1MX)
        return self.model.leave(x_PD)

    def embeddings(self) -> Tensor:
        """Token embeddings [V, D]."""
        return self.model.embeddings()

    def output(self) -> tuple[Tensor, Tensor | None]:
        """The output matrix, without a bias."""
        return self.model.output(), None


class Gpt2Policy(DecoderPolicy):
    """A `trainers.policies.base.Policy` over `Gpt2Model`."""

    backbone = "gpt2"
    model_type, shape_type, dropout_name = Gpt2Model, Gpt2Shape, "resid_pdrop"

    @staticmethod
    def fresh_shape(settings: PolicySettings, tokenizer: PromptTokenizer) -> Gpt2Shape:
        """The shape that the settings ask for."""
        return Gpt2Shape(
            vocab_size=len(tokenizer),
            n_positions=settings.prompt.longest(len(tokenizer.level_sizes)) + len(tokenizer.level_sizes) + 1,
            n_embd=settings.d_model,
            n_layer=settings.decoder_layers,
            n_head=settings.heads,
            n_inner=settings.ffn,
            bos_token_id=tokenizer.bos,
            eos_token_id=tokenizer.eos,
            pad_token_id=tokenizer.pad,
            initializer_range=settings.init_std,
            resid_pdrop=settings.dropout,
        )

    @staticmethod
    def sizes(shape: Gpt2Shape) -> dict[str, Any]:
        """The settings that describe a shape."""
        return {
            "d_model": shape.n_embd, "decoder_layers": shape.n_layer, "heads": shape.n_head, "kv_heads": 0,
            "ffn": shape.n_inner or 4 * shape.n_embd,
        }  # fmt: skip


class Qwen3Policy(DecoderPolicy):
    """A `trainers.policies.base.Policy` over `Qwen3Model`."""

    backbone = "qwen3"
    model_type, shape_type, dropout_name = Qwen3Model, Qwen3Shape, "residual_dropout"

    @staticmethod
    def fresh_shape(settings: PolicySettings, tokenizer: PromptTokenizer) -> Qwen3Shape:
        """The shape that the settings ask for; embeddings and output are tied."""
        return Qwen3Shape(
            vocab_size=len(tokenizer),
            hidden_size=settings.d_model,
            intermediate_size=settings.ffn,
            num_hidden_layers=settings.decoder_layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.kv_heads or settings.heads,
            head_dim=settings.d_model // settings.heads,
            max_position_embeddings=settings.prompt.longest(len(tokenizer.level_sizes)) + len(tokenizer.level_sizes) + 1,
            bos_token_id=tokenizer.bos,
            eos_token_id=tokenizer.eos,
            pad_token_id=tokenizer.pad,
            initializer_range=settings.init_std,
            residual_dropout=settings.dropout,
            tie_word_embeddings=True,
        )

    @staticmethod
    def sizes(shape: Qwen3Shape) -> dict[str, Any]:
        """The settings that describe a shape."""
        return {
            "d_model": shape.hidden_size, "decoder_layers": shape.num_hidden_layers, "heads": shape.num_attention_heads,
            "kv_heads": shape.num_key_value_heads, "ffn": shape.intermediate_size,
        }  # fmt: skip
