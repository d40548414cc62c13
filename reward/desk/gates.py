"""Who may pass: roles, four eyes, and editors who have not seen the last change."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from reward.desk import diffs
from reward.desk.periods import shown
from reward.desk.words import readable
from reward.settings import DeskSettings
from schemas.decisions import DEFAULTS, Actor, Change, Decision, Role
from schemas.errors import Forbidden, FourEyes, InvalidRequest, NotFound, Superseded
from schemas.weights import RewardWeights


def need(actor: Actor, role: Role, verb: str) -> None:
    """Let through who has the role.

    Raises:
        Forbidden: the others.
    """
    if not actor.role.may(role):
        raise Forbidden(f"{actor.name} ({actor.role})", verb, f"role {role}", f"ask somebody who is {role}")


def reason(why: str) -> str:
    """Why something is decided, without blanks around it.

    Raises:
        InvalidRequest: nothing is said, or nothing that can be read.
    """
    said = readable("why", why, lines=True)
    if not said:
        raise InvalidRequest("why", why, "a reason", "say why, for those who come after")
    return said


def may_go_live(actor: Actor, verb: str, override: bool, settings: DeskSettings) -> None:
    """Let through who may bring a draft, or a whole version, into force; whose it is `not_theirs` asks.

    Raises:
        Forbidden: the role is not enough.
    """
    approves = settings.four_eyes or override
    need(actor, Role.APPROVER if approves else Role.EDITOR, f"{verb} with override" if override else verb)


def not_theirs(actor: Actor, contributors: Collection[str], may_not: str) -> None:
    """Four eyes: let through who had no part in what a step makes act or stops (`reward.desk.contributors`).

    Raises:
        FourEyes: somebody who had.
    """
    if actor.name in contributors:
        raise two_people(actor, may_not)


def may_end(actor: Actor, override: bool) -> None:
    """Let through who may take a campaign out: any editor, with four eyes too.

    Raises:
        Forbidden: the role is not enough.
    """
    need(actor, Role.APPROVER if override else Role.EDITOR, "end with override" if override else "end")


def two_people(actor: Actor, verb: str) -> FourEyes:
    """The refusal of four eyes."""
    remedy = "draft it, and let another approver activate it (reward.desk.four_eyes)"
    return FourEyes(f"{actor.name} ({actor.role})", verb, "another approver", remedy)


def expect(rows: Sequence[Decision], expected: int | None) -> None:
    """Compare the newest revision with the one that an editor looked at; 0: none yet.

    Raises:
        Superseded: it is another; it says who, when and what.
        NotFound: there never was the expected one.
    """
    newest = rows[-1].revision if rows else 0
    if expected is None or expected == newest:
        return
    if not 0 <= expected < newest:
        raise NotFound("expected revision", expected, f"one of 0 to {newest}", "look at the newest")
    last, seen = rows[-1], next((row for row in rows if row.revision == expected), None)
    changes = diffs.between(seen.body if seen else None, last.body)
    if seen is not None and seen.state != last.state:
        changes = (Change("state", seen.state, last.state), *changes)
    holder = f"revision {newest} by {last.who} at {shown(last.at_ms)}"
    what = "the decision about the defaults" if last.subject == DEFAULTS else f"campaign {last.subject}"
    raise Superseded(what, holder, last.who, last.at_ms, changes)


def unmoved(draft: Decision, last: Decision, changes: tuple[Change, ...]) -> None:
    """Let a draft of the defaults through that was written over what acts.

    Raises:
        Superseded: they changed since; it says who, when and what.
    """
    if changes:
        holder = f"revision {last.revision} by {last.who} at {shown(last.at_ms)}, after the draft"
        holder += f" (revision {draft.revision} by {draft.who}: {draft.why})"
        remedy = "draft it again, or expect the newest revision (`--expect`) if it is still meant"
        raise Superseded("the decision about the defaults", holder, last.who, last.at_ms, changes, remedy)


def superseded_book(active: RewardWeights, seen: RewardWeights) -> Superseded:
    """The refusal for an editor who looked at another version than the active one."""
    holder = f"version {active.version} by {active.author}"
    holder += f" at {shown(active.created_ms)}" if active.created_ms else ""
    return Superseded("the reward", holder, active.author, active.created_ms, diffs.between_books(seen, active))
