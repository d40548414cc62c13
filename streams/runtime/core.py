"""What an agent is: a pure core. No clock, no I/O, no randomness; its state is a function of the log's prefixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from schemas.topics import Topic


class Record(msgspec.Struct, frozen=True, gc=False):
    """A raw record of an input. ``timestamp`` is the broker's time for it (ms)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes


class Output(msgspec.Struct, frozen=True, gc=False):
    """A record to write. ``partition`` None: the core's own partition."""

    topic: str
    key: bytes
    value: bytes
    partition: int | None = None


class Blob(msgspec.Struct, frozen=True):
    """A file to put into the store before the transaction that mentions it. Its path names its content."""

    path: str
    data: bytes


class Core(Protocol):
    """The state of one partition of one agent.

    The result may depend on the records of each topic in their order, never on how topics interleave or where chunks
    end. A property test holds that for every core.
    """

    #: Cumulative counts, exact across restarts: they are part of the state. ``quarantined.<reason>`` counts refusals.
    counters: dict[str, int]

    @property
    def watermark(self) -> int:
        """Event time (ms) below which no further record is accepted; 0 before any."""
        ...

    @property
    def progress(self) -> Mapping[str, int]:
        """Event time (ms) that each input has come to; empty when inputs do not wait for each other.

        An input far ahead of the slowest is paused (`RuntimeSettings.ahead_s`): what it brings could only wait in memory.
        """
        ...

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Take records of one input topic, in offset order. Bad ones become quarantine outputs."""
        ...

    def advance(self) -> None:
        """Fire what the watermark has passed."""
        ...

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs since the last call, in order; the core forgets them."""
        ...

    def dump(self) -> bytes:
        """The whole state, counters included. Called only after `drain`."""
        ...

    def load(self, data: bytes) -> None:
        """Become the state that `dump` returned."""
        ...


@dataclass(frozen=True)
class Agent:
    """An agent for the runtime: its name, its inputs (co-partitioned), the topics that its outputs go to, and how to build
    the core of a partition.

    ``build(partition)`` returns a fresh core. Quarantine outputs go to `schemas.topics.QUARANTINE` in the same
    transaction as everything else; every agent may have them, so none names it.
    """

    name: str
    inputs: tuple[Topic, ...]
    outputs: tuple[Topic, ...]
    build: Callable[[int], Core]
    #: Told of outputs once their transaction is committed, in its thread; what it does must not matter to any record.
    told: Callable[[Sequence[Output]], None] | None = None
    #: Digest of the settings that shape its outputs: a state is not replayed under other ones than it was made by.
    rules: str = ""
