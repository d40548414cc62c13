"""A worker process of the tests: the join and the breaker in one app. Arguments: connections as JSON, group."""

from __future__ import annotations

import os
import sys

from schemas.connections import Connections
from schemas.store import Store
from streams.attribution.core import attribution_agent
from streams.integrity.agents import integrity_agents
from streams.runtime.process import run
from streams.settings import AttributionSettings, RuntimeSettings, StreamSettings

if __name__ == "__main__":
    connections = Connections.model_validate_json(sys.argv[1])
    settings = StreamSettings(
        runtime=RuntimeSettings(
            snapshot_records=500, linger_ms=10, quiet_ms=20, session_timeout_s=2, transaction_timeout_s=20, ahead_s=10**7
        ),
        attribution=AttributionSettings(future_tolerance_s=31_536_000),
    )
    agents = [attribution_agent(settings.attribution), *integrity_agents(connections, settings)]
    sys.exit(run(agents, connections, Store(connections.store), settings.runtime, sys.argv[2], os.environ["INSTANCE"]))
