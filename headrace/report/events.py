"""Accounting: everything that was sent, against everything that is accounted for. What is missing is lost."""

from __future__ import annotations

from collections.abc import Mapping

from schemas import log
from schemas.connections import Connections
from schemas.quarantine import Quarantined
from schemas.topics import EXAMPLES, INPUTS, QUARANTINE, VIEWS
from schemas.views import View, ViewStatus
from streams.accounting import accounted, records

KINDS = ("impressions", "clicks", "orders", "returns")


def account(connections: Connections, counters: Mapping[str, int], sent: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Events and views of a run, as the report lists them.

    Args:
        counters: cumulative counters of the agent `attribution`, summed over its partitions.
        sent: input topic -> records that their senders know to be written.

    Returns:
        ``events`` and ``views``. ``events.lost`` adds up, as counted: records sent but not in the topic, records in the topic
        that attribution has not accounted for, page views accepted but never emitted, and views that became neither an
        example nor a quarantined record.
    """
    held = {topic.name: records(connections, (topic.name,)) for topic in INPUTS}
    never_written = sum(max(0, sent.get(name, 0) - held[name]) for name in held)
    quarantined = {name: n for name, n in counters.items() if name.startswith("quarantined.")}
    accepted = {kind: counters.get(kind, 0) for kind in KINDS}
    views = {status.value: 0 for status in ViewStatus}
    for entry in log.scan(connections, VIEWS):
        if isinstance(entry.record, View):
            views[entry.record.status.value] += 1
    examples = sum(1 for _ in log.scan_raw(connections, EXAMPLES))
    set_aside = (entry.record for entry in log.scan(connections, QUARANTINE))
    refused = sum(1 for record in set_aside if isinstance(record, Quarantined) and record.agent == "rewarding")
    lost = {
        "never_written": never_written,
        "unaccounted": sum(held.values()) - accounted(dict(counters)),
        "views_missing": accepted["impressions"] - views["provisional"],
        "examples_missing": sum(views.values()) - examples - refused,
    }
    late = quarantined.get("quarantined.late", 0)
    events = {
        **accepted,
        "duplicates": counters.get("duplicates", 0),
        "pending": counters.get("pending", 0),
        "late": late,
        "quarantined": sum(quarantined.values()) + refused,
        "lost": sum(abs(n) for n in lost.values()),
        **{f"lost_{name}": n for name, n in lost.items()},
        **{name.replace(".", "_"): n for name, n in sorted(quarantined.items())},
    }
    return {"events": events, "views": views}
