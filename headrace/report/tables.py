"""The report's tables, for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

#: Metrics of an arm, in the order they are shown, with what they count.
METRICS = {
    "reward_per_search": "mean composite reward of the shown items, at the default weights, with true tiers",
    "clicks_per_search": "clicks on the page",
    "orders_per_search": "orders from the page",
    "ndcg10": "NDCG@10 by true relevance tier",
    "hr10": "share of pages with a click in the first ten",
    "mrr10": "reciprocal rank of the first click in the first ten",
    "valid_sid_rate": "share of unconstrained greedy decodes that are identifiers of the catalogue",
}


def quality_table(quality: dict[str, Any]) -> Table:
    """Arms side by side."""
    table = Table("metric", *(name.replace("_", " ") for name in quality["arms"]), "online - frozen [95 %]", title="Quality")
    for metric in METRICS:
        cells = [_number(arm.get(metric)) for arm in quality["arms"].values()]
        table.add_row(metric.replace("_", " "), *cells, _interval(quality["paired"].get(metric)))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(row: dict[str, float] | None) -> str:
    return "-" if row is None else f"{row['diff']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
