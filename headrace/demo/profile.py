"""Settings of a demo: those defaults that a clock thousands of times faster than the wall's has to change.

A few wall minutes hold days of event time, so what is a second of jitter on the wall is an hour on the clock: the allowed
lateness, the ticks' grid and the snapshots' cadence are stretched with it. Windows (click, order, return) stay as they are.
"""

from __future__ import annotations

import time
from typing import Any

from headrace.settings import Settings, load_settings
from schemas.errors import InvalidSetting

HOUR_S = 3_600
#: Seconds of a demo that are neither warm start nor live stream: services, identifiers, drain, evaluation, report.
OVERHEAD_S = {"shop": 100.0, "folder": 270.0}
#: Share of the rest that the warm start gets.
WARM_SHARE = 0.32


def demo_settings(data: str, minutes: float, seed: int, items: int | None) -> tuple[Settings, float]:
    """Settings of a demo, and the wall minutes of its live stream.

    Raises:
        InvalidSetting: ``items`` for a data folder, which has its own catalogue.
    """
    shop = data == "shop"
    if items is not None and not shop:
        raise InvalidSetting("--items", items, "left out with --data PATH", "the folder's catalogue is used whole")
    rest_s = max(25.0, minutes * 60 - OVERHEAD_S["shop" if shop else "folder"])
    warm_s = round(WARM_SHARE * rest_s, 1)
    base = load_settings()
    changes: dict[str, Any] = {
        "data": data,
        "seed": seed,
        "now_ms": int(time.time() * 1000),
        "shop": _shop(base, seed, items, rest_s - warm_s),
        "delivery": {"lateness_s": HOUR_S, "round_span_s": 3_000, "tick_s": HOUR_S},
        "streams": {"attribution": {"lateness_s": HOUR_S, "tick_grid_s": 600}},
        "reward": {"posterior": {"snapshot_every_s": 3 * HOUR_S, "bucket_s": 6 * HOUR_S}},
        "serving": {"simulated_clock": True, "port": 0, "engine": {"seed": seed}},
        "console": {"port": 0},
        "trainers": {
            "warm_start": {"seconds": warm_s},
            "policy": {"threads": 1},
            "learner": {"seed": seed, "checkpoint_every_s": 8.0},
        },
    }
    return load_settings(**_merged(base, changes)), (rest_s - warm_s) / 60


def _shop(base: Settings, seed: int, items: int | None, live_s: float) -> dict[str, Any]:
    """The shop: as many searches as two cores answer beside the learner, at most those of the settings."""
    asked = min(base.shop.live_requests, int(live_s * SEARCHES_PER_S))
    return {"seed": seed, "live_requests": asked} | ({"items": items} if items else {})


#: Searches a wall second that the demo asks of a machine with two cores.
SEARCHES_PER_S = 32


def _merged(base: Settings, changes: dict[str, Any]) -> dict[str, Any]:
    """``changes`` over the defaults, below what file and environment say."""
    given = base.model_dump(exclude_unset=True)

    def over(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
        merged = dict(low)
        for name, value in high.items():
            below = merged.get(name)
            merged[name] = over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        return merged

    return over(changes, given)
