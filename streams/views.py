"""What cores share that follow one partition of `search.views`: its clock, and what cannot be read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

import msgspec

from schemas.codec import decode
from schemas.errors import InvalidEvent
from schemas.events import Tick
from schemas.topics import VIEWS
from schemas.views import View
from streams.runtime.core import Blob, Output, Record
from streams.runtime.refusal import refuse


class Followed(msgspec.Struct):
    """The least that the state of such a core holds."""

    newest: int = 0  #: event time (ms)
    counters: dict[str, int] = {}


StateT = TypeVar("StateT", bound=Followed)


class ViewsCore(ABC, Generic[StateT]):
    """Views and ticks of one partition, in order of event time: each moves the clock before it counts."""

    name: ClassVar[str]

    def __init__(self, partition: int, state: StateT) -> None:
        self._partition = partition
        self._outputs: list[Output] = []
        self._become(state)

    def _become(self, state: StateT) -> None:
        self._state, self.counters = state, state.counters

    @abstractmethod
    def _pass(self, now: int) -> None:
        """Event time has come to ``now``, which is never less than before."""

    @abstractmethod
    def _take(self, view: View, offset: int) -> None:
        """Count a view, at its offset."""

    @property
    def watermark(self) -> int:
        """Event time (ms) below which no further view is emitted."""
        return self._state.newest

    @property
    def progress(self) -> Mapping[str, int]:
        """Nothing: there is one input."""
        return {}

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Count views; a record that cannot be read goes to quarantine."""
        for record in records:
            try:
                event: View | Tick = decode(VIEWS.kind, record.value)
            except InvalidEvent as error:
                self._add_to(f"quarantined.{error.reason}")
                self._outputs.append(refuse(self.name, topic, self._partition, record, error.reason, str(error)))
                continue
            if isinstance(event, Tick):
                self._add_to("ticks")
                self._go_to(event.ts)
            else:
                self._add_to("views")
                self._go_to(event.emitted_at)
                self._take(event, record.offset)

    def _go_to(self, now: int) -> None:
        self._state.newest = max(self._state.newest, now)
        self._pass(self._state.newest)

    def advance(self) -> None:
        """Nothing is left to fire: what is due is told as records pass it."""

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs, []

    def _add_to(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
