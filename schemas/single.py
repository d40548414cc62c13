"""One process of this machine at a time, by a lock that the kernel drops with its holder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import Conflict


@contextmanager
def single(where: str, key: str, what: str, remedy: str) -> Iterator[None]:
    """Be the only one of ``key`` while the context lasts, among this user's processes on this machine.

    Args:
        where: the Kafka or the store that they share.
        key: what there may be one of there.
        what: says the same to people.
        remedy: for the error.

    Raises:
        Conflict: a living process of this machine is ``what``; the message names it.
    """
    name = hashlib.sha256(f"{where}\n{key}".encode()).hexdigest()[:16]
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
