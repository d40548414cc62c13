"""A paced feeder as a process: ``python -m benchmarks.plane.feeder PLAN``, where PLAN is a `Plan` as JSON.

Event time is wall time. Every 0.1 s what is due goes out, dirty as the product's delivery makes it, and a tick. A feeder that the
machine held up sends what it owes at once. At its end it lets every window close and writes how many records were kept.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.plane.traffic import Traffic
from benchmarks.plane.worker import ROOT
from headrace.process import Process
from headrace.services.child import Child
from headrace.shop.delivery import Delivery
from headrace.shop.settings import DeliverySettings
from headrace.shop.sink import KafkaSink
from schemas.connections import Connections
from streams.settings import AttributionSettings

STEP_S = 0.1


class Plan(BaseModel):
    """What to feed. ``rate``: true events a second, mishaps come on top; ``said``: where the end is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: Connections
    rules: AttributionSettings
    rate: float = Field(gt=0)
    seconds: float = Field(gt=0)
    seed: int
    said: Path


class Said(BaseModel):
    """What a feeder says at its end: records kept by the broker, records by kind and mishap, and its worst delay (s)."""

    kept: int
    sent: dict[str, int]
    behind_s: float


def feeder(run: Path, plan: Plan) -> Process:
    """The process, not started."""
    argv = (sys.executable, "-m", "benchmarks.plane.feeder", plan.model_dump_json())
    return Process(Child("feeder", argv, cwd=ROOT, restart=None, grace_s=60.0), run, os.environ)


def feed(plan: Plan) -> Said:
    """Send it all.

    Raises:
        Unavailable: the broker did not keep a record for minutes.
    """
    sink = KafkaSink(plan.connections)
    delivery = Delivery(sink, DeliverySettings(lateness_s=plan.rules.lateness_s), plan.seed)
    traffic = Traffic(plan.seed, plan.rules)
    began, start = time.monotonic(), int(time.time() * 1_000)
    offered, at, behind = 0, 0.0, 0.0
    while at < plan.seconds:
        at += STEP_S
        time.sleep(max(0.0, began + at - time.monotonic()))
        behind = max(behind, time.monotonic() - began - at)
        clock = start + int(at * 1_000)
        while offered < plan.rate * at:
            for event in traffic.view(clock):
                delivery.offer(event)
                offered += 1
        delivery.advance(clock, wait=False)
    rules = plan.rules
    left_s = rules.click_window_s + rules.order_window_s + rules.return_window_s + 2 * rules.lateness_s
    # Beyond this nothing is due but what waits past every window; the future is tolerated that far.
    end = delivery.clock_ms + 1_000 * (left_s + 60)
    delivery.drain(end)
    delivery.advance(end + 1_000 * left_s)
    return Said(kept=sink.acked.total(), sent=dict(delivery.sent), behind_s=behind)


if __name__ == "__main__":
    given = Plan.model_validate_json(sys.argv[1])
    given.said.write_text(feed(given).model_dump_json())
