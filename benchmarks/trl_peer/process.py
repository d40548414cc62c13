"""Our end of the peer's process."""

from __future__ import annotations

import select
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from benchmarks.attribution_peers.systems import PEERS_PYTHON, ROOT
from benchmarks.trl_peer.work import Work
from schemas.errors import ServiceFailed

#: Longest wait for an answer, the first one with its imports and its model included (s).
PATIENCE_S = 900.0


class Answer(msgspec.Struct, frozen=True):
    """What was said, and what it took there (CPU seconds, all threads)."""

    said: Any
    cpu_s: float


class Process:
    """TRL over a `Work`. Leaving the context ends it; its log is ``peer.log`` in the work's folder."""

    def __init__(self, work: Work) -> None:
        """Returns when its model is loaded.

        Raises:
            ServiceFailed: it ends or says nothing for `PATIENCE_S`.
        """
        self._log = Path(work.folder) / "peer.log"
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(PEERS_PYTHON), "-m", "benchmarks.trl_peer.host", msgspec.json.encode(work).decode()],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0,
            )  # fmt: skip
        self._hear()

    @staticmethod
    def installed() -> bool:
        """Whether `make bench-peers` was run."""
        return PEERS_PYTHON.exists()

    def ask(self, deed: str) -> Answer:
        """Have it do `check`, `update` or `step`.

        Raises:
            ServiceFailed: it ends or says nothing for `PATIENCE_S`.
        """
        assert self._child.stdin is not None
        self._child.stdin.write(deed.encode() + b"\n")
        return self._hear()

    def _hear(self) -> Answer:
        assert self._child.stdout is not None
        heard, _, _ = select.select([self._child.stdout], [], [], PATIENCE_S)
        line = self._child.stdout.readline() if heard else b""
        if not line:
            self._child.kill()
            raise ServiceFailed("the TRL peer", "gave no answer", f"{self._log}: {self._log.read_text()[-2000:]}")
        return msgspec.json.decode(line, type=Answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._child:
            self._child.kill()
