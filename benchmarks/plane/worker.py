"""An attribution worker as a process: ``python -m benchmarks.plane.worker SPEC``, where SPEC is a `Spec` as JSON."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from headrace.process import Process
from headrace.services.child import Child, Restart
from headrace.stack import LEAN
from schemas.connections import Connections
from schemas.store import Store
from streams.attribution.core import attribution_agent
from streams.runtime.process import run
from streams.settings import AttributionSettings, RuntimeSettings

ROOT = Path(__file__).parents[2]


class Spec(BaseModel):
    """All that a worker is told. ``instance`` empty: membership is not static."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: Connections
    group: str
    rules: AttributionSettings
    runtime: RuntimeSettings
    instance: str = ""


def worker(name: str, run_folder: Path, spec: Spec, restart: Restart | None = None) -> Process:
    """The process, not started; its log is ``<run_folder>/logs/NAME.log``."""
    argv = (sys.executable, "-m", "benchmarks.plane.worker", spec.model_dump_json())
    return Process(Child(name, argv, cwd=ROOT, env=LEAN, restart=restart, grace_s=60.0), run_folder, os.environ)


def main() -> int:
    """Run until SIGTERM (0) or a failure (1)."""
    spec = Spec.model_validate_json(sys.argv[1])
    store = Store(spec.connections.store)
    return run([attribution_agent(spec.rules)], spec.connections, store, spec.runtime, spec.group, spec.instance or None)


if __name__ == "__main__":
    sys.exit(main())
