"""What the benchmarks share: options, paired repeats, medians, the printed table and the JSON form."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import psutil
import torch
from rich.console import Console
from rich.table import Table

from headrace.shop.settings import DAY_MS

#: Fewest repeats that a median is taken of.
LEAST_REPEATS = 5
#: The present of simulated shops: fixed, so that two runs meet the same shop.
NOW_MS = 20_000 * DAY_MS


class Row(msgspec.Struct, frozen=True):
    """One comparison. ``ours`` and ``peer`` are medians in ``unit``; a ``ratio`` above 1 means ours is better."""

    case: str
    ours: float
    peer: float
    peer_name: str
    ratio: float
    unit: str
    repeats: int


class Result(msgspec.Struct, frozen=True):
    """What is written as JSON."""

    name: str
    machine: str
    rows: list[Row]


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Options that every benchmark takes; ``doc`` is the module's docstring. torch is held to one thread from here on."""
    torch.set_num_threads(1)
    options = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=(doc or "").split("\n")[0])
    options.add_argument("--quick", action="store_true", help="fewer repeats or smaller inputs: ends within a minute")
    options.add_argument("--json", type=Path, metavar="FILE", help="also write the result to this file")
    return options


def row(
    case: str, pairs: Sequence[tuple[float, float]], peer_name: str, unit: str, *, higher_is_better: bool = False
) -> Row:
    """The row of paired repeats [(ours, peer)]; the ratio is the median of the pairs' ratios, not of the medians.

    Raises:
        ValueError: fewer repeats than a median is taken of.
    """
    if len(pairs) < LEAST_REPEATS:
        raise ValueError(f"case {case!r} has {len(pairs)} repeats, but needs at least {LEAST_REPEATS}")
    ratios = [ours / peer if higher_is_better else peer / ours for ours, peer in pairs]
    ours, peer = (statistics.median(values) for values in zip(*pairs, strict=True))
    return Row(case, ours, peer, peer_name, statistics.median(ratios), unit, len(pairs))


def paired_times(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int, calls: int = 1
) -> list[tuple[float, float]]:
    """Seconds a call of (ours, peer), alternating, so that both meet the same weather; each is warmed up by one call.

    Args:
        calls: calls of ours that one repeat is the mean of, for what is too short to time once.
    """
    ours(), peer()
    return [(seconds(ours, calls), seconds(peer)) for _ in range(repeats)]


def seconds(what: Callable[[], object], calls: int = 1) -> float:
    """Mean wall seconds of ``calls`` calls."""
    started = time.perf_counter()
    for _ in range(calls):
        what()
    return (time.perf_counter() - started) / calls


def scaled(pairs: Iterable[tuple[float, float]], factor: float) -> list[tuple[float, float]]:
    """Both sides of every pair times ``factor``: seconds to milliseconds."""
    return [(ours * factor, peer * factor) for ours, peer in pairs]


def finish(name: str, rows: Sequence[Row], options: argparse.Namespace, notes: Iterable[str] = ()) -> Result:
    """Print the table and ``notes`` below it, and write the JSON file if one was asked for."""
    result = Result(name, machine(), list(rows))
    table = Table(title=f"{name}, on {result.machine}", title_justify="left")
    for column in ("case", "ours", "peer", "unit", "peer is", "ratio", "repeats"):
        table.add_column(column, justify="right" if column in ("ours", "peer", "ratio", "repeats") else "left")
    for r in rows:
        table.add_row(r.case, f"{r.ours:.4g}", f"{r.peer:.4g}", r.unit, r.peer_name, f"{r.ratio:.3g}", str(r.repeats))
    console = Console(width=None if Console().is_terminal else 150)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return result


def machine() -> str:
    """Processor, cores, memory and Python, in a line."""
    memory = round(psutil.virtual_memory().total / 2**30)
    return f"{_processor()}, {os.cpu_count()} cores, {memory} GiB, Python {platform.python_version()}"


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
