"""Rollouts of a policy against transformers' generation, both renormalised over one trie.

Two peers, both `model.generate(do_sample=True, prefix_allowed_tokens_fn=...)` of the same weights in the same precision.
"as TRL" is the call of TRL's GRPOTrainer (1.16): every prompt G times, top_k 0, top_p 1; transformers alone runs it.
"prompt once" passes each prompt once with num_return_sequences = G, which TRL does not. To the peers' favour no prompt has
padding. Weights are random, so that rollouts hardly ever share a prefix: our worst case. Before timing, the log-probabilities
of what the peer sampled must agree on both sides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, models
from torch import Tensor

from benchmarks.common import Result, Row, finish, parser, row, seconds
from benchmarks.trie import make_sids, nested
from trainers.identifiers.settings import adapted_sizes
from trainers.identifiers.trie import Trie
from trainers.policies.bart import BartPolicy
from trainers.policies.base import Policy, PromptBatch
from trainers.policies.decoder_only import Gpt2Policy
from trainers.policies.settings import PolicySettings
from trainers.policies.tokenizer import LETTERS, SPECIAL, PromptTokenizer
from trainers.rollout import sample

AS_TRL, PROMPT_ONCE = "transformers generate, as TRL", "transformers generate, prompt once"
#: How far log-probabilities may be apart: the format's digits, times what the layers make of them.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
LEAST_PROMPTS = 2

Make = Callable[[PromptTokenizer], Policy]


@dataclass(frozen=True)
class Case:
    """One model on one work load. ``opens`` names the class of transformers that opens its folder."""

    name: str
    make: Make
    opens: str
    dtype: torch.dtype
    threads: int
    text: int  #: text pieces in the vocabulary
    prompts: int
    tokens: int = 64
    group: int = 16
    sids: int = 200_000


@dataclass(frozen=True)
class Bench:
    """A case with everything built; ``allowed`` is the peer's prefix_allowed_tokens_fn."""

    case: Case
    policy: Policy
    peer: Any
    trie: Trie
    prompts: PromptBatch
    allowed: Callable[[int, Tensor], list[int]]

    def ours(self) -> Tensor:
        """sids_BGL, the prompts read anew."""
        return sample(self.policy, self.prompts, self.trie, self.case.group).sids_BGL

    def generate(self, peer_name: str, **more: bool) -> Any:
        """What transformers returns; the last L tokens of each sequence are the identifier."""
        at_once = peer_name == PROMPT_ONCE
        tokens_BS = self.prompts.tokens_BS
        if not self.peer.config.is_encoder_decoder:  # the start token follows the prompt
            tokens_BS = torch.nn.functional.pad(tokens_BS, (0, 1), value=self.policy.tokenizer.bos)
        if not at_once:
            tokens_BS = tokens_BS.repeat_interleave(self.case.group, dim=0)
        return self.peer.generate(
            input_ids=tokens_BS, attention_mask=torch.ones_like(tokens_BS), do_sample=True, top_k=0, top_p=1.0,
            max_new_tokens=self.trie.levels, num_return_sequences=self.case.group if at_once else 1,
            prefix_allowed_tokens_fn=self.allowed, return_dict_in_generate=True, **more,
        )  # fmt: skip

    def disagreement(self) -> float:
        """Largest difference of the identifiers' log-probabilities (nats), for a sample of the peer's."""
        drawn = self.generate(PROMPT_ONCE, output_scores=True)
        token_RL = drawn.sequences[:, -self.trie.levels :]
        logp_RLV = torch.stack(drawn.scores, dim=1).float().log_softmax(dim=-1)
        theirs_R = logp_RLV.gather(-1, token_RL[..., None])[..., 0].sum(dim=-1)
        sids_RL = token_RL - torch.tensor(self.policy.tokenizer.level_start)
        sids_BGL = sids_RL.view(len(self.prompts), self.case.group, self.trie.levels)
        with torch.no_grad():
            ours_BG = self.policy.logprobs(self.prompts, sids_BGL, self.trie).float().sum(dim=-1)
        return float((ours_BG.flatten() - theirs_R).abs().max())


def bart(width: int = 768, layers: int = 6) -> Make:
    """A BART with fresh weights, of BART-base's size unless told otherwise."""
    settings = PolicySettings(
        d_model=width, ffn=4 * width, heads=width // 64, encoder_layers=layers, decoder_layers=layers
    )  # fmt: skip
    return lambda tokenizer: BartPolicy.create(settings, tokenizer, "benchmark", dense_width=8, seed=1)


