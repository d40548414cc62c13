"""Whether a campaign reaches anything: its names against the catalogue and the shop's lists."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from reward.campaigns.facts import ItemFacts
from reward.settings import DeskSettings
from schemas.campaigns import Campaign
from schemas.errors import EmptyScope, NoMargins


def check_scope(campaign: Campaign, facts: ItemFacts, settings: DeskSettings) -> None:
    """Refuse what matches nothing.

    Raises:
        EmptyScope: names that are not there, with the nearest that are; or categories and brands that do not meet.
        NoMargins: a margin multiplier over a catalogue without margins.
    """
    scope, lean = campaign.scope, campaign.multipliers
    _known("scope categories", scope.categories, facts.categories, "categories of the catalogue")
    _known("scope brands", scope.brands, facts.brands, "brands of the catalogue")
    _known("multipliers of brands", lean.brands, facts.brands, "brands of the catalogue")
    if settings.segments:
        _known("scope segments", scope.segments, settings.segments, "of the setting reward.desk.segments")
    if settings.markets:
        _known("scope markets", scope.markets, settings.markets, "of the setting reward.desk.markets")
    if not facts.among(scope.categories, scope.brands).any():
        value = f"{', '.join(scope.categories)} by {', '.join(scope.brands)}"
        raise EmptyScope("the scope", value, "met by at least one item", "no item of these categories has these brands")
    for brand in lean.brands:
        if not facts.among(scope.categories, _both(scope.brands, brand)).any():
            raise EmptyScope("multipliers of brands", brand, "a brand with items in the scope", "take it out")
    if lean.margin != 1 and not facts.margin_N.any():
        bound = "1 when the catalogue has no margins"
        raise NoMargins("multiplier margin", lean.margin, bound, "give the catalogue a column `margin`, or leave it out")


def _both(brands: tuple[str, ...], brand: str) -> tuple[str, ...]:
    """The brand, if the scope lets it in; else nobody's."""
    return (brand,) if not brands or brand in brands else ("",)


def _known(what: str, names: Iterable[str], known: Iterable[str], bound: str) -> None:
    there = set(known)
    unknown = [name for name in names if name not in there]
    if not unknown:
        return
    folded = {name.casefold(): name for name in there}
    near = {
        name: [folded[found] for found in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
        for name in unknown
    }
    told = "; ".join(f"nearest to {name}: {', '.join(found)}" for name, found in near.items() if found)
    raise EmptyScope(what, ", ".join(unknown), bound, told or "nothing is near: look at the catalogue")
