"""Who drafted what a step newly makes act, or stops: whom four eyes keep from taking it.

A revision comes from another, so that a line of drafts stands behind each. What acts already has been approved with its line,
where and when it acts; what a step adds to that line newly acts, as far as later drafts did
not overwrite it. A campaign in a book carries the revision that it first acted
as, after a rollback too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from reward.campaigns.weighing import NAMES
from reward.desk import diffs, records
from reward.desk.books import touched
from reward.desk.steps import acts
from schemas.campaigns import Campaign
from schemas.decisions import DEFAULTS, Decision, State
from schemas.weights import RewardWeights


def of_step(
    session: Session, rows: Sequence[Decision], source: Decision, body: Campaign, active: RewardWeights, now_ms: int
) -> set[str]:
    """Who drafted what newly acts when ``body``, made of the revision ``source``, goes live over the book ``active``."""
    acting = _acting(active, body.id, now_ms)
    return _added(session, rows, source.revision, body, acting, now_ms)


def of_rollback(session: Session, old: RewardWeights, target: RewardWeights, now_ms: int) -> set[str]:
    """Who drafted what newly acts, or acts no longer, when the book ``old`` gives way to an earlier one."""
    found: set[str] = set()
    for subject in touched(old, target):
        rows = records.decisions(session, subject)
        before, after = (_acting(book, subject, now_ms) for book in (old, target))
        for body, other in ((before, after), (after, before)):
            if body is not None:
                found |= _added(session, rows, body.revision, body, other, now_ms)
        if subject == DEFAULTS:
            found |= _of_standing(rows, old, target) | _of_standing(rows, target, old)
    return found


def _acting(book: RewardWeights, subject: str, now_ms: int) -> Campaign | None:
    """What a book says of a campaign, or of defaults with a period, now or later; None: nothing."""
    return next((c for c in book.campaigns if c.id == subject and acts(c, now_ms)), None)


def _added(
    session: Session, rows: Sequence[Decision], revision: int, body: Campaign, acting: Campaign | None, now_ms: int
) -> set[str]:
    """Who drafted what stands behind a body and not behind what acts wherever and whenever the body would."""
    known = _line(session, rows, acting.revision) if acting is not None and _covers(acting, body, now_ms) else {}
    line = _line(session, rows, revision)
    return {one.draft.who for at, one in line.items() if at not in known and (one.pending or _remains(one, body))}


def _remains(one: _Draft, body: Campaign) -> bool:
    """Whether something that a draft wrote is still in the body; what was since overwritten is no part of it."""
    wrote = {change.field for change in diffs.between(one.over.body if one.over else None, one.draft.body)}
    return bool(wrote - {change.field for change in diffs.between(one.draft.body, body)})


def _covers(acting: Campaign, body: Campaign, now_ms: int) -> bool:
    """Whether the body reaches no further than what acts: another time, scope or priority is another decision about all of it."""
    inside = acting.starts_ms <= max(body.starts_ms, now_ms) and (acting.ends_ms == 0 or 0 < body.ends_ms <= acting.ends_ms)
    return inside and (acting.scope, acting.priority) == (body.scope, body.priority)


class _Draft(NamedTuple):
    """A draft behind a revision."""

    draft: Decision
    over: Decision | None  #: what it changed
    pending: bool  #: nothing between the two was let act


def _line(session: Session, rows: Sequence[Decision], revision: int) -> dict[int, _Draft]:
    """The drafts that led to a revision, by theirs.

    Those of the defaults end where an earlier decision acted: each names all that it changes.
    """
    known = {row.revision: row for row in rows}
    found: dict[int, _Draft] = {}
    row, pending = known.get(revision), True
    while row is not None:
        over = known.get(_origin(session, row))
        if row.state == State.DRAFT:
            found[row.revision] = _Draft(row, over, pending)
        elif found:
            pending = False
            if row.subject == DEFAULTS:
                break
        row = over
    return found


def _origin(session: Session, row: Decision) -> int:
    """The revision that its content came from: of what a rollback brought back, the one that it first acted as."""
    if row.state in (State.ACTIVE, State.SCHEDULED):
        book = records.book(session, row.book_version)
        first = next((c.revision for c in book.campaigns if c.id == row.subject), row.revision)
        if first != row.revision:
            return first
    return row.parent


def _of_standing(rows: Sequence[Decision], book: RewardWeights, other: RewardWeights) -> set[str]:
    """Who drafted the standing defaults of a book that another book has otherwise, at whatever time until then.

    A book's defaults carry no revision: whoever had a value of it act is asked.
    """
    known = {row.revision: row for row in rows}
    names = [name for name in NAMES if getattr(book, name) != getattr(other, name)]
    found: set[str] = set()
    for row in rows:
        if row.state == State.ACTIVE and row.book_version <= book.version:
            found |= _wrote(known, row, {name: getattr(book, name) for name in names})
    return found


def _wrote(known: dict[int, Decision], acted: Decision, values: dict[str, float]) -> set[str]:
    """The drafters behind what acted, if it brought one of the values."""
    drafts: list[Decision] = []
    row: Decision | None = acted
    while row is not None and (row.state == State.DRAFT or not drafts):
        drafts += [row] if row.state == State.DRAFT else []
        row = known.get(row.parent)
    brought = drafts and any(getattr(drafts[0].body, name) == value for name, value in values.items())
    return _names(drafts) if brought else set()


def _names(rows: Iterable[Decision]) -> set[str]:
    return {row.who for row in rows}
