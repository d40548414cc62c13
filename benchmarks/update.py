"""An update of the policy, and a whole step, against TRL's GRPOTrainer: same weights, prompts, groups, rewards, catalogue.

The peer is TRL 1.16 from pip, its own trainer in a process of its own (`benchmarks.trl_peer`); both learn by GRPO (Eq. 12), on
the distribution restricted to the catalogue, in float32, on as many threads. TRL has every prompt G times and left to itself it would score
prompts as well; the adapters spare it that. Weights are random, so that rollouts hardly ever share a prefix, and no prompt has padding: our worst case.
Before timing, the same rollouts must give both sides the same log-probabilities, loss and gradient's norm to 1e-4 (TRL's deviation of a
group divides by G - 1, ours by G, so their gradients differ by a known factor). An update is forward and backward of given rollouts,
a step is rollouts, rewards, forward, backward and AdamW. Time is CPU seconds of either process, all its threads: a busy machine
stretches them less than the wall's. With two threads they count waiting too, unless OMP_WAIT_POLICY=passive is set.

Memory: the most that is resident during a step, above what was before the first model was made, against 2 x the training state (weights, gradient, two
moments) and what is kept for the backward pass.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import LEAST_REPEATS, Result, Row, finish, parser, row
from benchmarks.rollout import Make, bart, gpt2, threads, tokenizer_of
from benchmarks.step_memory import kept_bytes, peak_bytes, resident_bytes
from benchmarks.trie import make_sids
from benchmarks.trl_peer.process import Process
from benchmarks.trl_peer.work import Arrays, Work, reward
from trainers.allocator import keep_freed_memory
from trainers.identifiers.settings import adapted_sizes
from trainers.identifiers.trie import Trie
from trainers.noise import Noise
from trainers.objective import group_loss
from trainers.policies.base import EncoderState, Policy, PromptBatch
from trainers.policies.tokenizer import SPECIAL
from trainers.rollout import sample
from trainers.settings import LossSettings
from trainers.targets import Targets

PEER = "TRL GRPOTrainer"
LEARNING_RATE, MAX_NORM, TOLERANCE = 1e-6, 1.0, 1e-4
#: Deeds of either side before those that count: the first ones make the optimiser's state and prepare products of new sizes.
WARM_UP = 3


@dataclass(frozen=True)
class Case:
    """One model on one work load. ``opens``: the class of transformers. ``deed``: `update` or `step`."""

    name: str
    deed: str
    make: Make
    opens: str
    threads: int
    text: int  #: text pieces in the vocabulary
    prompts: int
    micro: int  #: rows that TRL computes at once, the fastest of those tried
    tokens: int = 64
    group: int = 16
    sids: int = 200_000


CASES = (
    Case("update, BART-base, 16 x 16, S = 64, 1 core, fp32", "update", bart(), "BartForConditionalGeneration", 1, 50_265, 16, 64),
    Case("step, GPT-2 124M, B4 G16 P64, 2 cores, fp32", "step", gpt2(), "GPT2LMHeadModel", 2, 50_257, 4, 16),
)  # fmt: skip


class Ours:
    """The product's side of a case."""

    def __init__(self, case: Case) -> None:
        sizes = adapted_sizes(case.sids)
        sids_NL = make_sids(case.sids, sizes, seed=1)
        self.case, self.trie = case, Trie.build(sids_NL, sizes)
        self.policy: Policy = case.make(tokenizer_of(case.text, sizes))
        self.start_L = torch.tensor(self.policy.tokenizer.level_start)
        given = np.random.default_rng(2).integers(len(SPECIAL), case.text, (case.prompts, case.tokens))
        mask = torch.ones(given.shape, dtype=torch.bool)
        self.prompts = PromptBatch(torch.from_numpy(given), mask, torch.zeros(case.prompts, 8))
        self.noise = Noise(3, 0, range(case.prompts))
        self.given_BGL = sample(self.policy, self.prompts, self.trie, case.group, 1.0, self.noise).sids_BGL
        self._none = Targets(torch.zeros(case.prompts, 1, self.trie.levels, dtype=torch.int64), torch.zeros(case.prompts, 1, dtype=torch.bool))  # fmt: skip
        # TRL adds 1e-4 to a deviation that divides by G - 1: the same share of ours.
        self.factor = (case.group / (case.group - 1)) ** 0.5
        self._loss = LossSettings(learner="grpo", entropy=0.0, delta=1e-4 / self.factor)
        self._optimiser = torch.optim.AdamW(
            self.policy.module.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True
        )  # fmt: skip

    def work(self, folder: Path) -> Work:
        """The case for the peer, its files written into ``folder``."""
        self.policy.save(folder)
        catalogue_NL = np.unique(self.trie.sids_NL, axis=0) + self.start_L.numpy()
        made = Work(
            str(folder), self.case.opens, self.case.threads, self.case.group, self.case.micro, self.policy.tokenizer.bos,
            LEARNING_RATE, MAX_NORM,
        )  # fmt: skip
        Arrays(self.prompts.tokens_BS.numpy(), catalogue_NL, (self.given_BGL + self.start_L).numpy()).write(made.arrays)
        return made

    def update(self) -> Tensor:
        """Forward and backward of the given rollouts; their log-probabilities."""
        self.policy.module.zero_grad(set_to_none=True)
        logp_BGL, loss = self._forward(self.policy.encode(self.prompts), self.given_BGL)
        loss.backward()  # type: ignore[no-untyped-call]
        return logp_BGL.detach()

    def check(self) -> tuple[float, float, Tensor]:
        """Loss, gradient's norm and log-probabilities of the given rollouts."""
        with torch.no_grad():
            _, loss = self._forward(self.policy.encode(self.prompts), self.given_BGL)
        logp_BGL = self.update()
        found = [p.grad for p in self.policy.module.parameters() if p.grad is not None]
        return float(loss), float(torch.nn.utils.get_total_norm(found)), logp_BGL

    def step(self) -> None:
        """Rollouts, rewards, update."""
        self.policy.module.zero_grad(set_to_none=True)
        encoder = self.policy.encode(self.prompts)
        rollouts = sample(self.policy, encoder, self.trie, self.case.group, 1.0, self.noise)
        _, loss = self._forward(encoder, rollouts.sids_BGL)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.policy.module.parameters(), MAX_NORM)
        self._optimiser.step()

    def _forward(self, encoder: EncoderState, sids_BGL: Tensor) -> tuple[Tensor, Tensor]:
        reward_BG = torch.from_numpy(reward((sids_BGL + self.start_L).numpy()))
        logp_BGL = self.policy.logprobs(encoder, sids_BGL, self.trie)
        loss, _ = group_loss(logp_BGL, sids_BGL, reward_BG, self._none, self._loss)
        return logp_BGL, loss


