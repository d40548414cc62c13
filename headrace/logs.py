"""Logs: structlog, readable on a terminal, JSON lines elsewhere; a demo keeps its own in its run folder.

What libraries say through Python's own logging takes the same form, warnings and above.
"""

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
    # Tracebacks without local variables: those would put people's searches into the log.
    told = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    shown = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer: Any = structlog.processors.JSONRenderer() if plain else shown
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        told if plain else structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    _route_libraries(target, shared, renderer)


def _route_libraries(target: TextIO, shared: list[Any], renderer: Any) -> None:
    handler = logging.StreamHandler(target)
    handler.setLevel(logging.WARNING)  # a library's logger may have a level of its own, below the root's
    form = structlog.stdlib.ProcessorFormatter
    named = [structlog.stdlib.add_logger_name, *shared]
    handler.setFormatter(form(processors=[form.remove_processors_meta, renderer], foreign_pre_chain=named))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
