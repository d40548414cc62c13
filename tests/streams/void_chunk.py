"""A process of the tests: a chunk app whose fetch the group's next generation makes void. Arguments: broker, group.

Prints the offsets that its agent was given as JSON. Three records are the last of the topic.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable

from faust.types import TP

from schemas.connections import Connections
from schemas.topics import IMPRESSIONS
from streams.producing import EventProducer
from streams.runtime.faust_internals import Chunk, add_agent, new_app
from streams.settings import RuntimeSettings


async def main(kafka: str, group: str) -> None:
    """Print what the agent gets when the fetch that waits for the flow belongs to the generation before."""
    tp, taken = TP(IMPRESSIONS.name, 0), list[int]()
    app = new_app(group, Connections(kafka=kafka), RuntimeSettings(), None)
    app.wanted_positions = lambda: {tp: len(taken), TP(IMPRESSIONS.name, 1): 0}

    async def take(at: TP, chunk: Chunk) -> None:
        taken.extend(record.offset for record in chunk.records)

    async def until(holds: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.02)

    add_agent(app, "one", (IMPRESSIONS,), take)
    starting = asyncio.create_task(app.start())
    await until(lambda: app._fetcher.started)  # the last of what follows an assignment
    app.consumer.stop_flow()
    await until(lambda: app.consumer.can_resume_flow._waiters)
    with EventProducer(Connections(kafka=kafka)) as producer:
        for _ in range(3):
            producer.send(IMPRESSIONS.name, b"{}", partition=0)
    app.consumer_generation_id += 1
    await app.consumer.perform_seek()
    app.consumer.resume_flow()
    await until(lambda: len(taken) >= 3)
    sys.stdout.write(json.dumps(taken) + "\n")
    sys.stdout.flush()
    os._exit(int(starting.cancelled()))  # how Faust ends is not what is tested


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
