"""Prometheus metrics of the posterior snapshots, set when their transaction is committed."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Gauge

from schemas.codec import decode
from schemas.posteriors import SnapshotPointer
from schemas.topics import SNAPSHOTS
from streams.runtime.core import Output

VERSION = Gauge("headrace_posterior_version", "Version of the last posterior snapshot")
PAIRS = Gauge("headrace_posterior_pairs", "(query, item) pairs in the last posterior snapshot")
EVICTED = Gauge("headrace_posterior_evicted_pairs", "Pairs that merged into their items so far, for want of room")
CORRECTOR = Gauge("headrace_posterior_corrector_ratio", "Factor of the fast corrector in the last posterior snapshot")


def tell_snapshots(outputs: Sequence[Output]) -> None:
    """Show the newest snapshot among the outputs."""
    told = [output for output in outputs if output.topic == SNAPSHOTS.name and output.partition == 0]
    if not told:
        return
    pointer: SnapshotPointer = decode(SNAPSHOTS.kind, told[-1].value)
    VERSION.set(pointer.version)
    PAIRS.set(pointer.pairs)
    EVICTED.set(pointer.evicted)
    CORRECTOR.set(pointer.corrector)
