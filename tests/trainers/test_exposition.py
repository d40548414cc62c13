"""The learner's port for Prometheus."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from headrace.services.ports import free_port
from schemas.errors import Unavailable
from trainers.exposition import Exposition


def test_it_listens_on_its_own_address_alone() -> None:
    """127.0.0.2 is another address of this machine: whoever listens on every interface answers there too."""
    port = free_port()
    for host, elsewhere in (("127.0.0.1", False), ("0.0.0.0", True)):
        exposition = Exposition(host, port)
        try:
            assert b"headrace_learner_steps_total 0.0" in urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read()
            assert answers(f"http://127.0.0.2:{port}/metrics") is elsewhere
        finally:
            exposition.close()


def test_an_address_that_cannot_be_used_names_the_settings() -> None:
    """192.0.2.1 is kept for documentation: no machine has it."""
    with pytest.raises(Unavailable, match=r"192\.0\.2\.1:9101.*metrics_host"):
        Exposition("192.0.2.1", 9101)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.URLError:
        return False
    return True
