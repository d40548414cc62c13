"""Beam search over the catalogue's trie, many requests at once.

Scores are log-probabilities under the whole catalogue's trie. A request's filter limits which branches are followed, but
never renormalises: an identifier has the same score with and without it. A branch is followed only while an available
item lies below it, so a search of width W returns W identifiers whenever that many are available.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import InvalidValue
from trainers.identifiers.trie import Trie
from trainers.policies.base import DecodeState, EncoderState, Policy, PromptBatch
from trainers.policies.restricted import TrieTables, check_levels, check_temperature, restricted_logp

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
) -> Beams:
    """The best ``width`` identifiers per request. Exact where no level has more than ``width`` available prefixes.

    Raises:
        InvalidValue: ``width`` below 1, one filter too few or too many, or a trie of other level sizes.
    """
    if width < 1:
        raise InvalidValue("beam width", width, "at least 1", "set it higher")
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
    state = DecodeState(encoder, 0)
    for level, size in enumerate(trie.level_sizes):
        hidden_BRD, state = policy.advance(state, sids_BRL[..., -1] if level else None)
        logp_BRK = restricted_logp(policy.level_logits(level, hidden_BRD), tables.bias(level, node_BR), temperature)
        total_BRK = score_BR[..., None] + logp_BRK
        if available is not None:
            total_BRK = total_BRK + _filter_bias(trie, level, node_BR, available)
        keep = min(width, total_BRK[0].numel(), tables.level_nodes(level + 1))
        score_BR, at_BR = total_BRK.flatten(1).topk(keep, dim=1)
        parent_BR, code_BR = at_BR // size, at_BR % size
        child_BR, found_BR = tables.find(level, node_BR.gather(1, parent_BR), code_BR)
        alive_BR = score_BR > -torch.inf
        node_BR = torch.where(alive_BR & found_BR, child_BR, 0)
        sids_BRL = torch.cat([sids_BRL.gather(1, parent_BR[..., None].expand(-1, -1, level)), code_BR[..., None]], dim=2)
        if level + 1 < trie.levels:
            state = state.select(parent_BR)
    return Beams(sids_BRL, score_BR, node_BR, score_BR > -torch.inf)


def _filter_bias(trie: Trie, level: int, node_BR: Tensor, available: Sequence[NodeMask]) -> Tensor:
    """[B, R, K]: -inf on codes below which the request has no available item."""
    bias_BRK = torch.zeros(*node_BR.shape, trie.level_sizes[level], device=node_BR.device)
    for row, mask in enumerate(available):
        if mask is not None:
            allowed_RK = torch.from_numpy(trie.allowed_mask(level, node_BR[row].cpu().numpy(), mask))
            bias_BRK[row].masked_fill_(~allowed_RK.to(bias_BRK.device), -torch.inf)
    return bias_BRK
