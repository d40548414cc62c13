"""Puts the report together: every number is read back from topics, the store or the driver's own log."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.demo.closing import missing
from headrace.report.decisions import weights_story
from headrace.report.events import account
from headrace.report.latency import Clock, Served, event_to_served, weights_to_gradient
from headrace.settings import Settings
from headrace.shop.driver import Driver, LiveLog
from headrace.stack import Stack
from schemas import log
from schemas.artefacts import Artefacts
from schemas.checkpoints import Promotion
from schemas.clients import redis_client
from schemas.connections import Connections
from schemas.journal import GateDecision, StepIntent, StepResult
from schemas.store import Store
from schemas.topics import CANDIDATES, EXAMPLES, IMPRESSIONS, PROMOTED, STEPS, WEIGHTS
from schemas.weights import RewardWeights
from streams.accounting import totals
from trainers import checkpoints

#: Libraries whose versions the report names.
LIBRARIES = ("headrace", "torch", "transformers", "faust-streaming", "confluent-kafka", "faiss-cpu", "onnxruntime", "numpy")
#: Points of a curve over steps.
POINTS = 200


@dataclass(frozen=True)
class Journal:
    """training.steps, sorted out."""

    intents: list[StepIntent]
    results: list[StepResult]
    gate: list[GateDecision]

    @classmethod
    def read(cls, connections: Connections) -> Journal:
        """All of it, a step's newest record once (a resumed learner writes none twice, but may have been cut off)."""
        records = [entry.record for entry in log.scan(connections, STEPS)]
        intents = {r.step: r for r in records if isinstance(r, StepIntent)}
        results = {r.step: r for r in records if isinstance(r, StepResult)}
        decisions = {r.checkpoint: r for r in records if isinstance(r, GateDecision)}
        return cls(list(intents.values()), [results[step] for step in sorted(results)], list(decisions.values()))


def collect(
    stack: Stack,
    driver: Driver,
    live: LiveLog,
    quality: dict[str, Any],
    prepared: dict[str, Any],
    seconds: dict[str, float],
    started: float,
) -> dict[str, Any]:
    """The report of a demo, as DESIGN's contract lists it and a few things more."""
    settings, journal = stack.settings, Journal.read(stack.settings.connections)
    sent = dict(driver.delivery.sink.acked)
    sent[IMPRESSIONS.name] = sent.get(IMPRESSIONS.name, 0) + sum(1 for search in live.searches if search.shown)
    counted = account(settings.connections, totals(settings.connections).get("attribution", {}), sent)
    promoted: list[Promotion] = [e.record for e in log.scan(settings.connections, PROMOTED)]
    served = _served(settings, live, promoted)
    decided = sorted((e.record for e in log.scan(settings.connections, WEIGHTS)), key=lambda w: w.version)
    change = decided[-1] if decided and decided[-1].version > 1 else None
    before = decided[-2] if len(decided) > 1 else RewardWeights()
    reached = weights_to_gradient(change, journal.intents) if change else None
    clock = Clock([event for event, _ in live.clock], [wall for _, wall in live.clock])
    attribution = settings.streams.attribution
    window_ms = (attribution.click_window_s + attribution.lateness_s) * 1000
    examples = list(log.scan(settings.connections, EXAMPLES))
    served_latency = event_to_served(examples, served, clock, window_ms, driver.world.live_ms)
    frozen = Artefacts.load(Store(settings.store)).frozen
    wanting = missing(
        [s.manifest.checkpoint for s in served], frozen, counted["events"]["lost"], journal.gate, change, reached
    )
    progress = quality.pop("progress")
    return {
        "data": settings.data,
        "seed": settings.seed,
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started)),
        "closed": not wanting,
        "why": "; ".join(wanting),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES} | _artefacts(settings),
        **counted,
        "learner": _learner(settings, journal, promoted),
        "latency_s": {
            "event_to_served": served_latency,
            "weights_to_gradient": reached[0] if reached else None,
            "search": _percentiles([search.latency_s for search in live.searches]),
        },
        "keywords": _keywords(settings, live),
        "quality": quality,
        "weights_story": weights_story(before, change, reached, journal.results),
        "prepared": prepared,
        "seconds": {"install": install_seconds(), **seconds, "total": time.time() - started},
        "clock_speed": live.speed,
        "searches": {"answered": len(live.searches), "retries": live.retries, "not_asked": live.not_asked},
        "sent": dict(driver.delivery.sent),
        "restarts": sum(stack.supervisor.restarts.values()),
        "memory_gib": stack.supervisor.peak_bytes / 2**30,
        "gate": [_plain(decision) for decision in journal.gate],
        "series": {"progress": progress, "marks": _marks(live, driver), "steps": _curves(journal, change)},
    }


