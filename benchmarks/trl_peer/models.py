"""Models of transformers as TRL's trainer calls them, restricted to a catalogue: thin adapters.

TRL trains the distribution over the whole vocabulary, but what is sampled is restricted to the catalogue: an expert who wants
the gradient of what he samples masks the logits. TRL's own head on a CPU knows no mask, and scores the prompts' positions as well;
the adapters score the identifier's positions alone, as TRL does on a GPU. TRL knows causal models only: BART is presented as one whose
sequence is the prompt, which goes to the encoder, and then the identifier. Everything else is TRL's: rollouts, advantages, ratio, clipping, loss, metrics.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import BartForConditionalGeneration, GPT2LMHeadModel
from trl.trainer.utils import FusedCausalLMOutput

from benchmarks.trl_peer.work import nested


class Catalogue:
    """Which tokens may follow a prefix of an identifier."""

    def __init__(self, sids_NL: Sequence[Sequence[int]]) -> None:
        self.levels = len(sids_NL[0])
        self._root = nested(sids_NL)
        self._tensors: dict[int, Tensor] = {}  # by the id of a dictionary, all of which live as long as this

    def next(self, prefix: Sequence[int]) -> list[int]:
        """The allowed tokens, as `prefix_allowed_tokens_fn` gives them."""
        return list(self._at(prefix))

    def mask(self, sids_RL: Tensor, vocabulary: int) -> Tensor:
        """bool [R, L, V]: True where a token may not stand."""
        forbidden_XV = torch.ones(sids_RL.numel(), vocabulary, dtype=torch.bool)
        for row, sid in enumerate(sids_RL.tolist()):
            node = self._root
            for level, token in enumerate(sid):
                if id(node) not in self._tensors:
                    self._tensors[id(node)] = torch.tensor(list(node))
                forbidden_XV[row * self.levels + level, self._tensors[id(node)]] = False
                node = node[token]
        return forbidden_XV.view(*sids_RL.shape, vocabulary)

    def _at(self, prefix: Sequence[int]) -> dict[int, Any]:
        node = self._root
        for token in prefix:
            node = node[token]
        return node


class _Restricted:
    """What both have in common. ``scored`` is the last log-probabilities [R, L] that TRL was given."""

    catalogue: Catalogue
    scored: Tensor

    def score(self, logits_RLV: Tensor, sids_RL: Tensor) -> FusedCausalLMOutput:
        """Log-probabilities and entropies of identifiers among what the catalogue allows."""
        forbidden_RLV = self.catalogue.mask(sids_RL, logits_RLV.shape[-1])
        logp_RLV = logits_RLV.masked_fill(forbidden_RLV, -torch.inf).log_softmax(dim=-1)
        logp_RL = logp_RLV.gather(-1, sids_RL[..., None])[..., 0]
        with torch.no_grad():
            entropy_RL = torch.special.entr(logp_RLV.exp()).sum(dim=-1)
        self.scored = logp_RL.detach()
        return FusedCausalLMOutput(log_probs=logp_RL, entropy=entropy_RL)


class Gpt2(_Restricted, GPT2LMHeadModel):  # type: ignore[misc]
    """The prompt, the start token, the identifier."""

    @functools.wraps(GPT2LMHeadModel.forward)
    def forward(self, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        """As transformers', or with ``fused_lm_head`` as TRL calls for log-probabilities."""
        if not fused_lm_head:
            return super().forward(*args, **kwargs)
        levels = self.catalogue.levels
        hidden = self.transformer(kwargs["input_ids"], attention_mask=kwargs["attention_mask"], use_cache=False)
        logits_RLV = self.lm_head(hidden.last_hidden_state[:, -levels - 1 : -1])
        return self.score(logits_RLV, kwargs["input_ids"][:, -levels:])

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's call, restricted."""
        start = kwargs["input_ids"].shape[1]

        def allowed(_: int, sequence: Tensor) -> list[int]:
            return self.catalogue.next(sequence[start:].tolist())

        return super().generate(*args, **kwargs, prefix_allowed_tokens_fn=allowed)


class Bart(_Restricted, BartForConditionalGeneration):  # type: ignore[misc]
    """The prompt is the encoder's, the identifier the decoder's."""

    @functools.wraps(BartForConditionalGeneration.forward)
    def forward(self, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        """As transformers', or with ``fused_lm_head`` as TRL calls for log-probabilities."""
        if not fused_lm_head:
            return super().forward(*args, **kwargs)
        levels, tokens_RX = self.catalogue.levels, kwargs["input_ids"]
        sids_RL = tokens_RX[:, -levels:]
        before_RL = torch.nn.functional.pad(sids_RL[:, :-1], (1, 0), value=self.config.decoder_start_token_id)
        hidden = self.model(
            tokens_RX[:, :-levels], attention_mask=kwargs["attention_mask"][:, :-levels], decoder_input_ids=before_RL, use_cache=False
        )  # fmt: skip
        return self.score(self.lm_head(hidden.last_hidden_state) + self.final_logits_bias, sids_RL)
