"""Searches at a fixed rate, as a process: ``python -m benchmarks.plane.load PLAN``, where PLAN is a `Load` as JSON.

Open loop: a request goes out when it is due, whether or not those before it are answered, and its time runs from when it was
due. So a server that stalls is charged for every request that had to wait. What happened is printed as JSON (`Seen`).
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

import httpx
import msgspec


class Load(msgspec.Struct, frozen=True):
    """What to ask: each request one of ``queries`` and one of ``users``, drawn by ``seed``."""

    server: str
    rate: float  #: requests a second
    seconds: float
    k: int
    queries: list[str]
    users: list[str]
    seed: int = 1


class Seen(msgspec.Struct):
    """One entry a request, in the order they were due; status 0: no answer."""

    ms: list[float]
    status: list[int]
    checkpoint: list[str]
    weights: list[int]


async def drive(load: Load) -> Seen:
    """Send everything, wait for the last answer."""
    count, chance = int(load.rate * load.seconds), random.Random(load.seed)
    seen = Seen([0.0] * count, [0] * count, [""] * count, [-1] * count)
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    async with httpx.AsyncClient(base_url=load.server, timeout=30.0, trust_env=False, limits=limits) as http:
        begun = time.perf_counter() + 0.5

        async def ask(n: int, params: dict[str, str | int]) -> None:
            due = begun + n / load.rate
            await asyncio.sleep(due - time.perf_counter())
            try:
                answer = await http.get("/search", params=params)
            except httpx.HTTPError:
                answer = None
            seen.ms[n] = 1000 * (time.perf_counter() - due)
            if answer is not None:
                seen.status[n], page = answer.status_code, answer.json()
                seen.checkpoint[n], seen.weights[n] = page.get("checkpoint", ""), page.get("weights_version", -1)

        drawn = [
            {"q": chance.choice(load.queries), "user": chance.choice(load.users), "k": load.k} for _ in range(count)
        ]  # fmt: skip
        await asyncio.gather(*(ask(n, params) for n, params in enumerate(drawn)))
    return seen


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(drive(msgspec.json.decode(sys.argv[1], type=Load)))).decode())
