"""Logs elsewhere than on a terminal: one JSON object a line, whoever speaks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.tracing import configure_tracing
from schemas.errors import InvalidSetting

SPEAK = """
import logging, structlog
from headrace.logs import configure_logs

configure_logs()
log = structlog.get_logger().bind(agent="attribution", partition=3)
with structlog.contextvars.bound_contextvars(request_id="r1", trace_id="t1"):
    log.info("one", number=2)
    logging.getLogger("library").warning("two of %s", "them")
    logging.getLogger("library").info("not this")
try:
    private = "what somebody searched for"
    raise ZeroDivisionError("three")
except ZeroDivisionError:
    log.error("failed", exc_info=True)
"""


def test_every_line_is_json_with_what_is_bound_and_without_local_variables(tmp_path: Path) -> None:
    """Ours and a library's; a traceback names its lines and not what the variables held."""
    done = subprocess.run([sys.executable, "-c", SPEAK], capture_output=True, text=True, timeout=120, check=True)
    one, two, three = map(json.loads, done.stderr.splitlines())
    assert (one["event"], one["request_id"], one["trace_id"], one["agent"], one["number"]) == (
        "one",
        "r1",
        "t1",
        "attribution",
        2,
    )
    assert (two["event"], two["request_id"], two["logger"], two["level"]) == ("two of them", "r1", "library", "warning")
    assert (three["event"], three["partition"], three["exception"][0]["exc_type"]) == ("failed", 3, "ZeroDivisionError")
    assert {"timestamp", "level"} <= set(one) and "somebody" not in done.stderr


def test_a_collector_is_named_by_url() -> None:
    """A host alone would be taken for a path."""
    with pytest.raises(InvalidSetting, match="collector:4318"):
        configure_tracing("collector:4318", "headrace-test")
