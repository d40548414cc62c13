"""A network that is cut: exactly once over it, compared byte by byte with an undisturbed core as in test_delivery, a clock that
goes on, and a scan that ends."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import msgspec
import pytest
from structlog.testing import capture_logs

from headrace.process import Process
from headrace.services.kafka import kafka_child, serves
from headrace.services.ports import free_port
from headrace.topics_admin import create_topics
from schemas import log as logs
from schemas import tails
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.events import Tick
from schemas.topics import CLICKS, INPUTS
from streams.ticks import run_ticks
from tests.secure_broker import started
from tests.streams.cable import Cable
from tests.streams.conftest import Worker, caught_up, committed, feeder
from tests.streams.event_log import event_log
from tests.streams.test_delivery import check

pytestmark = pytest.mark.services


class Ends(NamedTuple):
    """A broker, reached by a cable and without."""

    direct: Connections
    by_cable: Connections
    cable: Cable


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    """A broker with two listeners: whoever comes by the cable is told to stay on it."""
    ports: list[int] = []
    for _ in range(4):
        ports.append(free_port(tuple(ports)))
    inner, behind, front, controller = ports
    listeners = f"PLAINTEXT://127.0.0.1:{inner},CABLE://127.0.0.1"
    settings = {
        "listeners": f"{listeners}:{behind},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"{listeners}:{front}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CABLE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "inter.broker.listener.name": "PLAINTEXT",
    }
    child, _ = kafka_child(tmp_path / "kafka", tmp_path / "logs", settings)
    cable = Cable(front, behind)
    with started(Process(dataclasses.replace(child, ready=lambda: serves(inner)), tmp_path, {})):
        store = str(tmp_path / "store")
        yield Ends(
            Connections(kafka=f"127.0.0.1:{inner}", store=store), Connections(kafka=f"127.0.0.1:{front}", store=store), cable
        )
        cable.close()


def test_a_worker_cut_off_from_its_broker_comes_back_and_another_takes_its_place_meanwhile(
    ends: Ends, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """Cut off past its session, in the middle of its transactions, while a second worker takes its partitions; when the network is
    whole again both go on, and nothing is lost or comes out twice. A worker that finds itself fenced ends and is
    started again, as by whoever supervises it."""
    create_topics(ends.direct)
    group, log = unique("attribution"), event_log(12, 1_200)
    third = len(log) // 3
    way = {"one": ends.by_cable, "two": ends.direct}
    workers: dict[str, Worker] = {}

    def start(name: str) -> Worker:
        workers[name] = Worker(way[name], group, tmp_path / f"{name}.log", {"INSTANCE": name})
        return workers[name]

    def supervise() -> None:
        for name, worker in list(workers.items()):
            if worker.fenced:
                start(name)

    def feed(part: int) -> None:
        with feeder(ends.direct) as send:
            for topic, partition, raw in log[part * third : (part + 1) * third if part < 2 else None]:
                send(topic, partition, raw)

    try:
        start("one").ready()
        feed(0)
        time.sleep(0.5)
        ends.cable.cut()
        feed(1)
        start("two")
        caught_up(ends.direct, meanwhile=supervise)
        ends.cable.mend()
        feed(2)
        caught_up(ends.direct, meanwhile=supervise)
        check(ends.direct)
        assert "recovered" in workers["two"].log.read_text()
    finally:
        for worker in workers.values():
            worker.kill()


def test_the_clock_goes_on_after_an_outage_longer_than_its_patience(ends: Ends) -> None:
    """What was given up is told; when the network is whole again every partition gets the present time, in order. The clock
    ends when it is asked to."""
    create_topics(ends.direct)

    def times() -> list[list[int]]:
        logged = [partition for topic in INPUTS for partition in committed(ends.direct, topic.name)]
        return [[msgspec.json.decode(raw, type=Tick).ts for _, raw in partition] for partition in logged]

    def until(reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not reached():
            assert time.monotonic() < deadline and clock.is_alive(), (lines, times())
            time.sleep(0.05)

    stop = Event()
    clock = Thread(target=run_ticks, args=(ends.by_cable, stop, 0.1, 1.0))
    with capture_logs() as lines:
        clock.start()
        try:
            until(lambda: all(times()))
            ends.cable.cut()
            until(lambda: any(line["event"].startswith("ticks given up") for line in lines))
            ends.cable.mend()
            mended = int(time.time() * 1_000)
            until(lambda: all(partition[-1] > mended for partition in times()))
        finally:
            stop.set()
            ends.cable.mend()
            clock.join(60)
    assert not clock.is_alive() and all(partition == sorted(partition) for partition in times())


def test_a_scan_whose_broker_goes_away_in_its_midst_ends_and_says_so(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network goes when the ends are known, and before the first record."""
    create_topics(ends.direct)
    with feeder(ends.direct) as send:
        send(CLICKS.name, 0, msgspec.json.encode(Tick(1)))
    bounds = tails.bounds

    def and_cut(*asked: Any) -> Any:
        found = bounds(*asked)
        ends.cable.cut()
        return found

    monkeypatch.setattr(tails, "bounds", and_cut)
    monkeypatch.setattr(logs, "PATIENCE_S", 5.0)
    try:
        with pytest.raises(Unavailable, match=r"search\.clicks: no records of partitions \[0\] in 5 s"):
            list(logs.scan(ends.by_cable, CLICKS))
    finally:
        ends.cable.mend()
