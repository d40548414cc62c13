"""The database of a one-machine run: a SQLite file in the run folder, no process at all."""

from __future__ import annotations

from pathlib import Path


def sqlite_url(run: Path) -> str:
    """SQLAlchemy URL of the run's database."""
    return f"sqlite:///{run / 'headrace.db'}"
