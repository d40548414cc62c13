"""What all arms of a seed share: the world, its prepared artefacts, the requests, and what is known of each request."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.ablation.settings import LoopSettings, Setup, prepared_key
from headrace.ablation.withheld import WithheldWorld
from headrace.evaluation.lists import Judge
from headrace.evaluation.yardsticks import LexicalSearch
from headrace.folder import RunFolder
from headrace.prepare import run_prepare
from headrace.settings import Settings
from headrace.shop.settings import DAY_MS
from headrace.world import Event, Request
from headrace.worlds import open_run_world
from reward.prefixes import Prefixes
from reward.text import normalise
from schemas.artefacts import Artefacts
from schemas.errors import InvalidValue
from schemas.events import Impression
from schemas.store import Store
from serving.parts import Parts
from streams.posteriors.agents import load_prefixes

Tell = Callable[[str, float, str], None]

#: Queries that bring the first and the second third of the searches are head and middle, the others tail.
CLASSES = ("head", "middle", "tail")


class Facts(msgspec.Struct, frozen=True):
    """What is known of each of the n requests, the same for every arm."""

    request: list[str]
    query: list[str]  #: normalised: the clusters of every interval
    visits: list[int]  #: earlier searches for the query, of the log and of the stream
    class_: list[str]  #: of `CLASSES`
    after_drift: list[int]  #: whole days since the taste changed, -1 before


@dataclass(frozen=True, eq=False)
class Lab:
    """Opened once per process and seed. Nothing here changes while an arm runs but caches of pure functions."""

    settings: Settings
    world: WithheldWorld
    store: Store
    artefacts: Artefacts
    parts: Parts
    prefixes: Prefixes | None
    history: tuple[Event, ...]
    requests: tuple[Request, ...]
    probes: tuple[Request, ...]
    facts: Facts
    judge: Judge
    lexical: LexicalSearch

    def blocks(self, setup: Setup) -> Iterator[range]:
        """The stream as ranges of `requests` under one snapshot and one publication, ``loop.block`` long at most.

        The cut is a function of requests and settings alone: two arms are answered in the same blocks.
        """
        loop, every_ms = setup.loop, setup.settings.reward.posterior.snapshot_every_s * 1_000
        period, first = loop.step_every * loop.publish_every, 0
        for n, request in enumerate(self.requests):
            other_snapshot = request.ts // every_ms != self.requests[first].ts // every_ms
            if n > first and (n - first == loop.block or n % period == 0 or other_snapshot):
                yield range(first, n)
                first = n
        yield range(first, len(self.requests))

    def waves(self, block: range) -> list[list[int]]:
        """A block in passes none of whose searches hangs on another: every user's first, every user's second, and so on."""
        made: list[list[int]] = []
        asked: Counter[str] = Counter()
        for n in block:
            user = self.requests[n].user
            if asked[user] == len(made):
                made.append([])
            made[asked[user]].append(n)
            asked[user] += 1
        return made


def open_lab(root: Path, settings: Settings, loop: LoopSettings, tell: Tell = lambda *_: None) -> Lab:
    """Open the lab of ``settings`` below ``root``; what it lacks is prepared first.

    Raises:
        InvalidValue: the world has no live request, or all of its queries are withheld.
        InvalidData, Unavailable: as `headrace.prepare.run_prepare`.
    """
    folder = RunFolder(root / "worlds" / prepared_key(settings, loop))
    settings = settings.model_copy(update={"store": str(folder.store)})
    world = WithheldWorld(open_run_world(settings), loop.withheld_share, settings.seed)
    store = Store(settings.store)
    folder.root.parent.mkdir(parents=True, exist_ok=True)
    with folder.root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two processes that need it one prepares, the other waits
        if not store.exists("artefacts.json"):  # written last: without it, an earlier preparation was cut short
            shutil.rmtree(folder.root, ignore_errors=True)
            folder.create()
            run_prepare(folder, settings, tell, world)
    artefacts, history = Artefacts.load(store), tuple(world.history())
    asked = at_most(list(world.requests()), loop.requests, settings.seed)
    if not asked:
        raise InvalidValue("live requests", 0, "at least 1", "take other data, or withhold fewer queries")
    probes = world.probes()
    spread = np.unique(np.linspace(0, len(probes) - 1, min(loop.probes, len(probes)), dtype=np.int64))
    first = load_prefixes(store, artefacts, settings.reward.posterior)
    return Lab(
        settings=settings,
        world=world,
        store=store,
        artefacts=artefacts,
        parts=Parts.load(store, artefacts, settings.reward),
        prefixes=first and first.after({}),
        history=history,
        requests=tuple(asked),
        probes=tuple(probes[int(n)] for n in spread),
        facts=facts_of(asked, history, world.drift_ms),
        judge=Judge(world),
        lexical=LexicalSearch(world.catalogue),
    )


def at_most(requests: Sequence[Request], most: int, seed: int) -> list[Request]:
    """At most ``most`` requests, in their order: all those of users drawn by ``seed``, the last user's cut to fit."""
    ticket = {r.user: hashlib.blake2b(f"{seed}:{r.user}".encode(), digest_size=8).digest() for r in requests}
    drawn = sorted(range(len(requests)), key=lambda n: (ticket[requests[n].user], n))
    return [requests[n] for n in sorted(drawn[:most])]


def facts_of(requests: Sequence[Request], history: Sequence[Event], drift_ms: int) -> Facts:
    """The facts of a stream of requests after a log."""
    keys = [normalise(request.query) for request in requests]
    seen = Counter(normalise(event.query) for event in history if isinstance(event, Impression))
    class_of, visits = classes(keys), []
    for key in keys:
        visits.append(seen[key])
        seen[key] += 1
    return Facts(
        request=[request.request_id for request in requests],
        query=keys,
        visits=visits,
        class_=[class_of[key] for key in keys],
        after_drift=[max(-1, (request.ts - drift_ms) // DAY_MS) for request in requests],
    )


def classes(keys: Sequence[str]) -> dict[str, str]:
    """Class of each query: the most frequent ones that bring a third of the searches are head, and so on."""
    ranked = sorted(Counter(keys).items(), key=lambda pair: (-pair[1], pair[0]))
    before: NDArray[np.int64] = np.cumsum([0, *(count for _, count in ranked)])[:-1]
    third = np.minimum(3 * before // len(keys), 2)
    return {key: CLASSES[int(n)] for (key, _), n in zip(ranked, third, strict=True)}
