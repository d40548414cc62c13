"""What a kafka-python client leaves behind when no broker answers: nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

#: A process of its own: in this one other clients come and go. The collector would close, with a warning, what was dropped.
ATTEMPTS = """
import gc, sys, threading
from pathlib import Path
import kafka
from schemas.connections import Connections
from schemas.kafka_clients import open_client

def held():
    files = sorted(str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink())
    return files, threading.active_count()

gc.disable()
before = held()
for kind in (kafka.KafkaConsumer, kafka.KafkaProducer, kafka.KafkaAdminClient):
    for _ in range(2):
        try:
            open_client(kind, Connections(kafka=sys.argv[1]), bootstrap_timeout_ms=200)
        except kafka.errors.KafkaError as error:
            print("refused", flush=True)
    assert held() == before, (kind, before, held())
"""


@pytest.fixture(params=["accepts and is silent", "does not accept"])
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
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
        yield "{}:{}".format(*listener.getsockname())


def test_a_client_that_cannot_be_made_leaves_no_thread_and_no_socket(broker: str) -> None:
    tried = subprocess.run([sys.executable, "-c", ATTEMPTS, broker], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    assert tried.stdout.split() == ["refused"] * 6
