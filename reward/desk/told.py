"""A decision in a line: when it holds, and what it sets. The command line and the console's page say it in the same words."""

from __future__ import annotations

import msgspec

from reward.desk import diffs
from reward.desk.periods import shown
from schemas.campaigns import Campaign
from schemas.decisions import DEFAULTS


def period(body: Campaign) -> str:
    """Its period in its own zone."""
    if body.ends_ms and body.ends_ms < body.starts_ms:  # ended before it began
        return f"never: from {shown(body.starts_ms, body.zone)}, ended {shown(body.ends_ms, body.zone)}"
    starts = f"from {shown(body.starts_ms, body.zone)}" if body.starts_ms else ""
    ends = f"to {shown(body.ends_ms, body.zone)}" if body.ends_ms else ""
    return " ".join(filter(None, (starts, ends))) or "always"


def sets(body: Campaign) -> str:
    """Its weights and multipliers, and where they hold."""
    empty = Campaign(body.id, 0, body.name, body.owner, zone=body.zone, starts_ms=body.starts_ms, ends_ms=body.ends_ms)
    if body.id == DEFAULTS:
        empty = msgspec.structs.replace(empty, priority=body.priority)  # they have no say in theirs
    return ", ".join(
        f"{c.field.rpartition('multipliers.')[2].removeprefix('scope.')} {cell(c.new)}" for c in diffs.between(empty, body)
    )


def cell(value: object) -> str:
    """A field of a decision; empty: it is not there."""
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
