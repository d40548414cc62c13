"""Work in a child process that tells how far it is: one JSON line a report on its standard output, the result last."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headrace.stack import LEAN
from schemas.errors import ServiceFailed

#: Set for the child: it tells its progress as JSON lines instead of words.
VARIABLE = "HEADRACE_ERRAND"


class Report(msgspec.Struct):
    """One line: progress of a stage, or the result."""

    stage: str = ""
    share: float = 0.0
    note: str = ""
    result: msgspec.Raw = msgspec.Raw()


def run_errand(
    arguments: Sequence[str], log: Path, tell: Callable[[str, float, str], None], secrets: Mapping[str, str]
) -> Any:
    """Run ``headrace ARGUMENTS`` in a process of its own, with ``secrets`` in its environment; returns its result.

    Raises:
        ServiceFailed: it ended with an error; its log says which.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "headrace.cli", *arguments]
    environment = {**os.environ, **LEAN, **secrets, "OMP_NUM_THREADS": "2", VARIABLE: "1"}
    result: Any = None
    with (
        log.open("ab") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment) as child,
    ):
        assert child.stdout is not None
        try:
            for line in child.stdout:
                report = msgspec.json.decode(line, type=Report)
                if bytes(report.result):
                    result = msgspec.json.decode(report.result)
                else:
                    tell(report.stage, report.share, report.note)
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise ServiceFailed(f"headrace {arguments[0]}", f"exit status {child.returncode}", str(log))
    return result


def is_errand() -> bool:
    """Whether this process was started by `run_errand`."""
    return bool(os.environ.get(VARIABLE))


def tell_parent(stage: str, share: float, note: str = "") -> None:
    """Report progress to the parent."""
    _write({"stage": stage, "share": share, "note": note})


def give_result(result: Any) -> None:
    """Hand the result to the parent."""
    _write({"result": result})


def _write(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()
