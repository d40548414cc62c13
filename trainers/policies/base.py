"""What every policy offers: prompts in, a distribution over identifiers out, level by level.

A policy is generic about its backbone: rollouts, beam search, the losses and the server speak to `Policy` alone.
Letters: B prompts, R rows per prompt (rollouts or beams), G rollouts, L levels, S prompt tokens, K the level's codebook
size, V the whole vocabulary, E the sentence embedding's width, D hidden width, H heads, C width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainers.identifiers.trie import Trie
from trainers.policies.packing import Ragged
from trainers.policies.settings import PolicySettings
from trainers.policies.table import Table
from trainers.policies.tokenizer import PromptTokenizer

#: A layer's keys and values, as `EncoderState` or `DecodeState` holds them.
Cache = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PromptContext:
    """What a request knows about itself. Recent queries, clicked items and ordered items come newest first.

    ``ts`` is its event time (ms); 0: it has none, and every item counts as available. ``keywords`` of the query are for a teacher
    (`trainers.lessons`): no search has them.
    """

    query: str
    recent_queries: tuple[str, ...] = ()
    recent_items: tuple[str, ...] = ()
    recent_orders: tuple[str, ...] = ()
    ts: int = 0
    keywords: tuple[str, ...] = ()


class Asked(Protocol):
    """Whatever a search is known by: a request, its impression, its view, its training example."""

    @property
    def query(self) -> str: ...

    @property
    def ts(self) -> int: ...

    @property
    def recent_queries(self) -> tuple[str, ...]: ...

    @property
    def recent_items(self) -> tuple[str, ...]: ...

    @property
    def recent_orders(self) -> tuple[str, ...]: ...


def context_of(asked: Asked) -> PromptContext:
    """The one way from a search to its prompt, so that what the server saw is what the learner learns from."""
    return PromptContext(asked.query, asked.recent_queries, asked.recent_items, asked.recent_orders, asked.ts)


@dataclass(frozen=True)
class PromptBatch:
    """B prompts, padded on the right. The first tokens of a row are slots (`trainers.policies.slots`): vectors enter there."""

    tokens_BS: Tensor  #: int64
    mask_BS: Tensor  #: bool, False on padding
    dense_BE: Tensor  #: float32, unit rows: the query's sentence embedding
    history_BJE: Tensor | None = None  #: float32, the user's long history, where the policy has slots for it

    def __len__(self) -> int:
        return len(self.tokens_BS)

    def rows(self, index_P: Tensor) -> PromptBatch:
        """The prompts at these positions, cut to their own longest."""
        mask_PS = self.mask_BS[index_P]
        width = int(mask_PS.sum(dim=1).max())
        history = None if self.history_BJE is None else self.history_BJE[index_P]
        return PromptBatch(self.tokens_BS[index_P, :width], mask_PS[:, :width], self.dense_BE[index_P], history)

    def to(self, device: torch.device | str) -> PromptBatch:
        """The same prompts on another device."""
        history = None if self.history_BJE is None else self.history_BJE.to(device)
        return PromptBatch(self.tokens_BS.to(device), self.mask_BS.to(device), self.dense_BE.to(device), history)


@dataclass(frozen=True)
class EncoderState:
    """What all rows of a prompt share: keys and values of the prompt for every layer that writes.

    Those of the cross-attention in an encoder-decoder, of the prompt's segment in a decoder-only model.
    """

    keys_BHSC: tuple[Tensor, ...]
    values_BHSC: tuple[Tensor, ...]
    bias_B11S: Tensor  #: added to attention scores: 0 on tokens, a large negative number on padding
    table: Table | None = None  #: of embeddings, in the graph of this pass; None: each reader takes the weights themselves

    def __len__(self) -> int:
        return len(self.bias_B11S)

    @property
    def lengths_B(self) -> Tensor:
        """Tokens of each prompt, int64."""
        return (self.bias_B11S == 0).sum(dim=(1, 2, 3))


@dataclass(frozen=True)
class DecodeState:
    """R rows per prompt, ``depth`` codes long each: keys and values of those codes for every decoder layer.

    Prompts may have fewer rows than the one with the most: their last of the R are then gaps, which cost nothing.
    """

    encoder: EncoderState
    depth: int
    keys_PHTC: tuple[Tensor, ...] = ()  #: T = depth; P rows of all prompts together, without the gaps
    values_PHTC: tuple[Tensor, ...] = ()
    ragged: Ragged | None = None  #: where the P rows stand among [B, R]; None at the start: one a prompt

    @property
    def rows(self) -> Ragged:
        """`ragged`, said in full."""
        return self.ragged or Ragged(len(self.encoder), 1, None)

    def past(self, layer: int) -> Cache | None:
        """A layer's keys and values of the codes so far; None at the start."""
        return (self.keys_PHTC[layer], self.values_PHTC[layer]) if self.depth else None

    def prompt(self, layer: int) -> Cache:
        """A layer's keys and values of the prompts [B, H, S, C]."""
        return self.encoder.keys_BHSC[layer], self.encoder.values_BHSC[layer]

    def longer(self, caches: Sequence[Cache], rows: Ragged) -> DecodeState:
        """These rows of the same prompts, with every layer's keys and values, which say how far they have come."""
        keys, values = tuple(key for key, _ in caches), tuple(value for _, value in caches)
        return DecodeState(self.encoder, keys[0].shape[2], keys, values, rows)

    def select(self, rows_BR: Tensor, wanted: Ragged | None = None) -> DecodeState:
        """Row r of the result continues row ``rows_BR[b, r]`` (int64 [B, R]); used to branch and to reorder beams.

        ``wanted``: which of the R rows are there; None: all.
        """
        wanted = wanted or Ragged(rows_BR.shape[0], rows_BR.shape[1], None)
        at_P = wanted.flatten(self.rows.starts(rows_BR.device)[:, None] + rows_BR)
        keys, values = (
            tuple(cache.index_select(0, at_P) for cache in caches) for caches in (self.keys_PHTC, self.values_PHTC)
        )
        return DecodeState(self.encoder, self.depth, keys, values, wanted)


