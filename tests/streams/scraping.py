"""Reading a process's metrics port."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

#: (name, *(label, value) pairs in order of the labels) -> value.
Scrape = dict[tuple[Any, ...], float]


def scrape(port: int, host: str = "127.0.0.1") -> Scrape:
    """Every sample; empty while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5) as response:
            text = response.read().decode()
    except (urllib.error.URLError, OSError):
        return {}
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def until(port: int, name: str, labels: Mapping[str, str], value: float, timeout_s: float = 60) -> Scrape:
    """Scrape until a sample of that name with (at least) these labels has the value."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = scrape(port)
        for (sample, *pairs), said in found.items():
            if sample == name and labels.items() <= dict(pairs).items() and said == value:
                return found
        assert time.monotonic() < deadline, {key: said for key, said in found.items() if key[0] == name}
        time.sleep(0.1)
