"""The evaluation of a run: online against frozen, beside the yardsticks, paired by request and clustered by query.

Progressive: every live search counts, in the order of the stream, with the model that was serving at that moment (predict,
then learn).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.evaluation.arms import Offline
from headrace.evaluation.lists import PAGE_METRICS, Judge
from headrace.evaluation.yardsticks import ClickMemory, LexicalSearch
from headrace.folder import RunFolder
from headrace.settings import Settings
from headrace.world import Request, World
from headrace.worlds import open_run_world
from reward.desk.desk import Desk
from reward.text import normalise
from schemas import log
from schemas.artefacts import Artefacts
from schemas.codec import decode
from schemas.connections import Connections
from schemas.database import open_database
from schemas.errors import InvalidEvent, Unavailable
from schemas.events import Click, Impression
from schemas.store import Store
from schemas.topics import IMPRESSIONS, PROMOTED
from trainers.evaluation import paired_bootstrap
from trainers.lines import Line

#: Pieces into which the live stream is cut for the curves.
PIECES = 10
NOTE = (
    "Progressive: each live search is answered by the model that was serving then; the other arms answer the same request "
    "with the same context, and meet the same users and draws. Online and frozen use the same weights, posterior snapshots "
    "and exploration noise. BM25 and the click memory have no reward components; the memory learns from its own pages at "
    "once. Intervals are paired and clustered by query."
)

Values = dict[str, NDArray[np.float64]]


def run_evaluation(
    folder: RunFolder, settings: Settings, tell: Callable[[str, float], None] | None = None
) -> dict[str, Any]:
    """Quality of a run as `report.json` has it, with ``progress`` for the curves.

    Raises:
        Unavailable: the run has served no live search.
    """
    tell = tell or (lambda text, share: None)
    # As the server does: a thread a core waits at every small product for the one that another process has displaced.
    torch.set_num_threads(settings.serving.threads)
    tell("world", 0.0)
    world = open_run_world(settings)
    requests = {r.request_id: r for r in world.requests()}
    served = _served(settings, world, requests)
    judge = Judge(world)
    tell("served pages", 0.1)
    arms = {"online": [tuple(s.item for s in i.items) for i, _ in served]}
    offline = Offline.open(settings, Desk(open_database(settings.connections)).books())
    artefacts = Artefacts.load(offline.store)
    frozen = offline.engine(artefacts.frozen)
    impressions = [i for i, _ in served]
    arms["frozen"] = []
    for page in offline.pages(frozen, impressions, settings.delivery.page):
        arms["frozen"].append(page)
        tell("frozen arm", 0.1 + 0.6 * len(arms["frozen"]) / len(served))
    tell("yardsticks", 0.75)
    asked = [r for _, r in served]
    values = {name: _judge(judge, asked, pages) for name, pages in arms.items()}
    lexical = LexicalSearch(world.catalogue)
    values["bm25"] = _judge(judge, asked, [tuple(lexical.rank(r, settings.delivery.page)) for r in asked])
    values["click_memory"] = _remember(judge, asked, lexical, settings)
    online = frozen
    if promoted := last_promoted(settings.connections, offline.store, artefacts):
        online = offline.engine(promoted)
    rates = {"frozen": offline.valid_rate(frozen, impressions), "online": offline.valid_rate(online, impressions)}
    tell("intervals", 0.95)
    return _summary(values, asked, rates, settings.seed) | {"note": " ".join((NOTE, *world.notes))}


def last_promoted(connections: Connections, store: Store, artefacts: Artefacts) -> str:
    """The checkpoint promoted last of those that descend from the present warm start; empty before any."""
    line = Line(store, artefacts.frozen)
    promotions = [entry.record for entry in log.scan(connections, PROMOTED)]
    return next((one.checkpoint for one in reversed(promotions) if line.promoted(one)), "")


def _served(settings: Settings, world: World, requests: dict[str, Request]) -> list[tuple[Impression, Request]]:
    """Live page views in the order of the stream, once each, with the world's request (a retried one has a suffix)."""
    found: dict[str, tuple[Impression, Request]] = {}
    for _, _, _, raw in log.scan_raw(settings.connections, IMPRESSIONS):
        try:
            event = decode(IMPRESSIONS.kind, raw)
        except InvalidEvent:
            continue  # in quarantine, with its reason
        if isinstance(event, Impression) and event.checkpoint and event.ts >= world.live_ms:
            request = requests.get(event.request_id) or requests.get(event.request_id.rpartition(".")[0])
            if request is not None:
                found.setdefault(event.request_id, (event, request))
    if not found:
        raise Unavailable("evaluation", "the run has served no live search", "let it run longer, or look at its logs")
    return sorted(found.values(), key=lambda pair: (pair[0].ts, pair[0].request_id))


