"""The state of a decision as the clock has it, from its rows."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.decisions import Decision, Standing, State


def state_at(decision: Decision, now_ms: int) -> State:
    """What was scheduled becomes active at its start, and ends by itself."""
    state, body = decision.state, decision.body
    if state in (State.SCHEDULED, State.ACTIVE):
        if body.ends_ms and body.ends_ms <= now_ms:
            return State.ENDED
        return State.SCHEDULED if body.starts_ms > now_ms else State.ACTIVE
    return state


def standing(rows: Sequence[Decision], now_ms: int) -> Standing:
    """A subject's rows, the oldest first and at least one, as what it is now."""
    live = next((row for row in reversed(rows) if row.state != State.DRAFT), None)
    taken = {row.parent for row in rows}
    draft = next((row for row in reversed(rows) if row.state == State.DRAFT and row.revision not in taken), None)
    state = state_at(live, now_ms) if live else State.DRAFT
    return Standing(rows[-1].subject, state, rows[-1].revision, live, draft)
