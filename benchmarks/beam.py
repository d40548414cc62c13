"""Beam search without the model: masking, scoring and choosing, against transformers' own `prefix_allowed_tokens_fn`.

Both are given the same logits of the whole vocabulary, a text vocabulary of BART's size in it, and find the best 512 of 200,000
identifiers. The peer is transformers' `PrefixConstrainedLogitsProcessor` over a trie of dictionaries, and around it no more than a
beam search needs: log-softmax, sum, top-k. `generate` does more for each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor

from benchmarks.common import Result, Row, finish, paired_times, parser, row, scaled
from benchmarks.trie import make_sids, nested, short
from trainers.beam import Scoring, beam_search
from trainers.identifiers.settings import adapted_sizes
from trainers.identifiers.trie import Trie
from trainers.policies.base import Ahead, DecodeState, EncoderState

#: Text tokens of BART's vocabulary.
TEXT = 50_265
PEER = "transformers' processor"


class Replayed:
    """A `trainers.policies.base.Policy` that only repeats logits [1, W, V] that were drawn before; the W rows are the beams.

    All rows are alike: two beams whose scores differ in the last bit may then change places, and the searches still agree.
    """

    def __init__(self, sizes: Sequence[int], width: int, text: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        starts = [text + sum(sizes[:level]) for level in range(len(sizes))]
        self.tokenizer: Any = SimpleNamespace(level_sizes=tuple(sizes), level_start=tuple(starts))
        logits_11V = 2 * torch.randn(1, 1, text + sum(sizes), generator=generator)
        self.logits_1WV = logits_11V.repeat(1, width, 1)

    def advance(self, state: DecodeState, codes_BR: Tensor | None) -> tuple[Tensor, DecodeState]:
        """As many rows as there are beams."""
        rows = 1 if codes_BR is None else codes_BR.shape[1]
        return self.logits_1WV[:, :rows], DecodeState(state.encoder, state.depth + 1)

    def advance_twice(
        self, state: DecodeState, codes_BR: Tensor | None, ahead: Ahead
    ) -> tuple[tuple[Tensor, DecodeState], tuple[Tensor, DecodeState]]:
        """As many rows as there are beams, and as many as go further."""
        return self.advance(state, codes_BR), self.advance(state, ahead.code_BX)

    def level_logits(self, level: int, hidden: Tensor) -> Tensor:
        """This level's part."""
        start = self.tokenizer.level_start[level]
        return hidden[..., start : start + self.tokenizer.level_sizes[level]]

    def vocabulary_logits(self, hidden: Tensor) -> Tensor:
        """All of it."""
        return hidden


class Case:
    """One trie, one width, both searches."""

    def __init__(self, sids: int, width: int, text: int = TEXT, seed: int = 1) -> None:
        sizes = adapted_sizes(sids)
        sids_NL = make_sids(sids, sizes, seed)
        self.trie, self.width = Trie.build(sids_NL, sizes), width
        self.policy: Any = Replayed(sizes, width, text, seed)
        self._starts = self.policy.tokenizer.level_start
        self._root = nested((sids_NL + np.asarray(self._starts)).tolist())
        self._encoder = EncoderState((), (), torch.zeros(1, 1, 1, 1))

    def ours(self, scoring: Scoring) -> tuple[Tensor, Tensor]:
        """(scores [W], codes [W, L])."""
        beams = beam_search(self.policy, self._encoder, self.trie, self.width, scoring=scoring)
        return beams.score_BW[0], beams.sids_BWL[0]

    @torch.no_grad()
    def peer(self) -> tuple[Tensor, Tensor]:
        """The same, of log-probabilities over the whole vocabulary, which is what transformers scores by."""
        score_R, ids_RT = torch.zeros(1), torch.zeros(1, 0, dtype=torch.int64)
        for _ in self.trie.level_sizes:
            processor = PrefixConstrainedLogitsProcessor(self._allowed, num_beams=len(score_R))
            logp_RV = torch.log_softmax(self.policy.logits_1WV[0, : len(score_R)], dim=-1)
            total_RV = processor(ids_RT, logp_RV) + score_R[:, None]
            score_R, at_R = total_RV.flatten().topk(min(self.width, total_RV.numel()))
            alive_R = score_R > -torch.inf  # the first levels may have fewer codes than there are beams
            score_R, at_R = score_R[alive_R], at_R[alive_R]
            ids_RT = torch.cat([ids_RT[at_R // total_RV.shape[1]], (at_R % total_RV.shape[1])[:, None]], dim=1)
        return score_R, ids_RT - torch.tensor(self._starts)

    def _allowed(self, _: int, ids: Tensor) -> list[int]:
        node = self._root
        for token in ids.tolist():
            node = node[token]
        return list(node)

    def check(self) -> None:
        """Both find the same.

        Raises:
            AssertionError: a score or an identifier differs.
        """
        (ours_W, sids_WL), (theirs_W, peers_WL) = self.ours("vocabulary"), self.peer()
        if not torch.allclose(ours_W, theirs_W, atol=1e-4, rtol=0) or set(map(tuple, sids_WL.tolist())) != set(
            map(tuple, peers_WL.tolist())
        ):
            raise AssertionError("the two searches differ")


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("beam", __doc__)
    options.add_argument("--sids", type=int, default=200_000, help="identifiers in the trie")
    options.add_argument("--text", type=int, default=TEXT, help="text tokens of the vocabulary")
    chosen = options.parse_args(arguments)
    repeats, rows = 5 if chosen.quick else 11, list[Row]()
    for width in (512, 50):
        case = Case(chosen.sids, width, chosen.text)
        case.check()
        for scoring, told in (("trie", ""), ("vocabulary", ", scored over the vocabulary")):
            pairs = paired_times(lambda case=case, scoring=scoring: case.ours(scoring), case.peer, repeats, calls=3)
            rows.append(row(f"beam {width}{told}", scaled(pairs, 1e3), PEER, "ms"))
    note = f"{short(chosen.sids)} identifiers, vocabulary {chosen.text} + {sum(case.trie.level_sizes)}, fp32, one thread; both find the same."
    return finish("beam", rows, chosen, [note])


if __name__ == "__main__":
    main()
