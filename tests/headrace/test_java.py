"""Kafka's jars are all there or not there at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.services.java import kafka_jars
from schemas.errors import Unavailable


def test_the_cache_has_the_broker_and_its_own_client_library() -> None:
    """The logging jar must not have pulled an older client library in: the broker would not start with it."""
    names = {jar.name for jar in kafka_jars().glob("*.jar")}
    assert {"kafka_2.13-4.3.1.jar", "kafka-clients-4.3.1.jar", "log4j-slf4j-impl-2.25.4.jar"} <= names
    assert len([name for name in names if name.startswith("kafka-clients-")]) == 1


def test_without_network_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that fails says what to do and leaves no half-filled folder that a later start would trust."""
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Unavailable, match="set HEADRACE_KAFKA"):
        kafka_jars()
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
