"""Exactly once on a cluster whose topics have three replicas, with more workers than two: all are killed, one after the other."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from headrace.process import Process
from headrace.services.kafka import kafka_child, serves
from headrace.services.ports import free_port
from headrace.topics_admin import create_topics
from schemas.connections import Connections
from tests.streams.conftest import Worker, caught_up, feeder
from tests.streams.event_log import event_log
from tests.streams.test_delivery import check

pytestmark = pytest.mark.services

#: Two partitions for each of three workers: with four, two workers keep two each and the third gets none.
NODES, PARTITIONS = 3, 6
NAMES = ("one", "two", "three")
#: Of the format that the storage tool takes; the same for all nodes.
CLUSTER = "Headrace0Replicas0Test"


@dataclasses.dataclass
class Cluster:
    """Brokers that can be killed and started again, and where they all are."""

    brokers: list[Process]
    connections: Connections

    def kill(self, n: int) -> None:
        """kill -9."""
        kill(self.brokers[n])

    def start(self, n: int) -> None:
        """Again, until it serves."""
        self.brokers[n].start()
        wait_for(self.brokers[n])


def kill(broker: Process) -> None:
    """kill -9."""
    if (pid := broker.pid) is not None:
        os.kill(pid, signal.SIGKILL)
    broker.stop()


def wait_for(broker: Process) -> None:
    """Until it serves."""
    deadline = time.monotonic() + 120
    while not broker.check():
        assert time.monotonic() < deadline, broker.log.read_text()[-3_000:]
        time.sleep(0.1)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes, each broker and controller; a write needs two of them."""
    ports: list[int] = []
    for _ in range(2 * NODES):
        ports.append(free_port(tuple(ports)))
    data, control = ports[:NODES], ports[NODES:]
    shared = {
        "controller.quorum.voters": ",".join(f"{n + 1}@127.0.0.1:{port}" for n, port in enumerate(control)),
        "default.replication.factor": str(NODES),
        "min.insync.replicas": "2",
        "offsets.topic.replication.factor": str(NODES),
        "transaction.state.log.replication.factor": str(NODES),
        "transaction.state.log.min.isr": "2",
    }
    brokers = []
    for n in range(NODES):
        own = {
            "node.id": str(n + 1),
            "listeners": f"PLAINTEXT://127.0.0.1:{data[n]},CONTROLLER://127.0.0.1:{control[n]}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{data[n]}",
        }
        run = tmp_path / f"node{n + 1}"
        child, _ = kafka_child(run / "kafka", run / "logs", shared | own, ("-t", CLUSTER))
        brokers.append(Process(dataclasses.replace(child, ready=partial(serves, data[n])), run, {}))
    with ExitStack() as running:
        for broker in brokers:
            broker.start()
            running.callback(kill, broker)  # the last one could not end by itself: it would have nobody to tell
        for broker in brokers:
            wait_for(broker)
        where = ",".join(f"127.0.0.1:{port}" for port in data)
        yield Cluster(brokers, Connections(kafka=where, store=str(tmp_path / "store"), partitions=PARTITIONS))


@pytest.mark.slow
def test_brokers_and_workers_are_killed_one_after_the_other(
    cluster: Cluster, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """Three workers share six partitions. In the middle of the flow a broker and a worker are killed, once while the group is still forming and once
    more when both are back; what they had goes to the others, and is recovered from the two brokers that are left. A worker
    that finds itself fenced is started again."""
    create_topics(cluster.connections)
    group, log = unique("attribution"), event_log(21, 1_200, PARTITIONS)
    tenth, half = len(log) // 10, len(log) // 2
    workers: dict[str, Worker] = {}

    def start(name: str) -> None:
        workers[name] = Worker(cluster.connections, group, tmp_path / f"{name}.log", {"INSTANCE": name})

    def supervise() -> None:
        for name in [name for name, worker in workers.items() if worker.fenced]:
            start(name)

    def joined(*names: str) -> None:
        deadline = time.monotonic() + 120
        while not any(workers[name].recovered for name in names):
            assert time.monotonic() < deadline, workers[names[0]].log.read_text()[-3_000:]
            supervise()
            time.sleep(0.05)

    def feed(part: list[tuple[str, int, bytes]], victim: int | None = None) -> None:
        with feeder(cluster.connections) as send:
            for m, (topic, partition, raw) in enumerate(part):
                send(topic, partition, raw)
                if victim is not None and m == len(part) // 2:
                    cluster.kill(victim)
                    workers[NAMES[victim]].kill()
        caught_up(cluster.connections, meanwhile=supervise)

    try:
        start("three")
        feed(log[:tenth])  # a slot's first commit has its state in it: what follows is left for a recovery to replay
        start("one")
        start("two")
        joined("one", "two")
        feed(log[tenth:half], 0)
        cluster.start(0)
        start("one")
        joined("one")
        assert re.search(r"replayed=[1-9]", workers["one"].said)
        feed(log[half:], 1)
        check(cluster.connections)
    finally:
        for worker in workers.values():
            worker.kill()