def compare(ours: Ours, theirs: Mapping[str, Any]) -> None:
    """Raise unless the peer's loss, norm and log-probabilities (flat) of the given rollouts are ours."""
    loss, norm, logp_BGL = ours.check()
    apart = {
        "log-probabilities": float((logp_BGL.flatten() - torch.tensor(theirs["logp"])).abs().max()),
        "losses": abs(loss / ours.factor - theirs["loss"]),
        "gradient norms, relatively,": abs(norm / ours.factor / theirs["norm"] - 1),
    }
    for name, difference in apart.items():
        if not difference < TOLERANCE:
            raise AssertionError(f"{ours.case.name}: {name} are {difference:.2g} apart")


def cpu_seconds(deed: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    started = time.process_time()
    deed()
    return time.process_time() - started


def measure(case: Case, repeats: int, before: int) -> list[Row]:
    """The rows of a case: time, then memory above ``before`` (bytes)."""
    with threads(case.threads), tempfile.TemporaryDirectory(prefix="headrace-update-") as folder:
        ours = Ours(case)
        with Process(ours.work(Path(folder))) as peer:
            compare(ours, peer.ask("check").said)
            deed: Callable[[], object] = getattr(ours, case.deed)
            pairs = []
            for _ in range(WARM_UP + repeats):
                pairs.append((cpu_seconds(deed), peer.ask(case.deed).cpu_s))
                print(f"{case.name}: {pairs[-1][0]:.2f} s, {PEER} {pairs[-1][1]:.2f} s", flush=True)
        state = 16 * sum(p.numel() for p in ours.policy.module.parameters())
        bound = 2 * state + kept_bytes(ours.step, ours.policy.module)
        used = [(peak_bytes(ours.step) - before, bound) for _ in range(repeats)]
    gib = [(ours_b / 2**30, bound_b / 2**30) for ours_b, bound_b in used]
    memory = row(f"{case.name}, peak memory of a step", gib, "2 x training state + activations", "GiB")
    return [row(case.name, pairs[WARM_UP:], PEER, "CPU s"), memory]


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("update", __doc__)
    options.add_argument("--case", default="", help="only cases whose name holds this")
    chosen = options.parse_args(arguments)
    cases = [case for case in CASES if chosen.case in case.name]
    if chosen.quick:
        cases = [replace(case, name=f"{case.name}, cut to 2 prompts", prompts=2, micro=case.group) for case in cases]
    if not Process.installed():
        options.error("TRL is not installed: `make bench-peers` installs it")
    keep_freed_memory()  # as `headrace learn` does; a trainer of TRL does not
    before = resident_bytes()
    rows = [made for case in cases for made in measure(case, LEAST_REPEATS, before)]
    return finish("update", rows, chosen, ["Both sides agree on log-probabilities, loss and gradient's norm to 1e-4."])


if __name__ == "__main__":
    main()
