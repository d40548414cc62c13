"""Why a decision may not act, whoever asks: held against it when it goes live, and told beforehand by draft and preview.

Roles and four eyes are no part of it: they hang on who asks (`reward.desk.gates`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from reward.desk.books import next_version, with_decision
from reward.desk.outside import Facts
from reward.desk.periods import Period, check, shown
from reward.desk.records import record_of
from reward.desk.scopes import check_scope
from reward.desk.worth import worthless
from reward.settings import DeskSettings
from schemas.campaigns import Campaign
from schemas.decisions import DEFAULTS
from schemas.errors import InvalidRequest, StartsInPast
from schemas.weights import RewardWeights

#: The two ways into force: now, or at the start that is named.
Verb = Literal["activate", "schedule"]
VERBS: Final[tuple[Verb, ...]] = ("activate", "schedule")


def started(body: Campaign, verb: Verb, facts: Facts, settings: DeskSettings, now_ms: int) -> Campaign:
    """The body as it goes live, checked once more: time has passed since the draft, and the catalogue may be another.

    Raises:
        StartsInPast: there is no start to wait for. EndsInPast: the period is over.
        EmptyScope, NoMargins: the scope matches nothing any more.
    """
    if verb == "schedule" and body.starts_ms <= now_ms:
        value = shown(body.starts_ms, body.zone) if body.starts_ms else "at once"
        raise StartsInPast("the start", value, f"later than now, {shown(now_ms, body.zone)}", "activate it instead")
    if verb == "activate":
        body = msgspec.structs.replace(body, starts_ms=0)
    check(Period(body.starts_ms, body.ends_ms), now_ms)
    if body.id != DEFAULTS:
        check_scope(body, facts(), settings)
    return body


def foreseen(active: RewardWeights, body: Campaign, facts: Facts, settings: DeskSettings, now_ms: int) -> tuple[str, ...]:
    """What `activate`, and where a start is named `schedule`, would refuse this for now, in the words in which they would."""
    told: dict[str, list[str]] = {}
    for verb in VERBS if body.starts_ms else VERBS[:1]:
        for error in _refusals(active, body, verb, facts, settings, now_ms):
            told.setdefault(str(error), []).append(verb)
    return tuple(f"{' and '.join(verbs)} would refuse this: {said}" for said, verbs in told.items())


def _refusals(
    active: RewardWeights, body: Campaign, verb: Verb, facts: Facts, settings: DeskSettings, now_ms: int
) -> Iterator[InvalidRequest]:
    try:
        book = next_version(active, with_decision(active, started(body, verb, facts, settings, now_ms)), "", "", now_ms)
    except InvalidRequest as error:
        yield error
        return
    if (found := worthless(active, book, facts, settings.min_relevance_share, now_ms)) is not None:
        yield found
    try:
        record_of(book)
    except InvalidRequest as error:
        yield error
