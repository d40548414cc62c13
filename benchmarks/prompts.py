"""What a part of the prompt is worth: the same warm start with it and without, judged on later clicks of a simulated shop.

Every arm trains the default policy from scratch on the first four fifths of the shop's logged clicks, on titles and on
judgments, for the same number of updates, and retrieves ten identifiers for the clicks of the last fifth. The difference to
the arm `default` is paired by click and seed; its interval resamples whole queries. A pair counts with all its seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.common import NOW_MS, Row, machine, parser
from headrace.prepare import SHARES, teacher_keywords
from headrace.shop.settings import ShopSettings
from headrace.shop.world import ShopWorld
from reward.encoder import SentenceEncoder
from reward.text import normalise
from schemas.events import Impression
from streams.keywords.settings import WriterSettings
from trainers.beam import beam_search
from trainers.evaluation import hit_rate, paired_bootstrap, reciprocal_rank
from trainers.identifiers.build import Identifiers, build_identifiers
from trainers.pairs import Pair, PairSampler, click_pairs, judgment_pairs, title_pairs
from trainers.policies.bart import BartPolicy
from trainers.policies.lexical import LexicalIndex
from trainers.policies.prompts import PromptBuilder
from trainers.policies.settings import PolicySettings, PromptSettings, WarmStartSettings
from trainers.policies.tokenizer import PromptTokenizer
from trainers.warm_start import warm_start

#: Changes of the prompt's settings, by arm. The first one is compared with.
ARMS: dict[str, dict[str, int | bool]] = {
    "default": {"lexical_items": 0, "dense_query": True, "long_history": False},
    "without the dense query": {"lexical_items": 0, "dense_query": False, "long_history": False},
    "with 3 lexical items": {"lexical_items": 3, "dense_query": True, "long_history": False},
    "with the long history": {"lexical_items": 0, "dense_query": True, "long_history": True},
}
#: Metric to its unit.
METRICS = {"hr10": "HR@10", "mrr10": "MRR@10", "logp": "nats, log-likelihood of the clicked identifier"}
Values = dict[str, NDArray[np.float64]]


class Line(Row, frozen=True):
    """One metric of one arm: ours with the change, the peer without. ``low`` to ``high`` is the 95 % interval of ``diff``.

    ``repeats`` are clicks times seeds. The ratio of log-likelihoods is that of the likelihoods.
    """

    diff: float
    low: float
    high: float
    seeds: int


class Study:
    """A shop, its identifiers, and its clicks before and after a time."""

    def __init__(self, settings: ShopSettings, held_out: int) -> None:
        self.world, self.encoder = ShopWorld(settings, NOW_MS), SentenceEncoder()
        world, events = self.world, list(self.world.history())
        times = [event.ts for event in events if isinstance(event, Impression)]
        border = sorted(times)[len(times) * 4 // 5]
        queries = sorted({event.query for event in events if isinstance(event, Impression) and event.ts < border})
        self.identifiers = build_identifiers(
            world.catalogue, self.encoder.encode(world.catalogue.titles), queries, self.encoder.encode(queries),
            seed=1, known_ms=world.live_ms,
        )  # fmt: skip
        self.sources = {
            "clicks": click_pairs((event for event in events if event.ts < border), self.sid_of),
            "titles": title_pairs(world.catalogue, self.sid_of, world.live_ms),
            "judgments": judgment_pairs(world.judgments, self.sid_of),
        }
        clicked = click_pairs((event for event in events if event.ts >= border), self.sid_of)
        pick = np.random.default_rng(0).permutation(len(clicked))[:held_out]
        self.held_out: list[Pair] = [clicked[n] for n in sorted(pick.tolist())]
        texts = [*world.catalogue.titles, *(pair.context.query for pair in self.sources["clicks"])]
        self.tokenizer = PromptTokenizer.train(texts, self.identifiers.level_sizes, PolicySettings().text_vocabulary)
        self.lexical = LexicalIndex.of(world.catalogue)
        self.keywords_of = teacher_keywords(world.catalogue, world.live_ms, self.identifiers, WriterSettings())

    def sid_of(self, item: str) -> tuple[int, ...] | None:
        row = self.world.catalogue.row.get(item)
        return None if row is None else tuple(self.identifiers.sids_NL[row].tolist())

    def run(self, settings: PolicySettings, options: WarmStartSettings, seed: int) -> Values:
        """Metrics of every held-out click."""
        prompt = settings.prompt
        codebook, identifiers = self.identifiers.codebook, self.identifiers
        centroids = [codebook.centroids(level) for level in range(len(identifiers.level_sizes))]
        policy = BartPolicy.create(settings, self.tokenizer, identifiers.version, self.encoder.dim, seed, centroids)
        builder = PromptBuilder(
            self.tokenizer, identifiers.query_sids, self.encoder, self.sid_of, prompt, centroids, self.lexical
        )
        warm_start(policy, PairSampler(self.sources, SHARES, seed), builder, options, seed, keywords_of=self.keywords_of)
        found: list[Values] = []
        for start in range(0, len(self.held_out), 32):
            found.append(_judge(policy, builder, identifiers, self.held_out[start : start + 32]))
        return {name: np.concatenate([part[name] for part in found]) for name in METRICS}


@torch.no_grad()
def _judge(policy: BartPolicy, builder: PromptBuilder, identifiers: Identifiers, pairs: Sequence[Pair]) -> Values:
    encoder = policy.encode(builder.build([pair.context for pair in pairs]))
    sids_BL = torch.tensor([pair.sid for pair in pairs])
    beams = beam_search(policy, encoder, identifiers.trie, 10)
    hit_BW = ((beams.sids_BWL == sids_BL[:, None]).all(dim=-1) & beams.valid_BW).numpy()
    logp_B = policy.logprobs(encoder, sids_BL[:, None], identifiers.trie).sum(dim=-1)[:, 0]
    return {"hr10": hit_rate(hit_BW, 10), "mrr10": reciprocal_rank(hit_BW, 10), "logp": logp_B.double().numpy()}


def main(arguments: Sequence[str] | None = None) -> list[Line]:
    """Measure, print, write."""
    options = parser("prompts", __doc__)
    options.add_argument("--seeds", type=int, default=3, help="warm starts of each arm")
    options.add_argument("--steps", type=int, default=300, help="updates of a warm start, 48 pairs each")
    chosen = options.parse_args(arguments)
    study = open_study(chosen.quick)
    seeds, steps = (1, 20) if chosen.quick else (chosen.seeds, chosen.steps)
    runs: dict[str, list[Values]] = {arm: [] for arm in ARMS}
    console = Console(width=None if Console().is_terminal else 150)
    for seed in range(seeds):
        for arm, changes in ARMS.items():
            policy = PolicySettings(prompt=PromptSettings.model_validate(changes))
            runs[arm].append(study.run(policy, WarmStartSettings(seconds=0, steps=steps, batch=48), seed))
            means = {name: round(float(values.mean()), 4) for name, values in runs[arm][-1].items()}
            console.print(f"seed {seed}, {arm}: {means}", highlight=False)
    lines = compare(study, runs, "default prompt")
    tell("prompts", console, lines, chosen.json)
    return lines


def open_study(quick: bool) -> Study:
    """The shop of these benchmarks."""
    shop = ShopSettings(items=1_000, users=400, queries=200, history_impressions=6_000, live_requests=10)
    if quick:
        shop = shop.model_copy(update={"items": 300, "history_impressions": 1_000, "queries": 60})
    return Study(shop, 150 if quick else 600)


def compare(study: Study, runs: dict[str, list[Values]], peer_name: str) -> list[Line]:
    """Each arm but the first with the first, by each metric."""
    base, *others = runs.items()
    seeds = len(base[1])
    clusters = [normalise(pair.context.query) for pair in study.held_out] * seeds
    lines = []
    for arm, results in others:
        for metric, unit in METRICS.items():
            ours, peer = (np.concatenate([values[metric] for values in each]) for each in (results, base[1]))
            between, means = paired_bootstrap(ours, peer, clusters), (float(ours.mean()), float(peer.mean()))
            ratio = float(np.exp(between.diff)) if metric == "logp" else means[0] / means[1]
            interval = between.diff, between.low, between.high
            lines.append(Line(arm, *means, peer_name, ratio, unit, len(ours), *interval, seeds))
    return lines


def tell(name: str, console: Console, lines: Sequence[Line], file: Path | None) -> None:
    """The table, and the JSON where it was asked for."""
    table = Table(title=f"{name}, on {machine()}", title_justify="left")
    for column in ("arm", "unit", "this", "default", "difference", "95 % interval", "clicks x seeds"):
        table.add_column(column, justify="left" if column in ("arm", "unit") else "right")
    for line in lines:
        interval = f"{line.low:+.4f} to {line.high:+.4f}"
        values = (f"{line.ours:.4f}", f"{line.peer:.4f}", f"{line.diff:+.4f}", interval, str(line.repeats))
        table.add_row(line.case, line.unit, *values)
    console.print(table)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        result = {"name": name, "machine": machine(), "rows": lines}
        file.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


if __name__ == "__main__":
    main()