def gpt2(width: int = 768, layers: int = 12) -> Make:
    """A GPT-2 with fresh weights, of the 124 million's size unless told otherwise."""
    settings = PolicySettings(
        backbone="gpt2", d_model=width, ffn=4 * width, heads=width // 64, decoder_layers=layers
    )  # fmt: skip
    return lambda tokenizer: Gpt2Policy.create(settings, tokenizer, "benchmark", dense_width=8, seed=1)


def tokenizer_of(text: int, sizes: Sequence[int]) -> PromptTokenizer:
    """A vocabulary of ``text`` pieces that stand for no text in particular, and the identifiers'."""
    pieces = [*SPECIAL.values(), *(f"w{n}" for n in range(text - len(SPECIAL)))]
    backend = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[]))
    for letter, size in zip(LETTERS, sizes, strict=False):
        backend.add_tokens([AddedToken(f"<{letter}_{code}>", normalized=False) for code in range(size)])
    return PromptTokenizer(backend, sizes)


def build(case: Case) -> Bench:
    """Make the policy, save it, open it with transformers, and check that both mean the same."""
    import transformers

    sizes = adapted_sizes(case.sids)
    sids_NL = make_sids(case.sids, sizes, seed=1)
    policy = case.make(tokenizer_of(case.text, sizes))
    with tempfile.TemporaryDirectory() as folder:
        policy.save(Path(folder))
        peer = getattr(transformers, case.opens).from_pretrained(Path(folder) / "model").to(case.dtype).eval()
    policy.module.to(case.dtype)
    given = np.random.default_rng(2).integers(len(SPECIAL), case.text, (case.prompts, case.tokens))
    prompts = PromptBatch(
        torch.from_numpy(given), torch.ones(given.shape, dtype=torch.bool), torch.zeros(case.prompts, 8)
    )  # fmt: skip
    root = nested((sids_NL + np.array(policy.tokenizer.level_start)).tolist())
    before = 1 if peer.config.is_encoder_decoder else case.tokens + 1

    def allowed(_: int, sequence: Tensor) -> list[int]:
        node = root
        for token in sequence[before:].tolist():
            node = node[token]
        return list(node)

    bench = Bench(case, policy, peer, Trie.build(sids_NL, sizes), prompts, allowed)
    if not (apart := bench.disagreement()) < TOLERANCE[case.dtype]:
        raise AssertionError(f"{case.name}: log-probabilities are {apart:.2g} nats apart")
    return bench


def measure(case: Case, repeats: int) -> list[Row]:
    """One row a peer, ours and both peers by turns."""
    with threads(case.threads):
        bench = build(case)
        sides = (bench.ours, lambda: bench.generate(AS_TRL), lambda: bench.generate(PROMPT_ONCE))
        for side in sides:
            side()
        taken_s = [[seconds(side) for side in sides] for _ in range(repeats)]
    count = case.prompts * case.group
    size = f"{case.prompts} prompts x {case.group}, {case.tokens} tokens, trie {case.sids // 1000}k"
    return [
        row(f"{case.name}, {size}, {name.partition(', ')[2]}", [(count / t[0], count / t[at]) for t in taken_s], name,
            "rollouts/s", higher_is_better=True)
        for at, name in ((1, AS_TRL), (2, PROMPT_ONCE))
    ]  # fmt: skip


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch computes with so many inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


CASES = (
    Case("BART-base bf16 1 core", bart(), "BartForConditionalGeneration", torch.bfloat16, 1, 50_265, 16),
    Case("BART-base fp32 1 core", bart(), "BartForConditionalGeneration", torch.float32, 1, 50_265, 16),
    Case("GPT-2 124M fp32 2 cores", gpt2(), "GPT2LMHeadModel", torch.float32, 2, 50_257, 4),
)


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("rollout", __doc__)
    options.add_argument("--case", default="", help="only cases whose name holds this")
    chosen = options.parse_args(arguments)
    cases = [case for case in CASES if chosen.case in case.name]
    if chosen.quick:
        cases = [replace(case, prompts=LEAST_PROMPTS) for case in cases]
    rows = [made for case in cases for made in measure(case, 5)]
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    note = f"bfloat16 is {'native to' if native else 'emulated on'} this processor."
    return finish("rollout", rows, chosen, [note])


if __name__ == "__main__":
    main()
