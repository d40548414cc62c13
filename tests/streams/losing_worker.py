"""A worker process of the tests, as `attribution_worker`, that loses the third chunk it is given while others pile up behind it."""

from __future__ import annotations

import asyncio
import runpy
from itertools import count
from pathlib import Path

from faust.types import TP

from streams.runtime import process
from streams.runtime.faust_internals import Chunk
from streams.runtime.host import Host

number = count(1)


class Losing(Host):
    """Waits before it loses, so that several chunks are fetched behind the lost one."""

    async def take(self, agent: str, tp: TP, chunk: Chunk) -> None:
        """See `Host.take`."""
        if next(number) == 3:
            await asyncio.sleep(1.0)
            return
        await super().take(agent, tp, chunk)


if __name__ == "__main__":
    process.Host = Losing  # type: ignore[misc]
    runpy.run_path(str(Path(__file__).with_name("attribution_worker.py")), run_name="__main__")
