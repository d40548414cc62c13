"""One process at a time under an instance name: a second on this machine is refused, one elsewhere is spoken of."""

from __future__ import annotations

import os
from collections.abc import Callable

import psutil
import pytest
from confluent_kafka import Consumer
from structlog.testing import capture_logs

from schemas.connections import Connections
from schemas.errors import Conflict
from schemas.topics import CLICKS
from streams.runtime.instance import hold_instance, tell_of_others
from tests.streams.conftest import Worker, caught_up, feeder
from tests.streams.event_log import event_log

HERE = Connections(kafka="h:1")


def test_a_name_is_held_by_one_process_of_a_machine_until_it_ends(unique: Callable[[str], str]) -> None:
    """Another name, another group, another cluster and no name at all are free."""
    group = unique("group")
    with hold_instance(HERE, group, "a"):
        with pytest.raises(Conflict, match=rf"instance a of {group} is held by process {os.getpid()} .*--instance"):
            hold_instance(HERE, group, "a").__enter__()
        for connections, other, name in (
            (HERE, group, "b"),
            (HERE, unique("group"), "a"),
            (Connections(kafka="h:2"), group, "a"),
            (HERE, group, None),
            (HERE, group, None),
        ):
            with hold_instance(connections, other, name):
                pass
    with hold_instance(HERE, group, "a"):
        pass


@pytest.mark.services
def test_a_second_worker_under_a_name_ends_and_the_first_goes_on(
    fresh_topics: Connections, worker: Callable[..., Worker]
) -> None:
    """It ends before it joins the group or touches a transaction."""
    first = worker("one")
    first.ready()
    second = worker("one")
    assert second.process.wait(60) == 1
    assert f"is held by process {first.process.pid} on this machine" in second.log.read_text()
    with feeder(fresh_topics) as send:
        for topic, partition, raw in event_log(5, 50):
            send(topic, partition, raw)
    caught_up(fresh_topics)
    assert first.process.poll() is None and "recovered" in first.log.read_text()


@pytest.mark.services
def test_a_member_of_the_name_on_another_machine_is_told_of(
    fresh_topics: Connections, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The member is here; that its address is ours is then taken away."""
    group = unique("group")
    options = {"bootstrap.servers": fresh_topics.kafka, "group.id": group, "group.instance.id": "a"}
    member = Consumer(options)
    member.subscribe([CLICKS.name])
    try:
        while not member.assignment():
            member.poll(0.1)
        with capture_logs() as lines:
            tell_of_others(fresh_topics, group, "a")
            assert lines == []
            monkeypatch.setattr(psutil, "net_if_addrs", dict)
            for name in (None, "b"):
                tell_of_others(fresh_topics, group, name)
            assert lines == []
            tell_of_others(fresh_topics, group, "a")
        (told,) = lines
        assert (told["event"], told["host"]) == ("takes over from a member of this name", "127.0.0.1")
        assert "fenced" in told["remedy"] and "--instance" in told["remedy"]
    finally:
        member.close()
