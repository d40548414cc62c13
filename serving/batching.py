"""Micro-batches: requests that wait while the model is busy are answered together in its next pass.

There is no waiting on purpose: the first request of an idle server is computed at once, alone. One thread runs the model,
so whatever is swapped between two calls is swapped between two batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from schemas.errors import Unavailable

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """``answer`` maps up to ``size`` requests to as many answers, in order; it runs in the one model thread."""

    def __init__(self, answer: Callable[[Sequence[Q]], Sequence[A]], size: int, limit: int) -> None:
        self._answer, self._size = answer, size
        self._queue: asyncio.Queue[tuple[Q, asyncio.Future[A]]] = asyncio.Queue(maxsize=limit)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer; call inside the running loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Answer what is queued, then end."""
        await self._queue.join()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=True)

    async def ask(self, request: Q) -> A:
        """The answer, or what answering its batch raised.

        Raises:
            Unavailable: too many requests wait already.
        """
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((request, future))
        except asyncio.QueueFull:
            waiting = f"{self._queue.qsize()} requests wait"
            raise Unavailable("search server", waiting, "ask again later, or add servers") from None
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            live = [(request, future) for request, future in batch if not future.done()]
            try:
                requests = [request for request, _ in live]
                answers = await loop.run_in_executor(self._thread, self._answer, requests) if live else []
            except Exception as error:  # noqa: BLE001 - handed on to every request of this batch, which raises it
                for _, future in live:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), answer in zip(live, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
            finally:
                for _ in batch:
                    self._queue.task_done()
