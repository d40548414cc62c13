"""What a kafka-python client leaves behind when no broker answers: nothing."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from schemas.connections import Connections
from schemas.kafka_clients import open_client


@pytest.fixture(params=["accepts and is silent", "does not accept"])
def broker(request: pytest.FixtureRequest) -> Iterator[Connections]:
    """A listener that is no broker; the second one's queue is full, so that whoever dials it goes on dialling."""
    with ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(100 if request.param.startswith("accepts") else 0)
        if request.param == "does not accept":
            while True:
                dialled = held.enter_context(socket.socket())
                dialled.settimeout(0.2)
                try:
                    dialled.connect(listener.getsockname())
                except TimeoutError:
                    break
        yield Connections(kafka="{}:{}".format(*listener.getsockname()))


def open_files() -> list[str]:
    """What this process has open, sockets by their inode."""
    return sorted(str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink())


@pytest.mark.parametrize("kind", [KafkaConsumer, KafkaProducer, KafkaAdminClient])
def test_a_client_that_cannot_be_made_leaves_no_thread_and_no_socket(kind: Any, broker: Connections) -> None:
    threads, files = threading.active_count(), open_files()
    gc.disable()  # which would close, with a warning, what was dropped
    try:
        for _ in range(3):
            with pytest.raises(KafkaError):
                open_client(kind, broker, bootstrap_timeout_ms=200)
        assert open_files() == files
        assert threading.active_count() == threads
    finally:
        gc.enable()
