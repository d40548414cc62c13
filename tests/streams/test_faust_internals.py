"""What the chunk runtime relies on inside Faust: an upgrade that moves any of it fails here."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import faust
import pytest
from faust.app.base import App, BootStrategy
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from mode.threads import ServiceThread

from schemas.connections import Connections
from streams.runtime import faust_internals
from streams.settings import RuntimeSettings


def test_the_version_is_the_one_the_internals_were_read_in() -> None:
    """Read faust_internals.py against the new version, then move the pin."""
    assert faust.__version__ == faust_internals.PINNED


def test_the_methods_that_are_replaced_exist_with_these_parameters() -> None:
    """Name -> parameters, as Faust has them."""
    want = {
        AIOKafkaConsumerThread._create_worker_consumer: ["self", "transport"],
        AIOKafkaConsumerThread._fetch_records: ["self", "consumer", "active_partitions", "timeout", "max_records"],
        AIOKafkaConsumerThread.verify_event_path: ["self", "now", "tp"],
        AIOKafkaConsumerThread.__post_init__: ["self"],
        Consumer._new_consumer_thread: ["self"],
        BaseConsumer.getmany: ["self", "timeout"],
        BaseConsumer._wait_next_records: ["self", "timeout"],
        BaseConsumer.perform_seek: ["self"],
        App._new_transport: ["self"],
        App._create_directories: ["self"],
        App._producer_flush: ["self", "logger"],
        faust.Schema.compile: [
            "self", "app", "on_key_decode_error", "on_value_decode_error", "default_propagate",
        ],
    }  # fmt: skip
    assert {f: list(inspect.signature(f).parameters) for f in want} == want
    assert Transport.Consumer is Consumer
    assert not ServiceThread.Worker(None).daemon
    assert {"enable_kafka_producer", "enable_web"} <= set(vars(BootStrategy))
    assert "self.sleep(1.0)" in inspect.getsource(TableManager.on_start)


def test_positions_are_restored_before_the_seek_and_the_seek_before_the_flow() -> None:
    """Recovery awaits the signal, then seeks, then lets records through; a rebalance flushes with the flow stopped."""
    resume = inspect.getsource(Recovery._resume_streams)
    steps = ["on_rebalance_complete.send()", "perform_seek()", "flow_control.resume()", "resume_flow()"]
    assert [resume.index(step) for step in steps] == sorted(resume.index(step) for step in steps)
    revoked = inspect.getsource(App._on_partitions_revoked)
    steps = ["stop_flow", "flow_control.clear", "on_partitions_revoked.send"]
    assert [revoked.index(step) for step in steps] == sorted(revoked.index(step) for step in steps)


def test_a_new_app_uses_our_parts_and_makes_no_directory(tmp_path: object) -> None:
    """The transport, the assignor's co-partitioning, no producer, no leader topic, no reply topic."""
    app = faust_internals.new_app("x", Connections(kafka="h1:1,h2:2"), RuntimeSettings(), "me")
    assert isinstance(app._new_transport(), faust_internals.ChunkTransport)
    assert [str(url) for url in app.conf.broker_consumer] == ["kafka://h1:1", "kafka://h2:2"]
    assert app.conf.consumer_group_instance_id == "me"
    assert app.conf.topic_disable_leader
    assert not app.boot_strategy._should_enable_kafka_producer()


@pytest.mark.services
def test_a_chunk_that_a_rebalance_made_void_comes_again_although_nothing_follows_it(
    fresh_topics: Connections, unique: Callable[[str], str]
) -> None:
    """A fetch that waits while the group moves to its next generation belongs to the one before, and its chunk is not
    delivered. It brought the topic's last records, so no later chunk shows the gap: it must be fetched again at once."""
    argv = [sys.executable, "-m", "tests.streams.void_chunk", fresh_topics.kafka, unique("chunks")]
    done = subprocess.run(argv, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [0, 1, 2]
