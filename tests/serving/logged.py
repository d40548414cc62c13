"""The impressions that a server under test has logged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from schemas.connections import Connections
from schemas.events import Impression
from schemas.log import scan
from schemas.topics import IMPRESSIONS

Serve = Callable[..., AbstractContextManager[Any]]
Shop = Any
Prepared = Any


def impressions(connections: Connections) -> list[tuple[int, Impression]]:
    return [(entry.partition, entry.record) for entry in scan(connections, IMPRESSIONS)]
