"""The clients that replaying needs, made in one place."""

from __future__ import annotations

from schemas.connections import Connections
from streams.runtime.log import LogReader
from streams.runtime.writer import TransactionWriter

#: Longest silence of the broker that a reader or a first call to the transaction coordinator waits through (s).
TIMEOUT_S = 60.0


def new_reader(connections: Connections) -> LogReader:
    """A reader of committed records."""
    return LogReader(connections, TIMEOUT_S)


def new_writer(connections: Connections, transactional_id: str, transaction_timeout_s: float) -> TransactionWriter:
    """A transactional producer; it fences the owner of its id when it is opened."""
    return TransactionWriter(connections, transactional_id, transaction_timeout_s)
