"""One process of this machine at a time, by a lock that the kernel drops with its holder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.connections import Connections
from schemas.errors import Conflict


@contextmanager
def single(connections: Connections, key: str, what: str, remedy: str) -> Iterator[None]:
    """Be the only one of ``key`` at this Kafka while the context lasts.

    Raises:
        Conflict: a living process of this machine is ``what``; the message names it.
    """
    name = hashlib.sha256(f"{connections.kafka}\n{key}".encode()).hexdigest()[:16]
    # "a+": opening must not empty what the present holder wrote into it.
    with open(Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}-{name}.lock", "a+", opener=_own) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = f"process {file.read().strip() or 'that has just started'} on this machine"
            raise Conflict(what, holder, remedy) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _own(path: str, flags: int) -> int:
    """The folder is everybody's: no link of somebody else's is followed."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
