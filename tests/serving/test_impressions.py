"""The impression log against a broker of its own, which is frozen, killed and missing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from headrace.services import start_services
from headrace.services.lock import hold
from headrace.services.ports import free_port
from headrace.supervisor import Supervisor
from headrace.topics_admin import create_topics
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.events import Impression, ShownItem
from schemas.log import scan
from schemas.topics import IMPRESSIONS

pytestmark = pytest.mark.services


def page(number: int) -> Impression:
    return Impression(number, f"r{number}", "ann", "mug", (ShownItem("a", 1, 0.5),))


def test_a_frozen_broker_delays_the_answer_and_loses_nothing(tmp_path: Path, redis_url: str) -> None:
    """No write returns while the broker stands still, for 3 s; then all do, and all 30 impressions are there, once."""
    from serving.impressions import ImpressionLog

    with hold(tmp_path), Supervisor(tmp_path) as supervisor:
        connections = start_services(tmp_path, Connections(redis=redis_url), supervisor)
        create_topics(connections, [IMPRESSIONS])
        pid = supervisor.pid("kafka")
        assert pid is not None

        async def scene() -> None:
            with ImpressionLog(connections, timeout_s=120) as log:
                await asyncio.gather(*(log.write(page(n)) for n in range(10)))
                os.kill(pid, signal.SIGSTOP)
                os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)  # until its last thread stands still
                writes = [asyncio.create_task(log.write(page(n))) for n in range(10, 30)]
                await asyncio.sleep(3)
                answered = sum(write.done() for write in writes)
                os.kill(pid, signal.SIGCONT)
                await asyncio.gather(*writes)
                assert answered == 0

        asyncio.run(scene())
        assert sorted(entry.record.ts for entry in scan(connections, IMPRESSIONS)) == list(range(30))


def test_no_broker_within_the_bound_is_an_error_with_the_reason() -> None:
    """Nothing listens: after 1 s the write fails by name, and leaving does not hang."""
    from serving.impressions import ImpressionLog

    async def scene() -> None:
        with ImpressionLog(Connections(kafka=f"127.0.0.1:{free_port()}"), timeout_s=1) as log:
            begin = time.monotonic()
            with pytest.raises(Unavailable, match="impression is not confirmed"):
                await log.write(page(1))
            assert 0.9 < time.monotonic() - begin < 25  # not the 30 s of the default
            with pytest.raises(Unavailable, match="Kafka"):
                log.ping(0.2)

    asyncio.run(scene())
