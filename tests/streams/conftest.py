"""What the tests of the event plane share: a worker as a process, and logs of events to feed it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from headrace.process import Process
from headrace.services.kafka import kafka_child
from schemas.connections import Connections
from schemas.topics import INPUTS
from streams.accounting import standing
from streams.runtime.log import LogReader

HERE = Path(__file__).parent


class Worker:
    """A worker as a child process, by default attribution with small windows and frequent snapshots."""

    def __init__(
        self, connections: Connections, group: str, log: Path, env: Mapping[str, str], script: str = "attribution_worker.py"
    ) -> None:
        self.log = log
        self._began = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / script), connections.model_dump_json(), group],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
            )

    def ready(self) -> None:
        """Wait until it has recovered a partition, however slow the machine is."""
        deadline = time.monotonic() + 120
        while not self.recovered:
            assert time.monotonic() < deadline, self.log.read_text()[-3_000:]
            time.sleep(0.05)

    @property
    def said(self) -> str:
        """What this process has written to its log, which those before it under the same name may have begun."""
        return self.log.read_bytes()[self._began :].decode(errors="replace")

    @property
    def recovered(self) -> bool:
        """Whether it has recovered a partition."""
        return "recovered" in self.said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    @property
    def fenced(self) -> bool:
        """Whether it ended because another had taken its partition over: at any rebalance on a slow machine, by design."""
        return self.process.poll() == 1 and "transactional id" in self.said

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def worker(fresh_topics: Connections, unique: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts workers of one group, with a log for each instance; ends those that still run."""
    group, started = unique("attribution"), []

    def start(instance: str = "one", script: str = "attribution_worker.py", **env: str) -> Worker:
        one = Worker(fresh_topics, group, tmp_path / f"{instance}.log", {"INSTANCE": instance, **env}, script)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Process]:
    """A broker of this test alone, which it may stop and start; `own_connections` has its address."""
    child, address = kafka_child(tmp_path / "kafka", tmp_path / "logs")
    process = Process(child, tmp_path, {"ADDRESS": address})
    process.start()
    yield process
    process.stop()


@pytest.fixture
def own_connections(own_broker: Process, tmp_path: Path) -> Connections:
    """Where `own_broker` is, once it answers."""
    deadline = time.monotonic() + 120
    while not own_broker.check():
        assert time.monotonic() < deadline, own_broker.log.read_text()[-3_000:]
        time.sleep(0.1)
    address = (tmp_path / "kafka" / "server.properties").read_text().split("advertised.listeners=PLAINTEXT://")[1].split()[0]
    return Connections(kafka=address, store=str(tmp_path / "store"))


@contextmanager
def feeder(connections: Connections) -> Iterator[Callable[[str, int, bytes], None]]:
    """``send(topic, partition, value)``; everything is delivered when the context ends."""
    producer = Producer({"bootstrap.servers": connections.kafka, "linger.ms": 2, "enable.idempotence": True, "log_level": 2})
    yield lambda topic, partition, value: producer.produce(topic, value, b"u", partition=partition)
    assert producer.flush(120) == 0


def caught_up(connections: Connections, timeout_s: float = 120, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Wait until attribution has committed the ends of all its inputs; ``meanwhile`` is called now and then."""
    deadline = time.monotonic() + timeout_s
    reader = LogReader(connections, 20)
    ends = {(t.name, p): reader.bounds(t.name, p)[1] for t in INPUTS for p in range(connections.partitions)}
    while True:
        done = {
            (name, commit.partition): n
            for commit in standing(connections)
            if commit.agent == "attribution"
            for name, n in commit.next_offsets.items()
        }
        if all(done.get(place, 0) >= end for place, end in ends.items()):
            return
        assert time.monotonic() < deadline, f"not caught up: {done} of {ends}"
        meanwhile()
        time.sleep(0.2)


def committed(connections: Connections, topic: str) -> list[list[tuple[bytes | None, bytes]]]:
    """Committed (key, value) of a topic, per partition, in order."""
    reader = LogReader(connections, 20)
    return [
        [(r.key, r.value) for batch in reader.read(topic, p, *reader.bounds(topic, p)) for r in batch]
        for p in range(connections.partitions)
    ]
