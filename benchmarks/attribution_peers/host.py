"""A process that has imported one system, and forks for each job, so that no run pays for imports: ``host MODULE``.

A job is a line of JSON on standard input. Its process calls ``MODULE.run(job, tell)``; what it tells, and its end, are
lines of JSON on standard output. All other output goes to standard error. Everything dies with whoever started it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

#: Tells the benchmark: ``tell("first")`` where the first record reaches the join, ``tell("end")`` where all is written.
Tell = Callable[..., None]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve jobs until standard input ends."""
    _die_with_parent()
    system = importlib.import_module(sys.argv[1])
    report = os.dup(1)
    os.dup2(2, 1)

    def tell(what: str, **values: Any) -> None:
        """One line: what, CPU seconds of this process so far (user and system, every thread), and the wall clock."""
        line = {"what": what, "cpu_s": time.process_time(), "wall_s": time.monotonic(), "pid": os.getpid(), **values}
        os.write(report, json.dumps(line).encode() + b"\n")

    tell("ready")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(_work(system.run, json.loads(line), tell))
        _, status = os.waitpid(pid, 0)
        tell("over", code=os.waitstatus_to_exitcode(status))


def _work(run: Callable[[dict[str, Any], Tell], None], job: dict[str, Any], tell: Tell) -> int:
    _die_with_parent()
    tell("begin")
    try:
        run(job, tell)
    except BaseException:  # noqa: BLE001 - a forked process must not run on into its parent's loop
        traceback.print_exc()
        return 1
    return 0


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
