"""Prometheus metrics of the chunk runtime; units are in the names."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LABELS = ("agent", "partition")

RECORDS = Counter("headrace_input_records_total", "Records taken, per input topic", (*LABELS, "topic"))
SKIPPED = Counter("headrace_skipped_records_total", "Records that arrived again below the wanted offset", LABELS)
GAPS = Counter("headrace_gaps_total", "Chunks beyond the wanted offset, answered by seeking back", LABELS)
OUTPUTS = Counter("headrace_output_records_total", "Records written, without commit records", LABELS)
QUARANTINED = Counter("headrace_quarantined_records_total", "Records sent to quarantine", LABELS)
FLUSH = Histogram(
    "headrace_flush_seconds", "Time of one transaction", LABELS, buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
)
UNSENT = Gauge("headrace_unsent_outputs", "Outputs that wait for their transaction", LABELS)
WATERMARK = Gauge("headrace_watermark_seconds", "Watermark, in seconds of event time since 1970", LABELS)
SNAPSHOT_BYTES = Gauge("headrace_snapshot_bytes", "Size of the last dumped state, not compressed", LABELS)
RECOVERY = Gauge("headrace_recovery_seconds", "Time of the last recovery", LABELS)
