"""What the breaker tells Prometheus of the newest verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter, Gauge

from schemas.codec import decode
from schemas.integrity import Verdict
from schemas.topics import VERDICTS
from streams.runtime.core import Output

STRAIN = Gauge(
    "headrace_integrity_strain_ratio",
    "Distance of a check's last value from what it expected, over the distance allowed: above 1 it is broken",
    ["check"],
)
WINDOWS = Counter("headrace_integrity_windows_total", "Windows judged", ["verdict"])
JUDGED = Gauge("headrace_integrity_judged_seconds", "End of the newest window judged, in seconds of event time since 1970")


def tell(outputs: Sequence[Output]) -> None:
    """Show what has been committed."""
    for output in outputs:
        if output.topic == VERDICTS.name:
            verdict = decode(Verdict, output.value)
            for check in verdict.checks:
                STRAIN.labels(check.name).set(0.0 if verdict.released_by else check.strain)
            if verdict.released_by:
                WINDOWS.labels("released").inc()
            else:
                WINDOWS.labels("broken" if verdict.broken else "healthy").inc()
                JUDGED.set(verdict.end / 1_000)
