"""Tests never touch the services that a shell's variables name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from headrace.settings import load_settings
from schemas.connections import Connections
from tests.environment import KAFKA, KEPT, REDIS, drop_settings

ROOT = Path(__file__).parents[1]
#: What a person exports to work with a cluster; nobody listens on port 1.
OWN = {
    "HEADRACE_KAFKA": "127.0.0.1:1",
    "HEADRACE_REDIS": "redis://127.0.0.1:1/0",
    "HEADRACE_DATABASE": "postgresql+psycopg://me@127.0.0.1:1/shop",
    "HEADRACE_STORE": "/nowhere",
    "HEADRACE_SETTINGS": "/nowhere/settings.json",
    "HEADRACE_KAFKA_SECURITY__PROTOCOL": "ssl",
    "headrace_partitions": "8",
}


def test_nothing_of_ours_is_left_but_what_tests_keep() -> None:
    """Also in any other case, which settings read as well; what is not ours stays."""
    environment = OWN | {KAFKA: "a:1", REDIS: "redis://b:1/0", "HEADRACE_CACHE": "/cache", "PATH": "/bin"}
    drop_settings(environment)
    assert environment == {KAFKA: "a:1", REDIS: "redis://b:1/0", "HEADRACE_CACHE": "/cache", "PATH": "/bin"}


def test_a_session_has_no_address_of_its_shell() -> None:
    """Of this session, whatever shell it was started from."""
    assert {name for name in os.environ if name.upper().startswith("HEADRACE_")} <= KEPT
    assert load_settings().connections == Connections()


def test_a_session_in_a_shell_with_addresses_is_harmless() -> None:
    """The test above, in a process whose environment names services."""
    test = f"{Path(__file__).relative_to(ROOT)}::{test_a_session_has_no_address_of_its_shell.__name__}"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | OWN, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
