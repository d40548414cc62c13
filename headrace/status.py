"""`headrace status`: who reads what, how far behind, and since when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from textwrap import wrap

from headrace.columns import Column, aligned
from schemas.connections import Connections
from schemas.journal import KEPT
from streams.followers import followers
from streams.integrity.hold import Hold
from streams.lag import Lag, lags

#: What fits a terminal of 80 columns stays; the rest goes, the last first. Units are in the titles.
COLUMNS = (
    Column("agent"), Column("part"), Column("lag (records)", right=True), Column("lag (s)", right=True),
    Column("watermark (UTC)"), Column("age (s)", right=True), Column("behind (s)", right=True, spare=1),
    Column("state (MiB)", right=True, spare=2), Column("replays (records)", right=True, spare=3),
    Column("commit", right=True, spare=4),
)  # fmt: skip


def standing(connections: Connections) -> list[Lag]:
    """Every agent's partitions, then the keyword worker's and the learner's.

    Raises:
        Unavailable: the broker does not answer.
    """
    return lags(connections) + followers(connections)


def status_lines(rows: Sequence[Lag], width: int | None = None) -> list[str]:
    """When they were asked for, then a line for each of the rows, in at most ``width`` columns."""
    cells = [
        (
            row.agent, str(row.partition), f"{row.lag:,}", _seconds(row.lag_s), _time(row.watermark), _seconds(row.age_s),
            _seconds(row.skew_s), "" if row.state_bytes is None else f"{row.state_bytes / 2**20:,.1f}",
            "" if row.since_snapshot is None else f"{row.since_snapshot:,}", str(row.sequence or ""),
        )
        for row in rows
    ]  # fmt: skip
    hold = next((row.hold for row in rows if row.hold is not None), None)
    told = _hold_lines(hold, width) if hold is not None else []
    nobody = [] if rows else ["No agent has committed anything yet."]
    return [f"At {_time(int(time.time() * 1_000))} UTC", *aligned(COLUMNS, cells, width), *nobody, *told]


def _hold_lines(hold: Hold, width: int | None) -> list[str]:
    """Why training stands still, and how to look."""
    said = [
        f"Training stands still since {_time(hold.since_ms)} UTC, after step {hold.step:,}: the log is broken in the window "
        f"from {_time(hold.window)} UTC. `{hold.look}` says more.",
        *map(str, hold.checks),
        KEPT,
    ]
    return [line for text in said for line in (wrap(text, width, subsequent_indent="  ") if width else [text])]


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms else "none yet"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f}"
