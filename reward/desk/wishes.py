"""What somebody asks for in words of their own: from a file, the command line or a request, to a `Campaign`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from reward.campaigns.weighing import NAMES
from reward.desk.periods import period, shown
from reward.desk.shapes import taken
from reward.desk.words import readable
from reward.text import normalise
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.decisions import DEFAULTS
from schemas.errors import EmptyScope, InvalidRequest, InvalidWeight

#: Bounds of `schemas.campaigns.Weight` and `Factor`, told with an error of their own.
WEIGHT: Final = (0.0, 100.0)
FACTOR: Final = (0.5, 2.0)


class WishedScope(Scope, frozen=True, forbid_unknown_fields=True):
    """As `Scope`; a part that does not exist is told, not dropped."""


class WishedMultipliers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As `Multipliers`, before anybody looked at the numbers."""

    margin: float = 1.0
    new_items: float = 1.0
    new_days: float = 14.0
    brands: dict[str, float] = {}


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A draft as it is written. Empty times: at once, and without an end."""

    name: str = ""
    owner: str = ""
    scope: WishedScope = WishedScope()
    starts: str = msgspec.field(default="", name="from")
    ends: str = msgspec.field(default="", name="to")
    zone: str = "UTC"
    accept_clock_change: bool = False
    priority: int = 100
    relevance: float | None = None
    ctr: float | None = None
    click: float | None = None
    order: float | None = None
    multipliers: WishedMultipliers = WishedMultipliers()


def wish(fields: Any) -> Wish:
    """Fields of a file or a request as a wish.

    Raises:
        InvalidRequest: an unknown field or a wrong type; it names the place.
    """
    return taken(fields, Wish)


def read_wish(file: Path) -> dict[str, Any]:
    """The fields of a YAML or JSON file; times stay as they are written.

    Raises:
        InvalidRequest: it cannot be read, is not a mapping, or names something twice.
    """
    try:
        fields = yaml.load(file.read_text("utf-8"), Loader=_Loader)
    except InvalidRequest:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: no UTF-8, a number of 5,000 digits
        bound = f"a file in YAML or JSON ({' '.join(str(error).split())})"
        raise InvalidRequest("--file", str(file), bound, "docs/campaigns.md shows one") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("--file", str(file), "a mapping of fields", "docs/campaigns.md shows one")
    return fields


class _Loader(yaml.SafeLoader):
    """YAML would read a time without quotes as one of its own, and lose what was written; and of a name that stands twice
    it would take the last.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                where = f"on lines {lines[name]} and {line} of the file"
                raise InvalidRequest(name, where, "named once", "leave one of them out")
            lines[name] = line
        return node


_Loader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def wish_of(body: Campaign) -> Wish:
    """A revision as a wish, to be changed and drafted again; its times with their offset."""
    starts, ends = (shown(at_ms, body.zone).replace(" ", "T") if at_ms else "" for at_ms in (body.starts_ms, body.ends_ms))
    kept = {name: getattr(body, name) for name in (*NAMES, "name", "owner", "zone", "priority")}
    scope, lean = (msgspec.structs.asdict(part) for part in (body.scope, body.multipliers))
    return Wish(**kept, scope=WishedScope(**scope), multipliers=WishedMultipliers(**lean), starts=starts, ends=ends)


def campaign(subject: str, wish: Wish, owner: str, now_ms: int) -> Campaign:
    """The campaign that is asked for: numbers within bounds, queries normalised, times read. Revision 0: not drafted yet.

    Raises:
        InvalidWeight, InvalidTime, EndsBeforeStart, EndsInPast, UnknownZone, EmptyScope, InvalidRequest: as they are named.
    """
    _check_numbers(wish)
    called, whose = (_called(f"the {what} of {subject}", getattr(wish, what)) for what in ("name", "owner"))
    for name in (*wish.scope.segments, *wish.scope.markets):  # the other names are those of the catalogue, or words
        readable("scope", name)
    starts_ms, ends_ms = period(wish.starts, wish.ends, wish.zone, now_ms, wish.accept_clock_change)
    scope = Scope(**_unique(msgspec.structs.asdict(wish.scope), wish.scope.queries))
    asked = {
        "id": subject, "revision": 0, "name": called or subject, "owner": whose or owner, "scope": scope,
        "starts_ms": starts_ms, "ends_ms": ends_ms, "zone": wish.zone, "priority": wish.priority,
        "multipliers": Multipliers(**msgspec.structs.asdict(wish.multipliers)),
    }  # fmt: skip
    found = taken(msgspec.to_builtins(asked) | {name: getattr(wish, name) for name in NAMES}, Campaign)
    return _defaults(found) if subject == DEFAULTS else _own(found)


def _called(what: str, text: str) -> str:
    """Nothing at all is a wish for what it is called without one; blanks are none."""
    if text and not text.strip():
        raise InvalidRequest(what, text, "more than blanks", "write it, or leave it out")
    return readable(what, text)


def _defaults(found: Campaign) -> Campaign:
    """The defaults lie under every campaign, everywhere."""
    if found.scope != Scope() or found.multipliers != Multipliers():
        bound, remedy = "without scope and multipliers", "draft a campaign for them"
        raise InvalidRequest("the draft of the defaults", found.scope or found.multipliers, bound, remedy)
    if all(getattr(found, name) is None for name in NAMES):
        raise InvalidRequest("changes", {}, f"at least one of {', '.join(NAMES)}", "name a weight and its value")
    return msgspec.structs.replace(found, name=DEFAULTS, owner=DEFAULTS, priority=0)


def _own(found: Campaign) -> Campaign:
    factors = (found.multipliers.margin, found.multipliers.new_items, *found.multipliers.brands.values())
    if all(getattr(found, name) is None for name in NAMES) and all(factor == 1 for factor in factors):
        raise InvalidRequest(f"campaign {found.id}", "nothing", "at least one weight or multiplier", "set one")
    return found


def _unique(scope: dict[str, tuple[str, ...]], queries: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Each name once, queries as the server compares them."""
    for query in queries:
        if not normalise(query):
            raise EmptyScope("scope queries", query, "queries with at least one word", "take it out")
    scope = scope | {"queries": tuple(map(normalise, queries))}
    return {name: tuple(dict.fromkeys(values)) for name, values in scope.items()}


def _check_numbers(wish: Wish) -> None:
    for name in NAMES:
        value = getattr(wish, name)
        if value is not None:
            _bounded(f"weight {name}", value, WEIGHT)
    lean = wish.multipliers
    _bounded("multiplier margin", lean.margin, FACTOR)
    _bounded("multiplier new_items", lean.new_items, FACTOR)
    for brand, factor in lean.brands.items():
        _bounded(f"multiplier of brand {brand}", factor, FACTOR)
    if not math.isfinite(lean.new_days) or not 0 < lean.new_days <= 365:
        raise InvalidWeight("new_days", lean.new_days, "more than 0 and at most 365 days", "choose one in between")


def _bounded(what: str, value: float, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not math.isfinite(value) or not low <= value <= high:
        raise InvalidWeight(what, value, f"a number from {low:g} to {high:g}", "choose one in between")
