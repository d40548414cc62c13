"""A worker process of the tests, as `attribution_worker`, whose recovery takes half a second for all that it reads at once."""

from __future__ import annotations

import runpy
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from schemas.topics import CLICKS
from streams.runtime import host
from streams.runtime.core import Record
from streams.runtime.log import LogReader


class Slow(LogReader):
    """Says when it begins to be slow."""

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[list[Record]]:
        """See `LogReader.read`."""
        for batch in super().read(topic, partition, start, end):
            if topic == CLICKS.name:
                structlog.get_logger().info("slowly")
                time.sleep(0.5)
            yield batch


if __name__ == "__main__":
    host.LogReader = Slow  # type: ignore[misc]
    runpy.run_path(str(Path(__file__).with_name("attribution_worker.py")), run_name="__main__")
