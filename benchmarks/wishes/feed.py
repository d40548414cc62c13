"""The small shop's views as a learner's input, at a steady rate."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

import msgspec

from headrace.shop.sink import KafkaSink, partition_of
from schemas.codec import encode
from schemas.connections import Connections
from schemas.examples import TrainingExample
from schemas.topics import EXAMPLES


def as_new(views: Sequence[TrainingExample]) -> Iterator[TrainingExample]:
    """These views again and again, each time as new ones."""
    for n, view in enumerate(cycle(views)):
        yield msgspec.structs.replace(view, request_id=f"f{n}", example_id=f"f{n}:provisional:1")


@contextmanager
def steady_feed(views: Iterable[TrainingExample], connections: Connections, rate: float) -> Iterator[None]:
    """``rate`` of these views a second, until the block ends."""
    stop, sink = threading.Event(), KafkaSink(connections)

    def feed() -> None:
        partitions = sink.partitions(EXAMPLES.name)
        for view in views:
            if stop.wait(1 / rate):
                return
            key = view.user.encode()
            sink.send(EXAMPLES.name, partition_of(key, partitions), key, encode(view))

    thread = threading.Thread(target=feed, name="feed")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sink.flush()
