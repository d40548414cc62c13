"""The verdicts on the log, as people ask for them."""

from __future__ import annotations

from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.integrity import Verdict, window
from schemas.posteriors import SnapshotPointer
from schemas.topics import SNAPSHOTS, VERDICTS
from streams.runtime.log import LogReader


def verdicts(connections: Connections, timeout_s: float = 30.0) -> list[Verdict]:
    """The last verdict on every window, the oldest window first.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """
    reader = LogReader(connections, timeout_s)
    newest: dict[int, Verdict] = {}
    for batch in reader.read(VERDICTS.name, 0, *reader.bounds(VERDICTS.name, 0)):
        for record in batch:
            verdict: Verdict = decode(Verdict, record.value)
            newest[verdict.start] = verdict
    return [newest[start] for start in sorted(newest)]


def find(connections: Connections, start: int) -> Verdict:
    """The verdict on the window that begins at ``start`` (event time, ms).

    Raises:
        InvalidRequest: there is none.
        Unavailable: the broker does not answer.
    """
    for verdict in verdicts(connections):
        if verdict.start == start:
            return verdict
    raise InvalidRequest(window(start), "not there", "the start of a judged one", "see `headrace integrity status`")


def counted_from(connections: Connections, start: int, timeout_s: float = 30.0) -> int | None:
    """Version of the first posterior snapshot that may count pages which the window beginning at ``start`` touches: they
    go out from then on. None: it is still to come.

    Raises:
        Unavailable: the broker does not answer in ``timeout_s``.
    """
    reader = LogReader(connections, timeout_s)
    for batch in reader.read(SNAPSHOTS.name, 0, *reader.bounds(SNAPSHOTS.name, 0)):
        for record in batch:
            pointer: SnapshotPointer = decode(SnapshotPointer, record.value)
            if pointer.stamp >= start:
                return pointer.version
    return None
