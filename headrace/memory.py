"""Memory of a tree of processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Memory:
    """Bytes by name, and their sum.

    Resident pages (RSS) are added up, so what processes share (libraries) counts once for each: an upper bound.
    """

    by_name: Mapping[str, int]
    total: int


def resident(pids: Mapping[str, int]) -> Memory:
    """Resident bytes of each named process with its descendants; this process is counted without its children."""
    by_name = {name: _tree(pid) for name, pid in pids.items()}
    return Memory(by_name, sum(by_name.values()))


def proportional(pids: Mapping[str, int]) -> Memory:
    """As `resident`, but shared pages are split among those who share them (PSS): the true total, slower to read."""
    by_name = {name: _tree(pid, shared=True) for name, pid in pids.items()}
    return Memory(by_name, sum(by_name.values()))


def _tree(pid: int, shared: bool = False) -> int:
    try:
        process = psutil.Process(pid)
        below = [] if pid == os.getpid() else process.children(recursive=True)
    except psutil.NoSuchProcess:
        return 0
    return sum(_one(member, shared) for member in (process, *below))


def _one(process: psutil.Process, shared: bool) -> int:
    try:
        return int(process.memory_full_info().pss if shared else process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
