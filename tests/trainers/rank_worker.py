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

import torch
import torch.distributed as dist

from headrace.logs import configure_logs
from headrace.services.ports import free_port
from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.store import Store
from tests.trainers.learner_toys import tools
from tests.trainers.learner_worker import CHANGED, SETTINGS
from trainers.ranks import ranks_here
from trainers.running import lead_or_follow
from trainers.settings import GuardSettings, TrainerSettings

#: Bounds that nothing keeps: after ten steps training is sent back.
STRICT = CHANGED.model_copy(
    update={
        "learner": CHANGED.learner.model_copy(
            update={"guards": GuardSettings(steps=2, reward_jump=1e-9, on_alarm="roll_back"), "micro_batch": 1}
        )
    }
)
NAMED: dict[str, TrainerSettings] = {"first": SETTINGS, "changed": CHANGED, "strict": STRICT}


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
