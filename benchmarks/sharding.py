"""What a rank holds of a learner, and how long its update takes, where ranks divide weights and moments among them and where each has all.

Ranks are processes of this machine, on one thread each; all but their sums is there: a model of BART-base's size, a gradient for every weight, and the
optimiser's update (`trainers.sharding`, `trainers.optimiser`). Memory is the most that is resident during an update, above what was before
the model was made, of the rank that has most. Seconds are the slowest rank's, by the wall: more ranks than processors wait for each other.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.queues import Queue
from typing import Any

import torch

from benchmarks.common import LEAST_REPEATS, Result, Row, finish, parser, row
from benchmarks.passes import give_back
from benchmarks.rollout import bart, tokenizer_of
from benchmarks.step_memory import peak_bytes, resident_bytes
from headrace.services.ports import free_port
from trainers.identifiers.settings import adapted_sizes
from trainers.optimiser import Optimiser
from trainers.ranks import ranks_here
from trainers.settings import LearnerSettings
from trainers.sharding import ShardedOptimiser

WHOLE = "each rank has all"
#: (ranks, width and layers of the model, pieces of its vocabulary)
SIZES, QUICK = ((2, 768, 6, 50_265), (4, 768, 6, 50_265)), ((2, 256, 2, 5_000),)
TIMEOUT_S = 300.0
#: Of a rank and an update: bytes at the peak, seconds; and bytes of the weights.
Said = tuple[float, float, float]


def cost(ranks: int, width: int, layers: int, text: int, sharded: bool, repeats: int) -> list[Said]:
    """The cost of each update, of the rank with most."""
    context = multiprocessing.get_context("spawn")
    told: Queue[list[Said]] = context.Queue()
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    deeds = [
        context.Process(target=_rank, args=(told, {**shared, "RANK": str(n)}, width, layers, text, sharded, repeats))
        for n in range(ranks)
    ]
    for deed in deeds:
        deed.start()
    try:
        found = [told.get(timeout=TIMEOUT_S) for _ in deeds]
    finally:
        for deed in deeds:
            deed.join(TIMEOUT_S)
    return [tuple(max(part) for part in zip(*update, strict=True)) for update in zip(*found, strict=True)]  # type: ignore[misc]


def _rank(
    told: Queue[list[Said]], environment: dict[str, str], width: int, layers: int, text: int, sharded: bool, repeats: int
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    ranks, settings = ranks_here(TIMEOUT_S), LearnerSettings(learning_rate=1e-6)
    tokenizer = tokenizer_of(text, adapted_sizes(200_000))
    before = resident_bytes()
    module = bart(width, layers)(tokenizer).module
    optimiser = ShardedOptimiser(module, settings, ranks) if sharded else Optimiser(module, settings)

    def update() -> None:
        for weight in module.parameters():
            weight.grad = torch.full_like(weight, 1e-3)
        optimiser.update(1.0)

    found: list[Said] = []
    for _ in range(repeats + 1):  # the first makes the moments
        module.zero_grad(set_to_none=True)
        give_back()
        begun = time.perf_counter()
        most = peak_bytes(update) - before
        found.append((most, time.perf_counter() - begun, 4 * sum(weight.numel() for weight in module.parameters())))
    told.put(found[1:])
    ranks.exchange(None)  # nobody leaves while another is at it
    ranks.close()


def measure(size: tuple[int, int, int, int], repeats: int) -> tuple[list[Row], str]:
    """The rows of a number of ranks, and what they are to the weights."""
    divided, whole = (cost(*size, sharded, repeats) for sharded in (True, False))
    both = list(zip(divided, whole, strict=True))
    gib = [(ours[0] / 2**30, theirs[0] / 2**30) for ours, theirs in both]
    rows = [
        row(f"{size[0]} ranks, most memory of one", gib, WHOLE, "GiB"),
        row(f"{size[0]} ranks, an update", [(ours[1], theirs[1]) for ours, theirs in both], WHOLE, "s"),
    ]
    weights = divided[0][2] / 2**30
    times = ", ".join(f"{r / weights:.2f}" for r in (rows[0].ours, rows[0].peer))
    return rows, f"{size[0]} ranks: {times} times the weights ({weights:.2f} GiB); {2 + 3 / size[0]:.2f}, 4 by count."


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    chosen = parser("sharding", __doc__).parse_args(arguments)
    found: list[Any] = [measure(size, LEAST_REPEATS) for size in (QUICK if chosen.quick else SIZES)]
    return finish("sharding", [made for rows, _ in found for made in rows], chosen, [note for _, note in found])


if __name__ == "__main__":
    main()
