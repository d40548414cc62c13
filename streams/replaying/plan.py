"""What a switch writes: one transaction for each partition, and none of them counts before all are ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from msgspec.structs import replace

from schemas.codec import encode
from schemas.commits import Commit
from schemas.errors import Conflict
from schemas.topics import COMMITS, STATES, VIEWS
from schemas.views import View
from streams.attribution.core import NAME
from streams.runtime.commit_log import commit_key
from streams.runtime.core import Output
from streams.runtime.writer import TransactionWriter

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Switched:
    """What one partition's switch says, in views. ``before_horizon``: not looked at, older than what all topics keep."""

    partition: int
    corrected: int = 0
    taken_back: int = 0
    introduced: int = 0
    before_horizon: int = 0

    @property
    def corrections(self) -> int:
        """Views that get another revision."""
        return self.corrected + self.taken_back + self.introduced


@dataclass(frozen=True)
class Plan:
    """All that one partition's transaction holds."""

    counts: Switched
    corrections: list[View]
    parts: list[bytes]
    commit: Commit
    partitions: int

    def prepare(self, writer: TransactionWriter) -> None:
        """Send all of it, uncommitted."""
        commit, place, key = self.commit, self.commit.partition % self.partitions, commit_key(NAME, self.commit.partition)
        writer.prepare(
            [Output(VIEWS.name, v.user.encode(), encode(v)) for v in self.corrections],
            [Output(STATES.name, key + b":%d" % n, part, place) for n, part in enumerate(self.parts)],
            lambda first: Output(COMMITS.name, key, encode(replace(commit, snapshot_offset=first)), place),
            commit.partition,
        )


def commit_all(plans: Sequence[tuple[TransactionWriter, Plan]]) -> None:
    """Write every plan under its writer's id; none counts before all are ready.

    Raises:
        Conflict: a worker has taken an id over. Of its partition nothing counts, and it is said which ones do.
    """
    done: list[int] = []
    try:
        for writer, plan in plans:
            plan.prepare(writer)
        for writer, plan in plans:
            writer.commit()
            done.append(plan.commit.partition)
            logger.info("switched", partition=plan.commit.partition, corrections=plan.counts.corrections)
    except Conflict as error:
        for writer, _ in plans[len(done) :]:
            writer.abandon()
        so_far = f"partitions {done} are switched" if done else "nothing is switched"
        raise Conflict(
            f"a partition of {NAME} ({so_far})", f"a worker that has started meanwhile ({error})",
            "stop the attribution workers first, then run it again: what is done is found done",
        ) from error  # fmt: skip
