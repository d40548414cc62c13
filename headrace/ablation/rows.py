"""What is measured of each page: one row a request, so that arms can be compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from headrace.ablation.lab import Lab
from headrace.evaluation.lists import PAGE_METRICS, K
from headrace.world import Outcome, Request
from trainers.evaluation import hit_rate, reciprocal_rank

#: Columns, with what they count. The first ones are the demo's own (`headrace.evaluation.lists`).
COLUMNS: Final = {
    **dict.fromkeys(PAGE_METRICS, ""),
    "order_hr10": "an order from the first ten",
    "order_mrr10": "reciprocal rank of the first ordered item in the first ten",
    "new_shown": "share of the first ten that appeared after the log's end",
    "new_clicks": "clicks on such items",
}


class Rows:
    """Pages by the number of their request."""

    def __init__(self, lab: Lab, count: int) -> None:
        self._judge, self._live_ms = lab.judge, lab.world.live_ms
        self._row, self._from_N = lab.world.catalogue.row, lab.world.catalogue.available_from_N
        self.columns: dict[str, list[float]] = {name: [float("nan")] * count for name in COLUMNS}

    def put(self, n: int, request: Request, shown: Sequence[str]) -> Outcome:
        """Judge the page of request ``n``; returns what the user did with it."""
        values, outcome = self._judge.page(request, shown)
        shown = list(shown[:K])
        ordered = {order.item for order in outcome.orders}
        order_1K = np.array([[item in ordered for item in shown]], dtype=np.bool_).reshape(1, -1)
        fresh = {item for item in shown if self._from_N[self._row[item]] > self._live_ms}
        values |= {
            "order_hr10": float(hit_rate(order_1K, K)[0]),
            "order_mrr10": float(reciprocal_rank(order_1K, K)[0]),
            "new_shown": len(fresh) / len(shown) if shown else 0.0,
            "new_clicks": float(sum(click.item in fresh for click in outcome.clicks)),
        }
        for name, column in self.columns.items():
            column[n] = values[name]
        return outcome
