"""Settings of a demo: those defaults that a clock thousands of times faster than the wall's has to change.

A few wall minutes hold days of event time, so what is a second of jitter on the wall is an hour on the clock: the allowed
lateness, the ticks' grid and the snapshots' cadence are stretched with it. Windows (click, order, return) stay as they are.
"""

from __future__ import annotations

import time
from typing import Any

from headrace.settings import Settings, load_settings, with_open_console
from schemas.connections import without_password
from schemas.errors import InvalidSetting

HOUR_S = 3_600
#: Seconds of a demo that are neither warm start nor live stream: services, identifiers, drain, evaluation, report.
OVERHEAD_S = {"shop": 95.0, "folder": 360.0}
#: Seconds of it that come after the live stream: windows close, evaluation, report.
AFTER_S = {"shop": 42.0, "folder": 120.0}
#: Least share of the planned live stream that a slow beginning leaves: without it there would be nothing to see.
LEAST_LIVE = 0.5
#: Share of the rest that the warm start gets.
WARM_SHARE = 0.14
#: Steps a second that the warm start does on an idle core. It is given steps, so that a loaded machine does not weaken it.
WARM_STEPS_PER_S = 9
#: A young shop: a short log, few labels, many rare queries, a third of them not asked before. What an online learner is for.
YOUNG = {"history_impressions": 2_000, "judged_share": 0.2, "queries": 600, "new_query_share": 0.33}
#: Searches a wall second that the demo asks of a machine with two cores, at most those of the settings.
SEARCHES_PER_S = 32


def demo_settings(
    data: str | None, minutes: float, seed: int | None, items: int | None, own_services: bool = False
) -> tuple[Settings, float]:
    """Settings of a demo, and the wall minutes of its live stream.

    What was typed goes over file and environment, and these over the demo's own values.

    Raises:
        InvalidSetting: ``items`` for a data folder, which has its own catalogue; or a service has an address, and nobody
            said by ``own_services`` that it is meant.
    """
    base = load_settings()
    if not own_services:
        _refuse_addresses(base)
    data, seed = data if data is not None else base.data, seed if seed is not None else base.seed
    shop = data == "shop"
    if items is not None and not shop:
        raise InvalidSetting("--items", items, "left out with --data PATH", "the folder's catalogue is used whole")
    rest_s = max(25.0, minutes * 60 - OVERHEAD_S["shop" if shop else "folder"])
    warm_s = round(WARM_SHARE * rest_s, 1)
    changes: dict[str, Any] = {
        "now_ms": int(time.time() * 1000),
        "shop": YOUNG
        | {"seed": seed, "live_requests": min(base.shop.live_requests, int((rest_s - warm_s) * SEARCHES_PER_S))},
        "delivery": {"lateness_s": HOUR_S, "round_span_s": 3_000, "tick_s": HOUR_S},
        "streams": {"attribution": {"lateness_s": HOUR_S, "tick_grid_s": 600}},
        "reward": {"posterior": {"snapshot_every_s": 3 * HOUR_S, "bucket_s": 6 * HOUR_S}},
        "serving": {"simulated_clock": True, "port": 0, "engine": {"seed": seed}},
        "console": {"port": 0},
        "trainers": {
            "warm_start": {"steps": int(warm_s * WARM_STEPS_PER_S), "seconds": 2 * warm_s},
            "policy": {"threads": 1},
            "learner": {"seed": seed, "checkpoint_every_s": 8.0, "held_out_share": 0.1},
        },
    }
    typed: dict[str, Any] = {"data": data, "seed": seed} | ({"shop": {"items": items}} if items else {})
    given = base.model_dump(exclude_unset=True)
    settings = with_open_console(load_settings(**over(over(changes, given), typed)))
    return settings, (rest_s - warm_s) / 60


def _refuse_addresses(settings: Settings) -> None:
    """A shell that somebody works in names their services; a demo fills them with what nobody has searched or clicked."""
    for name in ("kafka", "redis", "database", "store"):
        if address := getattr(settings, name):
            bound = "empty for a demo, which would write simulated events, weights and artefacts there"
            remedy = f"unset HEADRACE_{name.upper()}, or type --own-services where that is meant"
            raise InvalidSetting(f"setting {name}", without_password(address), bound, remedy)


def slowness(settings: Settings, warm_start_s: float) -> float:
    """How many times as long as an idle core this machine took for the steps of the warm start; at least 1."""
    return max(1.0, warm_start_s * WARM_STEPS_PER_S / settings.trainers.warm_start.steps)


def live_minutes(minutes: float, planned: float, spent_s: float, data: str, slow: float = 1.0) -> float:
    """Minutes for the live stream once ``spent_s`` of a demo of ``minutes`` are gone: as planned, or what is left.

    A first run fetches Kafka and converts the sentence model, and a machine that is ``slow`` times slower takes longer for
    everything, what comes after the live stream too.
    """
    left_s = minutes * 60 - spent_s - slow * AFTER_S["shop" if data == "shop" else "folder"]
    return min(planned, max(LEAST_LIVE * planned, left_s / 60))


def over(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """Both, section by section; where both name a field, ``high`` has it."""
    merged = dict(low)
    for name, value in high.items():
        below = merged.get(name)
        merged[name] = over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
