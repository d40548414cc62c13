"""A worker process of the tests: attribution with small windows. Arguments: connections as JSON, the consumer group."""

from __future__ import annotations

import os
import sys

from schemas.connections import Connections
from schemas.store import Store
from streams.attribution.core import attribution_agent
from streams.runtime.process import run
from streams.settings import AttributionSettings, RuntimeSettings

RULES = AttributionSettings(click_window_s=30, order_window_s=60, return_window_s=90, lateness_s=10, tick_grid_s=20)

if __name__ == "__main__":
    connections = Connections.model_validate_json(sys.argv[1])
    settings = RuntimeSettings(
        snapshot_records=int(os.environ.get("SNAPSHOT_RECORDS", "700")),
        linger_ms=int(os.environ.get("LINGER_MS", "20")),
        quiet_ms=50,
        ahead_s=int(os.environ.get("AHEAD_S", "900")),
        fetch_bytes=65_536,
        fetch_records=100,
        snapshot_part_bytes=5_000,
        session_timeout_s=2,
        stop_timeout_s=float(os.environ.get("STOP_TIMEOUT_S", "8")),
        metrics_port=int(os.environ.get("METRICS_PORT", "0")),
        lag_every_s=0.2,
        transaction_timeout_s=int(os.environ.get("TRANSACTION_TIMEOUT_S", "20")),
    )
    changes = {
        name: int(os.environ[name.upper()]) for name in ("click_window_s", "lateness_s") if name.upper() in os.environ
    }
    rules = RULES.model_copy(update=changes)
    sys.exit(
        run(
            [attribution_agent(rules)],
            connections,
            Store(connections.store),
            settings,
            sys.argv[2],
            os.environ.get("INSTANCE"),
        )
    )
