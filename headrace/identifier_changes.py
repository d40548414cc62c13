"""The work behind `headrace identifiers assign`: new, retitled and removed items get and give up their identifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from headrace.adapters.tables import ITEM_ID, is_item_id
from headrace.identifier_place import Place, alone, in_force, record
from headrace.identifier_work import embed, encoder_of, open_life
from headrace.relevance_work import Tell
from schemas.descriptions import Description, rounded
from schemas.errors import InvalidRequest
from schemas.events import ItemAdded
from serving.requests import ID_LIMIT, TIME_LIMIT

#: Longest title of a change, characters: a record has to fit into the topic.
TITLE_LIMIT: Final = 10_000
#: Longest category or brand, and highest price, of `schemas.events.ItemAdded`.
FACT_LIMIT: Final = 1_000
PRICE_LIMIT: Final = 1e9
DAY_MS: Final = 86_400_000


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a file of changes: an item with its title, or one that is gone. Facts that are left out stay as they are."""

    item: str
    title: str = ""
    category: str = ""
    brand: str = ""
    price: float = 0.0  #: in the shop's currency
    removed: bool = False

    @property
    def described(self) -> Description:
        """What it says of the item."""
        return Description(self.title, self.category, self.brand, rounded(self.price))


class Given(msgspec.Struct, frozen=True):
    """What `headrace identifiers assign` did. ``unchanged``: items that were described so, or were not there to be removed."""

    version: str
    records: list[ItemAdded]
    unchanged: int
    published: str  #: topic or file


def assign(place: Place, version: str, changes: Sequence[Change], ts: int, now_ms: int, tell: Tell) -> Given:
    """Give new, retitled and removed items their identifiers and publish them: to the run's topic, else beside the version.

    Args:
        ts: event time of the changes, ms: a new item is shown from then on.
        now_ms: the present, which ``ts`` may be a day ahead of.

    Raises:
        InvalidRequest: a change names neither a title nor a removal, or both, or could not be published; the run uses another version.
        Conflict: another process of this machine gives identifiers here.
    """
    for number, change in enumerate(changes, start=1):
        _check(f"change {number}" if len(changes) > 1 else "change", change)
    latest = min(now_ms + DAY_MS, TIME_LIMIT)
    if not 0 <= ts <= latest:
        remedy = "give ms since 1970: an item is shown from then on, and no later change moves that"
        raise InvalidRequest("--at", ts, f"0 to {latest} ms, a day from now", remedy)
    if place.connections is not None and version != (used := in_force(place.store)):
        bound = f"{used or 'none yet'}, the one in force: no process of the run takes a record of another"
        raise InvalidRequest("--version", version, bound, "leave it out" if used else "headrace prepare puts one in force")
    with alone(place):
        life = open_life(place, version)
        titles = [change.title for change in changes if not change.removed]
        emb = iter(embed(encoder_of(place.settings), titles, tell))
        found = [
            life.remove(change.item, ts) if change.removed else life.put(change.item, change.described, next(emb), ts)
            for change in changes
        ]
        records = [one for one in found if one is not None]
        return Given(version, records, len(changes) - len(records), record(place, version, records))


def check_text(what: str, text: str) -> None:
    """What was typed in another encoding: nothing that keeps or embeds a text takes it.

    Raises:
        InvalidRequest: it is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(what, text, "valid UTF-8", "check the encoding of your terminal") from error


def _check(what: str, change: Change) -> None:
    """Hold a change against what a record may carry: one that readers refuse would keep every later change from being made."""
    item, title = change.item, change.title
    check_text(what, f"{item} {title} {change.category} {change.brand}")
    facts = change.category or change.brand or change.price
    if not item or bool(title) == change.removed or (change.removed and facts):
        raise InvalidRequest(what, msgspec.json.encode(change).decode(), "an item with a title, or removed", "correct it")
    if len(item) > ID_LIMIT or not (change.removed or is_item_id(item)):
        raise InvalidRequest(f"item of {what}", item, ITEM_ID, "give it another id")
    if not change.removed and not title.strip():
        raise InvalidRequest(f"title of {what}", title, "a text that is not only space", "give it a title")
    if len(title) > TITLE_LIMIT:
        value, bound = f"{len(title)} characters", f"at most {TITLE_LIMIT} characters"
        raise InvalidRequest(f"title of {what}", value, bound, "give it a shorter one")
    for name, fact in (("category", change.category), ("brand", change.brand)):
        if len(fact) > FACT_LIMIT:
            bound = f"at most {FACT_LIMIT} characters"
            raise InvalidRequest(f"{name} of {what}", f"{len(fact)} characters", bound, "give it a shorter one")
    if not 0 <= change.price <= PRICE_LIMIT:
        raise InvalidRequest(f"price of {what}", change.price, f"0 to {PRICE_LIMIT:g}", "leave it out if it is not known")