def _served(settings: Settings, live: LiveLog, promoted: Sequence[Promotion]) -> list[Served]:
    """Checkpoints in the order of their first search, the warm start left out."""
    store, first = Store(settings.store), dict[str, float]()
    names = {promotion.checkpoint for promotion in promoted}
    for search in live.searches:
        if search.checkpoint in names and search.shown:
            first.setdefault(search.checkpoint, search.wall_s)
    return [Served(checkpoints.read(store, name), wall) for name, wall in first.items()]


def _learner(settings: Settings, journal: Journal, promoted: Sequence[Promotion]) -> dict[str, Any]:
    results = journal.results
    prompts = sum(r.prompts for r in results)
    busy_s = (results[-1].created_ms - results[0].created_ms) / 1000 if len(results) > 1 else float("nan")
    group = settings.trainers.learner.group
    return {
        "steps": len(results),
        "examples": sum(r.examples for r in results),
        "prompts": prompts,
        "rollouts_per_s": prompts * group / busy_s if busy_s > 0 else 0.0,
        "checkpoints": sum(1 for _ in log.scan(settings.connections, CANDIDATES)),
        "promoted": len({p.checkpoint for p in promoted}),
        "learner": settings.trainers.learner.loss.learner,
    }


def _keywords(settings: Settings, live: LiveLog) -> dict[str, float]:
    from streams.keywords.store import RedisKeywordStore

    with redis_client(settings.connections) as client:
        store = RedisKeywordStore(client)
        coverage = store.coverage([search.request.query for search in live.searches])
        return {"coverage": float(coverage), "refreshed": int(store.refreshed())}


def _marks(live: LiveLog, driver: Driver) -> list[dict[str, Any]]:
    """Positions on the axis of searches."""
    times = [search.request.ts for search in live.searches]
    marks: list[dict[str, Any]] = []
    if live.half_at is not None:
        marks.append({"label": "weights changed", "at": live.half_at})
    if driver.world.drift_ms < driver.world.end_ms:
        marks.append({"label": "taste changed", "at": int(np.searchsorted(times, driver.world.drift_ms))})
    return marks


def _curves(journal: Journal, change: RewardWeights | None) -> dict[str, Any]:
    """Reward and distinct identifiers over wall time, averaged into at most `POINTS` points."""
    results = journal.results
    begin = results[0].created_ms if results else 0
    pieces = [piece for piece in np.array_split(np.arange(len(results)), min(POINTS, max(1, len(results)))) if len(piece)]

    def curve(name: str) -> list[float]:
        return [float(np.mean([results[n].metrics.get(name, float("nan")) for n in piece])) for piece in pieces]

    return {
        "wall_s": [float(np.mean([(results[n].created_ms - begin) / 1000 for n in piece])) for piece in pieces],
        "reward": curve("reward"),
        "unique": curve("unique_sids"),
        "marks": {"weights changed": (change.created_ms - begin) / 1000} if change and results else {},
    }


def install_seconds() -> float:
    """How long `make install` took, kept beside the virtual environment; 0 when it was installed otherwise."""
    stamp = Path(sys.prefix) / ".installed"
    said = stamp.read_text().strip() if stamp.is_file() else ""
    return float(said) if said.isdecimal() else 0.0


def _artefacts(settings: Settings) -> dict[str, str]:
    artefacts = Artefacts.load(Store(settings.store))
    return {"identifiers": artefacts.identifiers, "relevance": artefacts.relevance, "frozen": artefacts.frozen}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99]) if values else (float("nan"), float("nan"))
    return {"p50": float(p50), "p99": float(p99)}


def _plain(decision: GateDecision) -> dict[str, Any]:
    names = ("checkpoint", "against", "promoted", "diff", "low", "high", "n", "reason")
    return {name: getattr(decision, name) for name in names}
