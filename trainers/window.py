"""The window of recent views: labels have a life, so a later revision of a view replaces the one that is kept.

A ring of the newest ``size`` views by arrival. It is part of a checkpoint: two windows that were given the same views in
the same order are the same, draw for draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from schemas.errors import Corrupt, InvalidValue
from schemas.examples import TrainingExample


class _Dump(msgspec.Struct, frozen=True, array_like=True):
    examples: tuple[TrainingExample, ...]  # oldest first


class Window:
    """Holds each view once, under its request id."""

    def __init__(self, size: int, examples: Sequence[TrainingExample] = ()) -> None:
        """``examples`` oldest first; only the newest ``size`` are kept.

        Raises:
            InvalidValue: a size below 1.
        """
        if size < 1:
            raise InvalidValue("window size", size, "at least 1", "give the window room")
        self.size = size
        self._ring: list[TrainingExample] = []
        self._slot: dict[str, int] = {}
        self._oldest = 0
        for example in examples[-size:]:
            self.insert(example)

    def __len__(self) -> int:
        return len(self._ring)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._slot

    def insert(self, example: TrainingExample) -> None:
        """Keep a view; one that is already held is revised in its place, else the oldest makes room."""
        if self.revise(example):
            return
        if len(self._ring) < self.size:
            self._slot[example.request_id] = len(self._ring)
            self._ring.append(example)
            return
        del self._slot[self._ring[self._oldest].request_id]
        self._slot[example.request_id] = self._oldest
        self._ring[self._oldest] = example
        self._oldest = (self._oldest + 1) % self.size

    def revise(self, example: TrainingExample) -> bool:
        """Replace the held revision of this view if this one is newer. Returns whether the view is held."""
        slot = self._slot.get(example.request_id)
        if slot is None:
            return False
        if example.revision > self._ring[slot].revision:
            self._ring[slot] = example
        return True

    def forget(self, unwanted: Callable[[TrainingExample], bool]) -> None:
        """Hold these views no longer."""
        held = self._in_order()
        kept = [example for example in held if not unwanted(example)]
        if len(kept) < len(held):
            self._hold(kept)

    def resize(self, size: int) -> None:
        """Hold at most ``size`` views from now on: the newest stay."""
        self.size = size
        self._hold(self._in_order()[-size:])

    def draw(self, count: int, random: np.random.Generator) -> list[TrainingExample]:
        """``count`` different views, or all there are, uniformly.

        Drawn by age, not by place in the ring: a window that was dumped and loaded draws the same views.
        """
        held = len(self._ring)
        if not held or count < 1:
            return []
        ages = random.choice(held, size=min(count, held), replace=False)
        return [self._ring[(self._oldest + int(age)) % held] for age in ages]

    def newest(self, count: int) -> list[TrainingExample]:
        """The last ``count`` views that arrived, newest first."""
        return self._in_order()[::-1][:count]

    def dump(self) -> bytes:
        """Everything, as msgpack."""
        return msgspec.msgpack.encode(_Dump(tuple(self._in_order())))

    @classmethod
    def load(cls, data: bytes, size: int, path: str) -> Window:
        """What `dump` wrote; a smaller ``size`` keeps the newest.

        Raises:
            Corrupt: the bytes do not have this form; ``path`` names their file.
        """
        try:
            return cls(size, msgspec.msgpack.decode(data, type=_Dump).examples)
        except msgspec.DecodeError as error:
            raise Corrupt(path, str(error), "use the checkpoint before it") from error

    def _in_order(self) -> list[TrainingExample]:
        return self._ring[self._oldest :] + self._ring[: self._oldest]

    def _hold(self, examples: list[TrainingExample]) -> None:
        """These alone, oldest first."""
        self._ring, self._oldest = examples, 0
        self._slot = {example.request_id: slot for slot, example in enumerate(examples)}
