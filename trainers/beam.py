"""Beam search over the catalogue's trie, many requests at once.

Scores are log-probabilities over the whole catalogue's trie (or over the level's or the model's whole vocabulary, on demand);
they are worked out for the allowed children alone. Over the trie a prefix with one identifier below costs nothing: what
follows is certain, and the decoder never sees it (`trainers.frontier`). A request's filter limits which branches are followed, but
never renormalises: an identifier has the same score with and without it. A branch is followed only while an available
item lies below it, so a search of width W returns W identifiers whenever that many are available.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import InvalidValue
from trainers.descent import Descent
from trainers.frontier import Frontier
from trainers.identifiers.trie import Trie
from trainers.policies.base import DecodeState, EncoderState, Policy, PromptBatch
from trainers.policies.restricted import Children, TrieTables, check_levels, check_temperature
from trainers.rollout import check_finite

#: Over what a code's logits are normalised: the catalogue's children of its prefix (the policy), its level, or
#: every token of the model, as transformers' ``prefix_allowed_tokens_fn`` does.
Scoring = Literal["trie", "level", "vocabulary"]

#: A request's filter: `Trie.node_mask` of its available items; None for no filter.
NodeMask = Sequence[NDArray[np.bool_]] | None


@dataclass(frozen=True)
class Beams:
    """The best identifiers of B requests, best first. W is the width, or less where the trie has fewer leaves."""

    sids_BWL: Tensor  #: int64 codes
    score_BW: Tensor  #: float32 log-probability of the whole identifier, -inf where not valid
    leaf_BW: Tensor  #: int64, the trie's leaf; 0 where not valid
    valid_BW: Tensor  #: bool, False beyond the last available identifier


@torch.no_grad()  # not inference_mode: the trie's tables made here serve passes with gradient later
def beam_search(
    policy: Policy,
    prompts: PromptBatch | EncoderState,
    trie: Trie,
    width: int,
    available: Sequence[NodeMask] | None = None,
    temperature: float = 1.0,
    scoring: Scoring = "trie",
) -> Beams:
    """The best ``width`` identifiers per request. Exact where no level has more than ``width`` available prefixes.

    Raises:
        InvalidValue: ``width`` below 1, one filter too few or too many, a trie of other level sizes, or another ``scoring``.
        NotFinite: the policy's probabilities.
    """
    if width < 1:
        raise InvalidValue("beam width", width, "at least 1", "set it higher")
    if scoring not in get_args(Scoring):
        raise InvalidValue("scoring", scoring, " or ".join(get_args(Scoring)), "name one of them")
    check_temperature(temperature)
    check_levels(policy.tokenizer.level_sizes, trie)
    encoder = prompts if isinstance(prompts, EncoderState) else policy.encode(prompts)
    if available is not None and len(available) != len(encoder):
        raise InvalidValue(
            "number of filters", len(available), f"{len(encoder)}, one a request", "pass None where there is none"
        )
    tables = TrieTables.of(trie, encoder.bias_B11S.device)
    node_BR = torch.zeros(len(encoder), 1, dtype=torch.int64, device=tables.device)
    score_BR = torch.zeros(len(encoder), 1, device=tables.device)
    sids_BRL = torch.zeros(len(encoder), 1, 0, dtype=torch.int64, device=tables.device)
    descent, parent_BR = Descent(policy, DecodeState(encoder, 0), tables if scoring == "trie" else None), None
    for level in range(trie.levels):
        now = Frontier.of(tables, level, node_BR, score_BR > -torch.inf) if scoring == "trie" else Frontier.whole(node_BR)
        children = tables.children(level, node_BR)
        logp_BRC = torch.zeros(children.code.shape, device=tables.device)
        if now.width:
            hidden_BXD = descent.hidden(level, now, node_BR, sids_BRL[..., -1] if level else None, parent_BR)
            logp_BRC = _child_logp(policy, level, hidden_BXD, now.row_BG, children, temperature, scoring)
        open_BRC = children.there & (score_BR > -torch.inf)[..., None]
        if available is not None:
            open_BRC &= _filtered(level, children.node, available)
        total_BRC = torch.where(open_BRC, score_BR[..., None] + logp_BRC, -torch.inf)
        check_finite(
            total_BRC.exp()
        )  # a score that is not a number would take a place, or pass for a branch that is not there
        keep = min(width, total_BRC[0].numel())
        score_BR, at_BR = total_BRC.flatten(1).topk(keep, dim=1)
        parent_BR = at_BR // total_BRC.shape[-1]
        node_BR = torch.where(score_BR > -torch.inf, children.node.flatten(1).gather(1, at_BR), 0)
        code_BR = children.code.flatten(1).gather(1, at_BR)
        sids_BRL = torch.cat([sids_BRL.gather(1, parent_BR[..., None].expand(-1, -1, level)), code_BR[..., None]], dim=2)
    return Beams(sids_BRL, score_BR, node_BR, score_BR > -torch.inf)


def _child_logp(
    policy: Policy,
    level: int,
    hidden_BXD: Tensor,
    row_BR: Tensor,
    children: Children,
    temperature: float,
    scoring: Scoring,
) -> Tensor:
    """Log-probability [B, R, C] of the children's codes, whose logits are those of each beam's row of X.

    What is not there has a number that means nothing. An only child has 0 over the trie, whatever row its beam is given.
    """
    logits_BXK = policy.level_logits(level, hidden_BXD).float() / temperature
    at_BRC = row_BR[..., None] * logits_BXK.shape[-1] + children.code
    logits_BRC = logits_BXK.flatten(1).gather(1, at_BRC.flatten(1)).view(at_BRC.shape)
    if scoring == "trie":
        among_BR = logits_BRC.masked_fill(~children.there, -torch.inf).logsumexp(dim=-1)
    else:
        among_BXV = logits_BXK if scoring == "level" else policy.vocabulary_logits(hidden_BXD).float() / temperature
        among_BR = among_BXV.logsumexp(dim=-1).gather(1, row_BR)
    return logits_BRC - among_BR[..., None]


def _filtered(level: int, node_BRC: Tensor, available: Sequence[NodeMask]) -> Tensor:
    """[B, R, C]: below which children a request has an available item."""
    open_BRC = torch.ones(node_BRC.shape, dtype=torch.bool, device=node_BRC.device)
    for row, mask in enumerate(available):
        if mask is not None:
            there = torch.from_numpy(mask[level + 1]).to(node_BRC.device)
            open_BRC[row] = there[node_BRC[row].clamp(max=len(there) - 1)]
    return open_BRC
