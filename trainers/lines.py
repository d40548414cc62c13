"""Lines of training: everything that descends from one warm start, and how to tell what belongs to which.

Checkpoints, promotions and journal records name the warm start of their line. Those of before there were lines do not, and the
manifests, which are never deleted, tell: each names the one that it continues, back to a warm start.
"""

from __future__ import annotations

from functools import cached_property

from schemas.checkpoints import Manifest, Promotion
from schemas.errors import Corrupt, Unavailable
from schemas.store import Store
from trainers import checkpoints


class Line:
    """What descends from the warm start ``start``; empty: everything.

    What names no line, and whose manifests are lost, counts if it was made after the warm start was.
    """

    def __init__(self, store: Store, start: str) -> None:
        self._store, self.start = store, start
        self._known: dict[str, str] = {}  # each manifest is read once: an old line has thousands

    @classmethod
    def of(cls, store: Store, manifest: Manifest) -> Line:
        """The line of a checkpoint; that of everything where no manifest says."""
        line = cls(store, "")
        line.start = line._start_of(manifest)
        return line

    def has(self, manifest: Manifest) -> bool:
        """Whether a checkpoint is of this line."""
        return not self.start or self._is(self._start_of(manifest), manifest.created_ms)

    def has_named(self, checkpoint: str) -> bool:
        """`has` by its id; False for one whose manifest is torn or missing."""
        if checkpoint not in self._known:
            try:
                return self.has(checkpoints.read(self._store, checkpoint))
            except (Corrupt, Unavailable):
                return False
        return self._known[checkpoint] == self.start or not self.start

    def promoted(self, promotion: Promotion) -> bool:
        """Whether the checkpoint that was promoted is of this line."""
        if not self.start or promotion.start:
            return promotion.start == self.start or not self.start
        try:
            named = self._known.get(promotion.checkpoint) or self._start_of(self._read(promotion.checkpoint))
        except (Corrupt, Unavailable):
            named = ""
        return self._is(named, promotion.decided_ms)

    def wrote(self, named: str, created_ms: int) -> bool:
        """Whether a record of the journal is of this line. ``named``: by its header, empty where it has none."""
        if not self.start or named:
            return named == self.start or not self.start
        return self._is("", created_ms) and self._had_no_name

    def _is(self, start: str, made_ms: int) -> bool:
        if start:
            return start == self.start
        return self._begin is None or made_ms >= self._begin.created_ms

    @cached_property
    def _begin(self) -> Manifest | None:
        """The warm start; None where it is torn or lost."""
        try:
            return self._read(self.start)
        except (Corrupt, Unavailable):
            return None

    @cached_property
    def _had_no_name(self) -> bool:
        """Whether the learner was on this line while its records named none. It went on from the highest step with these
        identifiers, even where another warm start had been made meanwhile."""
        for checkpoint in reversed(self._store.names(checkpoints.ROOT)):
            try:
                manifest = self._read(checkpoint)
            except (Corrupt, Unavailable):
                continue
            alike = self._begin is None or manifest.codebook_version == self._begin.codebook_version
            if manifest.step and alike and not manifest.start:
                return self.has(manifest)
        return True

    def _start_of(self, manifest: Manifest) -> str:
        """Empty: no manifest says."""
        passed, start = [manifest.checkpoint], manifest.line
        try:
            while not start and manifest.parent:
                manifest = self._read(manifest.parent)
                passed.append(manifest.checkpoint)
                start = self._known.get(manifest.checkpoint, "") or manifest.line
        except (Corrupt, Unavailable):
            pass
        if start:
            self._known |= dict.fromkeys(passed, start)
        return start

    def _read(self, checkpoint: str) -> Manifest:
        return checkpoints.read(self._store, checkpoint)
