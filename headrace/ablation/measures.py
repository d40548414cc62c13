"""What arms are compared by: a column of the pages, over all of them or some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.ablation.lab import CLASSES, Facts
from headrace.ablation.results import ArmResult
from trainers.evaluation import paired_bootstrap

#: Earlier searches for the query, as the tables cut them: from, up to (not included).
VISITS = ((0, 1), (1, 4), (4, 16), (16, None))
#: Most days after the drift that a table shows.
DAYS = 8

Mask = Callable[[Facts], NDArray[np.bool_]]


class Measure(NamedTuple):
    """``part``: stream or probes; ``where`` None: every page of it."""

    name: str
    part: str
    column: str
    where: Mask | None = None


#: Of the whole stream: name of the measure -> column.
WHOLE = {
    "reward": "reward_per_search", "clicks": "clicks_per_search", "orders": "orders_per_search", "ndcg": "ndcg10",
    "click_hr": "hr10", "click_mrr": "mrr10", "order_hr": "order_hr10", "order_mrr": "order_mrr10",
    "new_shown": "new_shown", "new_clicks": "new_clicks",
}  # fmt: skip


def measures() -> list[Measure]:
    """All of them, in the order of the tables."""
    made = [Measure(name, "stream", column) for name, column in WHOLE.items()]
    made += [Measure(f"unseen.{name}", "probes", WHOLE[name]) for name in ("reward", "clicks", "orders", "ndcg")]
    cuts: dict[str, Mask] = {f"visits {span_name(*span)}": _visits(*span) for span in VISITS}
    cuts |= {name: _class(name) for name in CLASSES}
    cuts |= {"before the drift": _day(-1)} | {f"drift day {day}": _day(day) for day in range(DAYS)}
    for cut, mask in cuts.items():
        made += [Measure(f"{cut}: {name}", "stream", WHOLE[name], mask) for name in ("reward", "clicks")]
    return made


def span_name(low: int, high: int | None) -> str:
    """Of a span of visits: "0", "1-3", "16+"."""
    return f"{low}+" if high is None else str(low) if high == low + 1 else f"{low}-{high - 1}"


def values(result: ArmResult, measure: Measure) -> NDArray[np.float64]:
    """One per page; NaN where it does not count."""
    column = result.columns(measure.part)[measure.column]
    return column if measure.where is None else np.where(measure.where(result.facts), column, np.nan)


def mean(results: Sequence[ArmResult], measure: Measure) -> float | None:
    """Over seeds and runs, each weighing the same; None where no page counts."""
    found = [column for column in (values(result, measure) for result in results) if not np.isnan(column).all()]
    return float(np.mean([np.nanmean(column) for column in found])) if found else None


def paired(ours: Sequence[ArmResult], theirs: Sequence[ArmResult], measure: Measure) -> dict[str, Any] | None:
    """Mean of ours less theirs over the same pages of the seeds that both have, with its interval; clusters are the queries
    of all seeds together, and runs of the same seed are resampled too. None with fewer than two queries: nothing to resample."""
    mine, other = _by_seed(ours), _by_seed(theirs)
    a_Dn, b_Dn, clusters = list[NDArray[np.float64]](), list[NDArray[np.float64]](), list[str]()
    for seed in [seed for seed in mine if seed in other]:
        a_DN, b_DN = (np.stack([values(result, measure) for result in by_seed[seed]]) for by_seed in (mine, other))
        known_N = ~np.isnan(np.concatenate([a_DN, b_DN])).any(axis=0)
        labels = mine[seed][0].facts.query if measure.part == "stream" else mine[seed][0].probe_query
        a_Dn.append(a_DN[:, known_N])
        b_Dn.append(b_DN[:, known_N])
        clusters += [label for label, known in zip(labels, known_N, strict=True) if known]
    if len(set(clusters)) < 2:
        return None
    return dict(paired_bootstrap(np.concatenate(a_Dn, axis=1), np.concatenate(b_Dn, axis=1), clusters)._asdict())


def _by_seed(results: Sequence[ArmResult]) -> dict[int, list[ArmResult]]:
    """Runs of each seed; of all seeds the same number, as the study plays them."""
    found: dict[int, list[ArmResult]] = {}
    for result in results:
        found.setdefault(result.seed, []).append(result)
    return found


def _visits(low: int, high: int | None) -> Mask:
    return lambda facts: (np.array(facts.visits) >= low) & (np.array(facts.visits) < (np.inf if high is None else high))


def _class(name: str) -> Mask:
    return lambda facts: np.array(facts.class_) == name


def _day(day: int) -> Mask:
    return lambda facts: np.array(facts.after_drift) == day
