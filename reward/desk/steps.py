"""The next revision of a subject: where it comes from, what state it has, what it changes."""

from __future__ import annotations

import msgspec

from reward.desk import diffs, gates
from reward.desk.books import bodies
from schemas.campaigns import Campaign
from schemas.decisions import Actor, Change, Decision, Standing, State
from schemas.errors import WrongState
from schemas.weights import RewardWeights


def source(now: Standing, action: str) -> Decision:
    """What goes live: the draft; or, at once, what is scheduled.

    Raises:
        WrongState: neither.
    """
    if now.draft is not None:
        return now.draft
    if action == "activate" and now.live is not None and now.state == State.SCHEDULED:
        return now.live
    raise WrongState(f"the state of {now.subject}", str(now.state), f"a draft, to {action} it", "draft it first")


def revision(
    subject: str,
    rows: list[Decision],
    parent: Decision | None,
    state: State,
    body: Campaign,
    actor: Actor,
    why: str,
    now_ms: int,
) -> Decision:
    """The next revision; its body carries its number."""
    number = rows[-1].revision + 1 if rows else 1
    body = msgspec.structs.replace(body, id=subject, revision=number)
    return Decision(
        subject, number, parent.revision if parent else 0, state, body, actor.name, actor.role, gates.reason(why), now_ms
    )


def acts(body: Campaign, now_ms: int) -> bool:
    """Whether there is something to roll back: it did not end by itself."""
    return body.ends_ms == 0 or body.ends_ms > now_ms


def state_of(body: Campaign, now_ms: int) -> State:
    return State.SCHEDULED if body.starts_ms > now_ms else State.ACTIVE


def changes_of(old: RewardWeights, new: RewardWeights, subject: str) -> tuple[Change, ...]:
    """What a subject's step changes of the book."""
    return diffs.between(bodies(old).get(subject), bodies(new).get(subject))
