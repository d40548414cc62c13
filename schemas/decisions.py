"""The life of a decision about the reward: drafted, scheduled, active, ended or rolled back; every step is kept.

The defaults are a decision like a campaign: the one without a scope, whose id is `DEFAULTS`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from schemas.campaigns import Campaign
from schemas.weights import RewardWeights

#: The subject whose decisions change the defaults; no campaign may have this id.
DEFAULTS: Final = "weights"
#: What the audit calls the log that training learns from: the subject of its releases. No id of a campaign has a blank.
INTEGRITY: Final = "log integrity"


class State(StrEnum):
    """Where a decision stands."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    ACTIVE = "active"
    ENDED = "ended"
    ROLLED_BACK = "rolled back"


class Role(StrEnum):
    """What somebody may do; each may what the one before may."""

    VIEWER = "viewer"  #: look
    EDITOR = "editor"  #: draft, activate, schedule, end, roll back
    APPROVER = "approver"  #: override a bound, approve what another drafted, give out tokens

    def may(self, needed: Role) -> bool:
        """Whether this role is enough for what ``needed`` may do."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Actor(msgspec.Struct, frozen=True):
    """Who acts, and as what."""

    name: str
    role: Role


class Change(msgspec.Struct, frozen=True):
    """One field that differs; None: not there."""

    field: str
    old: str | float | None
    new: str | float | None

    def __str__(self) -> str:
        return f"{self.field} {_short(self.old)} -> {_short(self.new)}"


class Decision(msgspec.Struct, frozen=True):
    """One immutable revision of a subject."""

    subject: str
    revision: int
    parent: int  #: the revision that it came from; 0: none
    state: State  #: as it was decided; what it is now depends on the clock (`reward.desk.states`)
    body: Campaign
    who: str
    role: Role
    why: str
    at_ms: int  #: wall time
    override: bool = False  #: a bound was set aside on purpose
    approved_by: str = ""  #: with four eyes: who let the draft of somebody else go live
    book_version: int = 0  #: the version of the weights that it made; 0: none


class Standing(msgspec.Struct, frozen=True):
    """A subject as it is now: what was last decided to act, and a draft that waits beside it."""

    subject: str
    state: State
    revision: int  #: the newest
    live: Decision | None  #: the last one that acted or was taken back
    draft: Decision | None  #: not acted on yet


class AuditEntry(msgspec.Struct, frozen=True):
    """One line of the audit: never changed, never removed."""

    id: int
    at_ms: int
    who: str
    role: Role
    action: str
    subject: str
    revision: int
    book_version: int
    why: str
    changes: tuple[Change, ...]
    override: bool


class Overlap(msgspec.Struct, frozen=True):
    """Two campaigns that meet: at some time, for some request, on some items."""

    first: str
    second: str
    items: int  #: items of the catalogue that are in both
    wins: dict[str, str]  #: weight or multiplier that both set -> the campaign whose value counts


class Acted(msgspec.Struct, frozen=True):
    """What a verb did."""

    decision: Decision
    changes: tuple[Change, ...]
    overlaps: tuple[Overlap, ...]
    book: RewardWeights | None = None  #: the new version of the weights, when there is one
    refusals: tuple[str, ...] = ()  #: of a draft: what it would be refused for if it went live now
    warnings: tuple[str, ...] = ()  #: what is allowed and seldom meant


class Token(msgspec.Struct, frozen=True):
    """A token of the API, without its secret."""

    name: str
    role: Role
    created_ms: int
    revoked_ms: int = 0  #: 0: still good


def _short(value: object) -> str:
    if value is None:
        return "none"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
