"""What differs between two versions, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from reward.campaigns.weighing import NAMES
from reward.desk.periods import shown
from schemas.campaigns import Campaign
from schemas.decisions import Change
from schemas.weights import RewardWeights

#: Fields that say which revision it is, not what it wants; and times, which are told as people read them.
_NAMED = ("id", "revision", "starts_ms", "ends_ms")


def between(old: Campaign | None, new: Campaign | None) -> tuple[Change, ...]:
    """Fields that differ between two revisions; None: there is none, so every field that is set differs."""
    before, after = (dict(_flat("", _plain(body))) for body in (old, new))
    return _compare(before, after)


def between_books(old: RewardWeights, new: RewardWeights) -> tuple[Change, ...]:
    """The defaults, and ``campaigns.ID.FIELD`` for what campaigns say."""
    return _compare(dict(_book(old)), dict(_book(new)))


def same(old: Campaign | None, new: Campaign | None) -> bool:
    """Whether two revisions want the same."""
    return not between(old, new)


def _book(book: RewardWeights) -> Iterator[tuple[str, Any]]:
    yield from ((name, getattr(book, name)) for name in NAMES)
    for campaign in book.campaigns:
        yield from _flat(f"campaigns.{campaign.id}", _plain(campaign))


def _plain(body: Campaign | None) -> dict[str, Any]:
    if body is None:
        return {}
    plain = {name: getattr(body, name) for name in body.__struct_fields__ if name not in _NAMED}
    scope, multipliers = (msgspec.structs.asdict(part) for part in (body.scope, body.multipliers))
    times = {"from": body.starts_ms, "to": body.ends_ms}
    told = {name: shown(at_ms, body.zone) if at_ms else None for name, at_ms in times.items()}
    return plain | told | {"scope": scope, "multipliers": multipliers}


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}" if path else name, inner)
    elif value is not None and value != ():
        yield path, ", ".join(value) if isinstance(value, tuple) else value


def _compare(before: dict[str, Any], after: dict[str, Any]) -> tuple[Change, ...]:
    names = dict.fromkeys((*before, *after))
    return tuple(Change(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n))
