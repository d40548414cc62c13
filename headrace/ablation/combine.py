"""All arms and seeds put together: means, differences to the frozen arm and to ours, and the learner's health."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from headrace.ablation.arms import FROZEN, OURS
from headrace.ablation.measures import Measure, mean, measures, paired
from headrace.ablation.results import ArmResult

#: Step metrics that the report shows; the curves have all of them.
HEALTH = ("unique_sids", "constant_groups", "entropy", "sft_ce", "warm_start_ce", "logp_gap")


def combine(results: Sequence[ArmResult], loop: dict[str, Any]) -> dict[str, Any]:
    """What the report is written from, and ``ablation.json`` is. A pure function of the results: no clock, no machine.

    ``loop``: settings that the arms have in common. ``paired[other][arm][measure]`` is arm less other.
    """
    arms: dict[str, list[ArmResult]] = {}
    for result in results:
        arms.setdefault(result.arm.name, []).append(result)
    asked = measures()
    references = [name for name in (FROZEN, OURS) if name in arms]
    return {
        "data": sorted({result.data for result in results}),
        "seeds": sorted({result.seed for result in results}),
        "loop": loop,
        "code": sorted({result.code for result in results}),
        "searches": {str(r.seed): len(r.facts.request) for r in results},
        "queries": {str(r.seed): len(set(r.facts.query)) for r in results},
        "probes": {str(r.seed): len(r.probe_query) for r in results},
        "arms": {name: _arm(found, asked) for name, found in arms.items()},
        "paired": {
            other: {name: {m.name: paired(found, arms[other], m) for m in asked} for name, found in arms.items()}
            for other in references
        },
    }


def _arm(results: list[ArmResult], asked: Sequence[Measure]) -> dict[str, Any]:
    first, published = results[0], [p for result in results for p in result.publications]
    rates = [result.valid_sid_rate for result in results if result.valid_sid_rate is not None]
    return {
        "says": first.arm.says,
        "answers": first.arm.answers,
        "trained": first.arm.trained,
        "set": msgspec.to_builtins(first.arm.set),
        "seeds": sorted({result.seed for result in results}),
        "runs": 1 + max(result.run for result in results),
        "means": {m.name: mean(results, m) for m in asked},
        "by_run": [{"seed": r.seed, "run": r.run, **{m.name: mean([r], m) for m in asked}} for r in results],
        "valid_sid_rate": float(np.mean(rates)) if rates else None,
        "refused": dict(sum((Counter(result.refused) for result in results), Counter[str]())),
        "published": len(published),
        "promoted": sum(bool(p["promoted"]) for p in published),
        "health": {when: _health(results, end) for when, end in (("first", 0), ("last", -1))},
    }


def _health(results: Sequence[ArmResult], end: int) -> dict[str, float | None]:
    """Step metrics over the first (0) or the last (-1) tenth of each curve; ``entropy`` of all levels together, in nats."""
    found: dict[str, float | None] = {}
    for name in HEALTH:
        rows = [value for result in results if (value := _of_curve(result, name, end)) is not None]
        found[name] = float(np.mean(rows)) if rows else None
    return found


def _of_curve(result: ArmResult, name: str, end: int) -> float | None:
    parts = [key for key in result.curves if key == name or key.startswith(f"{name}.")]
    if not parts:
        return None
    total = np.sum([np.array(result.curves[part], dtype=np.float64) for part in parts], axis=0)
    known = total[~np.isnan(total)]
    tenth = max(1, len(known) // 10)
    return float((known[:tenth] if end == 0 else known[-tenth:]).mean()) if len(known) else None
