"""What a test session takes from the environment: variables of its own. Addresses that somebody works with are not for tests."""

from __future__ import annotations

from collections.abc import MutableMapping

#: Services that tests may empty, in place of the ones they start themselves.
KAFKA, REDIS = "HEADRACE_TEST_KAFKA", "HEADRACE_TEST_REDIS"
#: What tests keep: how services are started, where fetched files lie, and their own addresses.
KEPT = frozenset({"HEADRACE_SERVICES", "HEADRACE_CACHE", KAFKA, REDIS})


def drop_settings(environment: MutableMapping[str, str]) -> None:
    """Take every other variable of ours out: a Redis named by them would be emptied, topics deleted. Settings are read
    without regard to case, so any case counts."""
    for name in [name for name in environment if name.upper().startswith("HEADRACE_") and name not in KEPT]:
        del environment[name]
