"""Prometheus metrics of the chunk runtime; units are in the names."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from schemas.errors import Unavailable

LABELS = ("agent", "partition")

RECORDS = Counter("headrace_input_records_total", "Records taken, per input topic", (*LABELS, "topic"))
SKIPPED = Counter("headrace_skipped_records_total", "Records that arrived again below the wanted offset", LABELS)
GAPS = Counter("headrace_gaps_total", "Seeks back, because a chunk began beyond the wanted offset", LABELS)
OUTPUTS = Counter("headrace_output_records_total", "Records written, without commit records", LABELS)
QUARANTINED = Counter("headrace_quarantined_records_total", "Records sent to quarantine", (*LABELS, "reason"))
FLUSH = Histogram(
    "headrace_flush_seconds", "Time of one transaction", LABELS, buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
)
UNSENT = Gauge("headrace_unsent_outputs", "Outputs that wait for their transaction", LABELS)
WATERMARK = Gauge("headrace_watermark_seconds", "Watermark, in seconds of event time since 1970", LABELS)
LAG_RECORDS = Gauge(
    "headrace_lag_records", "Committed records of an input that this partition's state has not taken", (*LABELS, "topic")
)
LAG_SECONDS = Gauge(
    "headrace_lag_seconds",
    "Event time from what was taken last to the newest at the end, of the input where that is most; 0: everything was taken",
    LABELS,
)
COMMITTED = Gauge("headrace_last_commit_timestamp_seconds", "Wall time of the last commit, since 1970", LABELS)
SNAPSHOT_BYTES = Gauge("headrace_snapshot_bytes", "Size of the last dumped state, not compressed", LABELS)
RECOVERY = Gauge("headrace_recovery_seconds", "Time of the last recovery", LABELS)


def forget(agent: str, partition: int) -> None:
    """No more gauges of a partition that another process has taken: they would stand still here, and raise alerts."""
    for gauge in (UNSENT, WATERMARK, LAG_RECORDS, LAG_SECONDS, COMMITTED, SNAPSHOT_BYTES, RECOVERY):
        gauge.remove_by_labels({"agent": agent, "partition": str(partition)})


def listen(host: str, port: int) -> None:
    """Serve this process's metrics under ``/metrics`` on that address; port 0: do not.

    Raises:
        Unavailable: the port is taken, or the address is none of this machine.
    """
    if not port:
        return
    try:
        start_http_server(port, addr=host)
    except OSError as error:
        remedy = (
            "give each worker of one machine a port of its own, HEADRACE_STREAMS__RUNTIME__METRICS_PORT, "
            "and name an address of it in HEADRACE_STREAMS__RUNTIME__METRICS_HOST"
        )
        raise Unavailable(f"{host}:{port} for metrics", str(error), remedy) from error
