"""Ranks of the tests' learner: processes in torchrun's environment, forked from one that has loaded torch already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from headrace.logs import configure_logs
from headrace.services.ports import free_port
from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.errors import NotFinite, Unavailable
from schemas.store import Store
from tests.trainers import policy_toys
from tests.trainers.learner_toys import tools
from tests.trainers.learner_worker import CHANGED, SETTINGS
from trainers.optimiser import Optimiser
from trainers.ranks import ranks_here
from trainers.running import lead_or_follow
from trainers.settings import GuardSettings, LearnerSettings, TrainerSettings
from trainers.sharding import ShardedOptimiser

#: What an operator changes, and that ranks divide weights and moments from now on.
DIVIDED = CHANGED.model_copy(update={"learner": CHANGED.learner.model_copy(update={"sharded": True})})
#: Bounds that nothing keeps: after ten steps training is sent back.
STRICT = CHANGED.model_copy(
    update={
        "learner": CHANGED.learner.model_copy(
            update={"guards": GuardSettings(steps=2, reward_jump=1e-9, on_alarm="roll_back"), "micro_batch": 1}
        )
    }
)
NAMED: dict[str, TrainerSettings] = {"first": SETTINGS, "changed": DIVIDED, "strict": STRICT}


@contextmanager
def group(size: int, log: Path, deed: Callable[..., None], *given: Any) -> Iterator[list[ForkServerProcess]]:
    """So many ranks that each do ``deed``; killed at the end if they still run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [context.Process(target=_rank, args=({**shared, "RANK": str(rank)}, log, deed, *given)) for rank in range(size)]
    for rank in ranks:
        rank.start()
    try:
        yield ranks
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
            rank.close()


def _rank(environment: Mapping[str, str], log: Path, deed: Callable[..., None], *given: Any) -> None:
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    configure_logs()
    deed(*given)


def learner(connections: Connections, frozen: str, settings: str) -> None:
    """Learn until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    artefacts = Artefacts(identifiers="cb1", relevance="rel", frozen=frozen)
    lead_or_follow(connections, Store(connections.store), artefacts, NAMED[settings], tools, stop)


def divided(name: str) -> None:
    """A sharded optimiser against one that is whole, over the same gradients: weights, norms and files have the same bits."""
    torch.set_num_threads(1)
    ranks = ranks_here(120.0)
    settings = LearnerSettings(learning_rate=1e-2, weight_decay=0.1)
    own, twin, other = (policy_toys.toy_policy(name=name, seed=seed) for seed in (0, 0, 1))
    sharded, whole = ShardedOptimiser(own, settings, ranks), Optimiser(twin, settings)

    def step(number: int, bad: float = 0.0) -> None:
        for policy in (own, twin):
            draws = torch.Generator().manual_seed(number)
            for at, weight in enumerate(policy.parameters()):
                weight.grad = None if at == number else torch.randn(weight.shape, generator=draws) * (at + 1) + bad
        assert sharded.update(2.0) == whole.update(2.0)
        same()

    def same() -> None:
        assert all(torch.equal(a, b) for a, b in zip(own.parameters(), twin.parameters(), strict=True))

    def saved() -> bytes:
        theirs = whole.dump()
        if ranks.rank:
            sharded.hand_in()
        else:
            assert sharded.dump() == theirs
        return theirs

    begin = saved()
    for number in range(3):
        step(number)
    kept = saved()
    for optimiser in (sharded, whole):
        optimiser.put(other)
        optimiser.load(begin if name == "qwen3" else kept)
        optimiser.adopt(settings.model_copy(update={"learning_rate": 3e-3}))
    same()
    step(3)
    with pytest.raises(NotFinite, match="norm is nan"):
        step(4, bad=float("nan"))
    same()
    saved()
    held = sum(part.numel() for part in sharded.own)
    assert held < 1.1 * sum(weight.numel() for weight in twin.parameters()) / ranks.size
    ranks.close()


def sums() -> None:
    """Add up, exchange, and meet a rank that is silent for longer than allowed; exit status 7 when that was told."""
    torch.set_num_threads(1)
    ranks = ranks_here(120.0)
    parts = [torch.randn(1003, generator=torch.Generator().manual_seed(n)) * 10.0**n for n in range(ranks.size)]
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    assert torch.equal(ranks.sum(parts[ranks.rank].clone()), total)
    assert ranks.exchange({"rank": ranks.rank}) == [{"rank": n} for n in range(ranks.size)]
    if ranks.rank == 1:
        time.sleep(600)
    # All have come: from here on it is not the machine that is slow.
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1))
    try:
        ranks.exchange(None)
    except Unavailable:
        sys.exit(7)
    finally:
        ranks.close()
