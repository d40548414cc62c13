"""Memory of a tree of processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Memory:
    """Bytes by name, and their sum."""

    by_name: Mapping[str, int]
    total: int


def resident(pids: Mapping[str, int]) -> Memory:
    """Resident bytes (RSS) of each named process with its descendants; this process is counted without its children.

    What processes share (libraries) counts once for each of them: the sum is an upper bound.
    """
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
        info = process.memory_full_info() if shared else process.memory_info()
        return int(getattr(info, "pss", info.rss))  # only Linux tells what is shared
    except psutil.NoSuchProcess:
        return 0
