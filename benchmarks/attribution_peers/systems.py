"""Runs a system's jobs in processes of their own, and measures them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from schemas.errors import ServiceFailed

ROOT = Path(__file__).parents[2]
#: The environment of the peers whose requirements are not ours; `make bench-peers` makes it.
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"

#: Longest wait for a job to say something (s).
PATIENCE_S = 600.0


class Spent(NamedTuple):
    """CPU and wall seconds from the first record in the join to the last one written; ``told`` is what else was said."""

    cpu_s: float
    wall_s: float
    told: dict[str, Any]


class System:
    """One system, imported and ready; `run` forks a process a job. Its log is ``<folder>/MODULE.log``."""

    def __init__(self, module: str, folder: Path, python: Path | None = None) -> None:
        self.name, self.log = module, folder / f"{module}.log"
        with self.log.open("ab") as output:
            self._host = subprocess.Popen(
                [str(python or sys.executable), "-m", "benchmarks.attribution_peers.host", f"benchmarks.attribution_peers.{module}"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                bufsize=0,
            )  # fmt: skip
        self._ready = False

    def run(self, job: dict[str, Any], until: Callable[[], object] | None = None) -> Spent:
        """Run one job to its end. ``until``, when given, returns once its work is committed: then the process is stopped.

        Raises:
            ServiceFailed: the process ends with an error; the message names its log.
        """
        pid = self.begin(job)
        first = self.hear("first")
        if until is None:
            end = self.hear("end")
        else:
            until()
            spent = psutil.Process(pid).cpu_times()
            end = {"cpu_s": spent.user + spent.system, "wall_s": time.monotonic()}
            os.kill(pid, signal.SIGTERM)
        self.finish()
        return Spent(end["cpu_s"] - first["cpu_s"], end["wall_s"] - first["wall_s"], end)

    def begin(self, job: dict[str, Any]) -> int:
        """Start a job; the pid of its process."""
        if not self._ready:
            self.hear("ready")
            self._ready = True
        assert self._host.stdin is not None
        self._host.stdin.write(json.dumps(job).encode() + b"\n")
        return int(self.hear("begin")["pid"])

    def hear(self, what: str) -> dict[str, Any]:
        """The next line that the job tells, which has to be this one.

        Raises:
            ServiceFailed: it says something else, nothing for `PATIENCE_S`, or has ended.
        """
        assert self._host.stdout is not None
        heard, _, _ = select.select([self._host.stdout], [], [], PATIENCE_S)  # unbuffered, so no line hides from it
        line = self._host.stdout.readline() if heard else b""
        told: dict[str, Any] = json.loads(line) if line else {"what": "nothing"}
        if told["what"] != what:
            raise ServiceFailed(self.name, f"told {told} instead of {what!r}", str(self.log))
        return told

    def finish(self) -> None:
        """Wait for the end of the job.

        Raises:
            ServiceFailed: its exit code is not 0.
        """
        code = self.hear("over")["code"]
        if code:
            raise ServiceFailed(self.name, f"ended with {code}", str(self.log))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._host:
            self._host.kill()
