"""Logs: structlog, readable on a terminal, JSON lines elsewhere; a demo keeps its own in its run folder."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, TextIO

import structlog


def configure_logs(file: Path | None = None, level: int = logging.INFO) -> None:
    """Send structlog to ``file``, or to standard error: coloured on a terminal, JSON otherwise."""
    target: TextIO = file.open("a", buffering=1) if file is not None else sys.stderr
    plain = file is not None or not target.isatty()
    renderer: Any = structlog.processors.JSONRenderer() if plain else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.dict_tracebacks if plain else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
