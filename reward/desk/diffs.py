"""What differs between two versions, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from reward.campaigns.weighing import NAMES
from reward.desk.periods import shown
from schemas.campaigns import Campaign
from schemas.decisions import Change
from schemas.weights import RewardWeights

#: Fields that say which revision it is, not what it wants; and times, which are told as people read them.
_NAMED = ("id", "revision", "starts_ms", "ends_ms")


def between(old: Campaign | None, new: Campaign | None) -> tuple[Change, ...]:
    """Fields that differ between two revisions; None: there is none, and the other's fields differ from a campaign's defaults."""
    before, after = (dict(_flat("", _plain(body))) for body in (old, new))
    if old is None or new is None:
        before, after = _set(before), _set(after)
    return _compare(before, after)


def between_books(old: RewardWeights, new: RewardWeights) -> tuple[Change, ...]:
    """The defaults, and ``campaigns.ID.FIELD`` for what campaigns say."""
    weights = between_defaults(old, new)
    before, after = ({campaign.id: campaign for campaign in book.campaigns} for book in (old, new))
    told = ((name, between(before.get(name), after.get(name))) for name in sorted(before | after))
    return (*weights, *(Change(f"campaigns.{name}.{c.field}", c.old, c.new) for name, changes in told for c in changes))


def between_defaults(old: RewardWeights, new: RewardWeights) -> tuple[Change, ...]:
    """The standing defaults alone."""
    return _compare(*({name: getattr(book, name) for name in NAMES} for book in (old, new)))


def same(old: Campaign | None, new: Campaign | None) -> bool:
    """Whether two revisions want the same."""
    return (old is None) == (new is None) and not between(old, new)


def _plain(body: Campaign | None) -> dict[str, Any]:
    if body is None:
        return {}
    plain = {name: getattr(body, name) for name in body.__struct_fields__ if name not in _NAMED}
    scope, multipliers = (msgspec.structs.asdict(part) for part in (body.scope, body.multipliers))
    times = {"from": body.starts_ms, "to": body.ends_ms}
    told = {name: shown(at_ms, body.zone) if at_ms else None for name, at_ms in times.items()}
    called = {"name": body.name if body.name != body.id else None}  # nobody gave it a name
    return plain | called | told | {"scope": scope, "multipliers": multipliers}


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}" if path else name, inner)
    elif value is not None and value != ():
        yield path, ", ".join(value) if isinstance(value, tuple) else value


def _set(told: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that say what a campaign says anyway."""
    return {name: value for name, value in told.items() if value != _BARE.get(name)}


def _compare(before: dict[str, Any], after: dict[str, Any]) -> tuple[Change, ...]:
    names = dict.fromkeys((*before, *after))
    return tuple(Change(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n))


#: What a campaign says that says nothing.
_BARE: Final = dict(_flat("", _plain(Campaign("", 0, "", ""))))
