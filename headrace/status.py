"""`headrace status`: who reads what, how far behind, and since when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table

from schemas.connections import Connections
from streams.followers import followers
from streams.lag import Lag, lags

#: Columns, their unit in the name where they have one.
COLUMNS = (
    "agent", "partition", "lag (records)", "lag (event s)", "behind the first (s)", "watermark (UTC)", "state (bytes)",
    "records since", "commit", "age (s)",
)  # fmt: skip


def standing(connections: Connections) -> list[Lag]:
    """Every agent's partitions, then the keyword worker's and the learner's.

    Raises:
        Unavailable: the broker does not answer.
    """
    return lags(connections) + followers(connections)


def status_table(rows: Sequence[Lag]) -> Table:
    """The rows as a table."""
    at = datetime.fromtimestamp(time.time(), UTC).strftime("%H:%M:%S")
    table = Table(*COLUMNS, title=f"Agents, {at} UTC")
    for row in rows:
        table.add_row(
            row.agent, str(row.partition), f"{row.lag:,}", _seconds(row.lag_s), _seconds(row.skew_s), _time(row.watermark),
            _count(row.state_bytes), _count(row.since_snapshot), str(row.sequence or ""), _seconds(row.age_s),
        )  # fmt: skip
    return table


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms else "none yet"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f}"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
