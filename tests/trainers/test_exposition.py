"""The learner's port for Prometheus."""

from __future__ import annotations

import urllib.error
import urllib.request
from functools import partial

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


def test_what_a_step_does_not_say_is_not_of_the_last_step() -> None:
    exposition = Exposition("", 0)
    value = partial(exposition.registry.get_sample_value, "headrace_learner_step_value")
    exposition.step({"reward": 1.0, "not_finite": 1.0}, 3)
    exposition.step({"reward": 2.0}, 3)
    assert [value({"metric": name}) for name in ("reward", "not_finite")] == [2.0, None]


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.URLError:
        return False
    return True
