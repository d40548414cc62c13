"""What a server does once between loading and its first answer."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pytest

from reward.settings import RewardSettings
from schemas.connections import Connections
from serving.metrics import Metrics
from serving.reload import Reloader, Served
from serving.settings import ServingSettings

pytestmark = pytest.mark.services


def test_it_is_told_that_all_is_loaded_before_anyone_is_answered(fresh_topics: Connections, prepared: Any) -> None:
    stop, seen = threading.Event(), list[Served | None]()
    reloader = Reloader(
        fresh_topics, prepared.store, prepared.artefacts, ServingSettings(poll_s=0.05), RewardSettings(), Metrics(), stop,
        lambda: seen.append(reloader.served),
    )  # fmt: skip
    thread = threading.Thread(target=reloader.run)
    thread.start()
    try:
        until = time.monotonic() + 60
        while reloader.served is None and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join()
    assert reloader.served is not None
    assert seen == [None]


def test_what_is_loaded_is_no_longer_looked_through() -> None:
    from serving.app import settle  # kafka-python's import warns; by now pytest knows that it may

    held = [[n] for n in range(1_000)]
    try:
        settle()
        looked_at = {id(found) for found in gc.get_objects()}
        assert not any(id(one) in looked_at for one in held)
    finally:
        gc.unfreeze()