def _judge(judge: Judge, asked: Sequence[Request], pages: Sequence[Sequence[str]]) -> Values:
    rows = [judge.page(request, page)[0] for request, page in zip(asked, pages, strict=True)]
    return {metric: np.array([row[metric] for row in rows]) for metric in PAGE_METRICS}


def _remember(judge: Judge, asked: Sequence[Request], lexical: LexicalSearch, settings: Settings) -> Values:
    """The click memory in its own closed loop: it starts with the logged past and learns from its own pages."""
    world = judge.world
    memory = ClickMemory(lexical, world.catalogue, settings.reward.posterior.position_power)
    pages: dict[str, tuple[Impression, set[str]]] = {}
    for event in world.history():
        if isinstance(event, Impression):
            pages[event.request_id] = (event, set())
        elif isinstance(event, Click) and event.request_id in pages:
            pages[event.request_id][1].add(event.item)
    for page, clicked in pages.values():
        memory.learn(page.query, [s.item for s in sorted(page.items, key=lambda s: s.position)], clicked)
    rows = []
    for request in asked:
        shown = memory.rank(request, settings.delivery.page)
        metrics, outcome = judge.page(request, shown)
        memory.observe(request, shown, outcome)
        rows.append(metrics)
    return {metric: np.array([row[metric] for row in rows]) for metric in PAGE_METRICS}


def known_mean(values: NDArray[np.float64]) -> float | None:
    """Mean over the pages whose value is known (not NaN); None when there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def known_paired(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], clusters: Sequence[str], seed: int
) -> dict[str, Any] | None:
    """Interval over the pages where both are known; None with fewer than two queries: nothing to resample."""
    known = ~(np.isnan(ours) | np.isnan(theirs))
    labels = [cluster for cluster, keep in zip(clusters, known, strict=True) if keep]
    if len(set(labels)) < 2:
        return None
    return paired_bootstrap(ours[known], theirs[known], labels, seed=seed)._asdict()


def _summary(values: dict[str, Values], asked: Sequence[Request], rates: dict[str, float], seed: int) -> dict[str, Any]:
    order = [name for name in ("frozen", "online", "bm25", "click_memory") if name in values]
    clusters = [normalise(r.query) for r in asked]

    def against(other: str) -> dict[str, Any]:
        return {m: known_paired(values["online"][m], values[other][m], clusters, seed) for m in PAGE_METRICS}

    edges = np.linspace(0, len(asked), PIECES + 1).astype(int)
    pieces = [slice(a, b) for a, b in pairwise(edges) if b > a]
    return {
        "arms": {
            name: {m: known_mean(values[name][m]) for m in PAGE_METRICS} | {"valid_sid_rate": rates.get(name)}
            for name in order
        },
        "paired": against("frozen") | {"valid_sid_rate": None},
        "paired_against": {name: against(name) for name in order if name not in ("online", "frozen")},
        "searches": len(asked),
        "queries": len(set(clusters)),
        "progress": {
            "x": [float((p.start + p.stop) / 2) for p in pieces],
            "reward": {name: [float(values[name]["reward_per_search"][p].mean()) for p in pieces] for name in order},
        },
    }
