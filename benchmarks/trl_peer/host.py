"""The peer's process: a `Work` as its argument, then one word a line on standard input, an answer in JSON on standard output.

It imports nothing of the product, as it runs in the peers' environment.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import msgspec

from benchmarks.trl_peer.trainer import Peer
from benchmarks.trl_peer.work import Work


def main() -> None:
    """Answer until standard input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)
    peer = Peer(msgspec.json.decode(sys.argv[1], type=Work))
    deeds = {"check": peer.check, "update": peer.update, "step": peer.step}
    _tell(answers, "ready")
    for line in sys.stdin:
        started = time.process_time()
        said = deeds[line.strip()]()
        _tell(answers, said, time.process_time() - started)


def _tell(answers: int, said: Any, cpu_s: float = 0.0) -> None:
    os.write(answers, msgspec.json.encode({"said": said, "cpu_s": cpu_s}) + b"\n")


if __name__ == "__main__":
    main()
