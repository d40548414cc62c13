"""Ours, case `chunks`: the product's worker as it is, on its default runtime settings."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from benchmarks.attribution_peers.host import Tell
from headrace.logs import configure_logs
from schemas.connections import Connections
from schemas.store import Store
from streams.attribution.core import attribution_agent
from streams.runtime.core import Agent, Core
from streams.runtime.process import run as run_worker
from streams.settings import AttributionSettings


def run(job: dict[str, Any], tell: Tell) -> None:
    """Run until SIGTERM. ``job``: connections, name (of the agent, the group and what it commits under), rules, log."""
    configure_logs(Path(job["log"]))
    agent = attribution_agent(AttributionSettings(**job["rules"]))
    agent = dataclasses.replace(agent, name=job["name"])
    connections = Connections(**job["connections"])
    code = run_worker([_told(agent, tell)], connections, Store(connections.store), None, job["name"])
    if code:
        sys.exit(code)


def _told(agent: Agent, tell: Tell) -> Agent:
    """The agent, which tells when the first records come to any of its cores."""
    untold = [True]

    def build(partition: int) -> Core:
        core = agent.build(partition)
        apply = core.apply

        def first(topic: str, records: Any) -> None:
            if untold and records:
                untold.clear()
                tell("first")
            core.apply = apply  # type: ignore[method-assign]
            apply(topic, records)

        core.apply = first  # type: ignore[method-assign]
        return core

    return dataclasses.replace(agent, build=build)
