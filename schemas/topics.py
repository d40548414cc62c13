"""The registry of topics: name, key, partitions, cleanup, retention and the struct that travels in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from schemas.checkpoints import Candidate, Promotion
from schemas.commits import Commit, SnapshotPart
from schemas.events import Click, Impression, ItemAdded, Order, Return, Tick
from schemas.examples import TrainingExample
from schemas.integrity import Facts, Release, Verdict
from schemas.journal import (
    GateDecision,
    GuardAlarm,
    LearnerStart,
    StepIntent,
    StepLeftOut,
    StepResult,
    TrainingHold,
    TrainingSettings,
)
from schemas.pools import Pool
from schemas.posteriors import PosteriorDelta, SnapshotPointer
from schemas.quarantine import Quarantined, Replayed
from schemas.views import View
from schemas.weights import RewardWeights

DAY_S: Final = 86_400
FOREVER: Final = -1


@dataclass(frozen=True)
class Topic:
    """``partitions`` None: as many as the events have (a setting). ``retention_s`` is -1 for ever. ``append_time``: records
    carry the broker's clock, not their producer's, so that an event's time can be held against it. ``segment_bytes``: the broker
    compacts all but the last segment, so small ones keep a topic short that is read from its beginning."""

    name: str
    key: str
    kind: Any
    partitions: int | None = None
    cleanup: Literal["delete", "compact"] = "delete"
    retention_s: int = 14 * DAY_S
    purpose: str = ""
    append_time: bool = False
    segment_bytes: int | None = None

    def config(self) -> dict[str, str]:
        """Kafka's own settings of the topic."""
        retention_ms = self.retention_s if self.retention_s == FOREVER else self.retention_s * 1000
        stamp = "LogAppendTime" if self.append_time else "CreateTime"
        config = {"cleanup.policy": self.cleanup, "retention.ms": str(retention_ms), "message.timestamp.type": stamp}
        if self.segment_bytes is not None:
            config |= {"segment.bytes": str(self.segment_bytes), "min.cleanable.dirty.ratio": "0.1"}
        return config


IMPRESSIONS = Topic(
    "search.impressions", "user", Impression | Tick, purpose="page views, from the search server", append_time=True
)
CLICKS = Topic("search.clicks", "user", Click | Tick, purpose="clicks, from the shop", append_time=True)
ORDERS = Topic("search.orders", "user", Order | Return | Tick, purpose="orders and returns, from the shop", append_time=True)
POOLS = Topic(
    "search.pools", "user", Pool, retention_s=3 * DAY_S, purpose="candidates that pages were drawn from, for the preview"
)
ITEMS = Topic("catalogue.items", "item", ItemAdded, 1, retention_s=FOREVER, purpose="new items with identifiers")
VIEWS = Topic("search.views", "user", View | Tick, purpose="joined page views: provisional, final, retracted")
DELTAS = Topic("posteriors.deltas", "source", PosteriorDelta, 1, purpose="changes of the counts")
SNAPSHOTS = Topic(
    "posteriors.snapshots", "version", SnapshotPointer, retention_s=FOREVER, purpose="each snapshot, in every partition"
)
EXAMPLES = Topic("training.examples", "user", TrainingExample, retention_s=FOREVER, purpose="views with components")
WEIGHTS = Topic("rewards.weights", "scope", RewardWeights, 1, "compact", FOREVER, "reward weights, from the database")
CANDIDATES = Topic("checkpoints.candidates", "checkpoint", Candidate, 1, retention_s=FOREVER, purpose="asking to serve")
PROMOTED = Topic("checkpoints.promoted", "checkpoint", Promotion, 1, retention_s=FOREVER, purpose="let through by the gate")
STEPS = Topic(
    "training.steps",
    "step",
    StepIntent | StepResult | StepLeftOut | GateDecision | TrainingHold | TrainingSettings | GuardAlarm | LearnerStart,
    1,
    retention_s=FOREVER,
    purpose="the journal",
)
FACTS = Topic(
    "integrity.facts", "source", Facts | Release, 1, purpose="per window of event time, what the log's health shows in"
)
VERDICTS = Topic("integrity.verdicts", "window", Verdict, 1, "compact", FOREVER, "whether each window of the log is healthy")
QUARANTINE = Topic(
    "headrace.quarantine", "agent", Quarantined | Replayed, purpose="records that could not be used, with reasons"
)
COMMITS = Topic(
    "headrace.commits", "agent", Commit, cleanup="compact", retention_s=FOREVER, purpose="agents' commits",
    segment_bytes=16 * 2**20,
)  # fmt: skip
STATES = Topic(
    "headrace.states", "agent", SnapshotPart, cleanup="compact", retention_s=FOREVER, purpose="agents' dumped states"
)

#: Inputs that whoever owns the clock sends ticks to.
INPUTS: Final = (IMPRESSIONS, CLICKS, ORDERS)

TOPICS: Final = (
    *INPUTS, POOLS, ITEMS, VIEWS, DELTAS, SNAPSHOTS, EXAMPLES, WEIGHTS, CANDIDATES, PROMOTED, STEPS, FACTS, VERDICTS,
    QUARANTINE, COMMITS, STATES,
)  # fmt: skip


def topic(name: str) -> Topic:
    """The topic of that name; KeyError lists the names."""
    for entry in TOPICS:
        if entry.name == name:
            return entry
    raise KeyError(f"no topic {name!r}; there are: {', '.join(t.name for t in TOPICS)}")
