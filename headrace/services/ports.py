"""Ports of a run on this machine: free ones for the embedded services, and those that were asked for.

Free ones are taken from below the system's ephemeral range: a client that keeps dialling a local ephemeral port while its
server is away can be given that very port as its own source port, connects to itself, and the server never comes back.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from schemas.errors import Conflict, Unavailable

LOWEST, DEFAULT_EPHEMERAL = 15_000, 32_768


def _ephemeral_start() -> int:
    file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    return int(file.read_text().split()[0]) if file.exists() else DEFAULT_EPHEMERAL


def free_port(taken: tuple[int, ...] = ()) -> int:
    """A port on 127.0.0.1 that nobody listens on and that is not in ``taken``.

    Raises:
        Unavailable: a thousand tries found none.
    """
    highest = max(_ephemeral_start() - 1, LOWEST + 1000)
    draw = random.SystemRandom()
    for _ in range(1000):
        port = draw.randint(LOWEST, highest)
        if port not in taken and not _in_use(port):
            return port
    raise Unavailable("a free port", f"none found in {LOWEST}..{highest}", "stop what listens on them")


def _in_use(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def claim(what: str, port: int, setting: str) -> None:
    """Raises Conflict when somebody listens there already: who is asked whether it is up would be told yes by a stranger."""
    if _in_use(port):
        raise Conflict(
            f"port {port} of the {what}", "another process", f"set {setting} to a free port, or to 0 to have one chosen"
        )


def answers(port: int, timeout_s: float = 0.5) -> bool:
    """Whether something accepts a connection on that local port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_s)
        return probe.connect_ex(("127.0.0.1", port)) == 0
