"""Embedded services keep their data, come back, leave nothing behind, and a run folder has one holder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from redis import Redis

from headrace.services import start_services
from headrace.services.leash import spawn
from headrace.services.lock import hold, note, reap
from headrace.services.ports import free_port
from headrace.supervisor import Supervisor
from headrace.topics_admin import create_topics
from schemas.connections import Connections
from schemas.errors import Conflict, InvalidSetting
from schemas.topics import Topic


def gone(pid: int) -> bool:
    """Ended; an orphan that nobody has waited for yet is a zombie and counts as ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for it, or fail."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def send(kafka: str, topic: str, value: bytes) -> None:
    """One record, acknowledged by the broker."""
    producer = Producer({"bootstrap.servers": kafka, "acks": "all", "message.max.bytes": 8_000_000, "log_level": 0})
    producer.produce(topic, value)
    assert producer.flush(90) == 0  # the broker may have to start first


def read(kafka: str, topic: str, count: int) -> list[bytes]:
    """The first ``count`` records of a topic with one partition."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "reader", "enable.auto.commit": False, "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    values: list[bytes] = []
    deadline = time.monotonic() + 90
    while len(values) < count:
        assert time.monotonic() < deadline, f"{len(values)} of {count} records after 90 s"
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            values.append(message.value())
    consumer.close()
    return values


def test_broker_takes_a_record_of_five_megabytes(connections: Connections, unique: Callable[[str], str]) -> None:
    """Far over any event's size, so that the workers see such a record and can quarantine it."""
    topic = Topic(unique("large"), "k", None, 1)
    create_topics(connections, [topic])
    send(connections.kafka, topic.name, b"x" * 5_000_000)
    assert len(read(connections.kafka, topic.name, 1)[0]) == 5_000_000


PARENT = """
import json, sys, time
from pathlib import Path
from headrace.services import start_services
from headrace.services.lock import hold
from headrace.supervisor import Supervisor
from schemas.connections import Connections
run = Path(sys.argv[1])
with hold(run), Supervisor(run) as supervisor:
    found = start_services(run, Connections(), supervisor)
    supervisor.watch()
    pids = {state.name: state.pid for state in supervisor.states()}
    print(json.dumps({"kafka": found.kafka, "redis": found.redis, "pids": pids}), flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_services_live_through_kills_and_leave_nothing_behind(tmp_path: Path) -> None:
    """A broker killed with -9 comes back on its port with its data; a killed parent takes its children along, and its
    folder is free for the next one, which finds all data."""
    topic = Topic("kept", "k", None, 1)
    pids: list[int] = []
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    try:
        said = json.loads(next(line for line in parent.stdout if line.startswith(b"{")))
        addresses = Connections(kafka=said["kafka"], redis=said["redis"])
        create_topics(addresses, [topic])
        send(addresses.kafka, "kept", b"before")
        with Redis.from_url(addresses.redis) as redis:
            redis.set("kept", "yes")

        with pytest.raises(Conflict, match=f"process {parent.pid} "), hold(tmp_path):
            pass

        os.kill(said["pids"]["kafka"], signal.SIGKILL)
        os.kill(said["pids"]["redis"], signal.SIGKILL)
        send(addresses.kafka, "kept", b"after")
        assert read(addresses.kafka, "kept", 2) == [b"before", b"after"]
        pids = [int(json.loads(file.read_text())["pid"]) for file in (tmp_path / "pids").iterdir()]
        assert len(pids) == 2 and not set(pids) & set(said["pids"].values())
        time.sleep(1.1)  # Redis writes to disk once a second

        parent.kill()
        parent.wait()
        until(lambda: all(gone(pid) for pid in pids), 30, "children of a killed parent are gone")
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        for pid in pids:  # nothing stays, also when the test has just found that something does
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)

    assert (tmp_path / "lock").read_text() != ""  # stale: its holder had no time to empty it
    with hold(tmp_path), Supervisor(tmp_path) as supervisor:
        again = start_services(tmp_path, Connections(), supervisor)
        assert read(again.kafka, "kept", 2) == [b"before", b"after"]
        with Redis.from_url(again.redis) as redis:
            assert redis.get("kept") == b"yes"
        pids = [state.pid for state in supervisor.states() if state.pid is not None]
    assert len(pids) == 2 and all(gone(pid) for pid in pids)
    assert (tmp_path / "lock").read_text() == ""


def test_nothing_is_started_for_given_addresses(tmp_path: Path) -> None:
    """Addresses of somebody else's services come back as they are; database and store default into the run folder."""
    given = Connections(kafka="elsewhere:9092", redis="redis://elsewhere:6379/0")
    with Supervisor(tmp_path) as supervisor:
        found = start_services(tmp_path, given, supervisor)
        assert supervisor.states() == []
    expected = {"database": f"sqlite:///{tmp_path / 'headrace.db'}", "store": str(tmp_path / "store")}
    assert found == given.model_copy(update=expected)


def test_external_services_must_have_addresses(tmp_path: Path) -> None:
    """`HEADRACE_SERVICES=external` never falls back to an embedded broker."""
    with Supervisor(tmp_path) as supervisor, pytest.raises(InvalidSetting, match="HEADRACE_KAFKA"):
        start_services(tmp_path, Connections(redis="redis://elsewhere:6379/0"), supervisor, "external")


def test_reap_kills_what_was_left_and_spares_strangers(tmp_path: Path) -> None:
    """An orphan noted in the folder is killed; a process that merely got an old pid is not."""
    with subprocess.Popen(["sleep", "60"]) as orphan, subprocess.Popen(["sleep", "60"]) as stranger:
        note(tmp_path, "orphan", orphan.pid)
        (tmp_path / "pids" / "stranger").write_text(json.dumps({"pid": stranger.pid, "started": 12345.0}))
        assert reap(tmp_path) == ["orphan"]
        alive = not gone(stranger.pid)
        stranger.kill()
        assert gone(orphan.pid) and alive
        assert list((tmp_path / "pids").iterdir()) == []


def test_a_child_started_from_a_thread_outlives_that_thread(tmp_path: Path) -> None:
    """The kernel's death signal follows the forking thread; a short-lived caller must not take the child along."""
    from threading import Thread

    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.append(spawn(["sleep", "60"], dict(os.environ), tmp_path, tmp_path / "log"))
        until(lambda: psutil.Process(started[0].pid).name() == "sleep", 30, "it has asked for the signal and become sleep")

    thread = Thread(target=start)
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert started[0].poll() is None
    started[0].kill()
    assert started[0].wait(30) == -signal.SIGKILL


def test_free_ports_are_below_the_ephemeral_range() -> None:
    """So that no outgoing connection can sit on a service's port while the service restarts."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 < free_port() < lowest for _ in range(20))