class Ahead(NamedTuple):
    """X rows per prompt that go one code further than a step's own R rows, each of which may be continued by any number of them."""

    row_BX: Tensor  #: int64: which of the step's rows it continues
    code_BX: Tensor  #: int64: by which code
    rows: Ragged  #: where there is a row; elsewhere the other two mean nothing


class Policy(Protocol):
    """A generative retriever over identifiers of L levels.

    ``train()`` mode only switches dropout on; the sampled and the trained distribution are one when it is off.
    """

    @property
    def module(self) -> nn.Module:
        """All parameters: for the optimiser, ``state_dict``, ``train`` and ``eval``."""

    @property
    def tokenizer(self) -> PromptTokenizer:
        """Text pieces and identifier tokens; ``tokenizer.level_sizes`` and ``tokenizer.level_start`` are the levels."""

    @property
    def settings(self) -> PolicySettings:
        """As the policy was made."""

    @property
    def codebook_version(self) -> str:
        """Identifiers it was trained with; it must not be used with others."""

    def embeddings(self) -> Tensor:
        """The parameter that holds the token embeddings [V, D]."""

    def encode(self, prompts: PromptBatch) -> EncoderState:
        """Read B prompts once; everything below works from the result."""

    def advance(self, state: DecodeState, codes_BR: Tensor | None) -> tuple[Tensor, DecodeState]:
        """One step of decoding: (hidden_BRD that predicts the next level, the longer state).

        ``codes_BR`` are the codes of level ``state.depth - 1``; None at the start (depth 0, R = 1). What stands in a
        state's gaps, in ``codes_BR`` and in the result, means nothing.
        """

    def advance_twice(
        self, state: DecodeState, codes_BR: Tensor | None, ahead: Ahead
    ) -> tuple[tuple[Tensor, DecodeState], tuple[Tensor, DecodeState]]:
        """`advance`, and `advance` from there of the rows ``ahead``, in one pass."""

    def teacher_forced(self, state: EncoderState, sids_BGL: Tensor) -> Tensor:
        """hidden_BGLD: what `advance` would give before every level of given identifiers, in one pass, with gradient."""

    def level_logits(self, level: int, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., K_level]: this level's tokens only."""

    def vocabulary_logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]: every token, text included."""

    def logprobs(
        self, prompts: PromptBatch | EncoderState, sids_BGL: Tensor, trie: Trie, temperature: float = 1.0
    ) -> Tensor:
        """logp_BGL of each code, renormalised over the trie's allowed children, with gradient.

        The tempered policy is softmax(logits / temperature) over the allowed children: sampled and trained as itself.

        Raises:
            InvalidValue: an identifier that is not in the trie, or a temperature that is not positive.
        """

    def full_logits(self, prompts: PromptBatch | EncoderState, sids_BL: Tensor) -> Tensor:
        """logits_BLV over the whole vocabulary, with gradient: row l predicts code l, given the codes before it."""

    def full_ce(self, prompts: PromptBatch | EncoderState, sids_BL: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """ce_BL in nats: cross-entropy of each code over the whole vocabulary, with gradient (the SFT term).

        ``label_smoothing``: share of the target spread evenly over the vocabulary.
        """

    def save(self, folder: Path) -> None:
        """Write ``model/`` (opens with transformers' ``from_pretrained``), ``extra.safetensors`` and ``policy.json``."""
