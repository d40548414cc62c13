"""The work behind `headrace identifiers assign`: new, retitled and removed items get and give up their identifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.adapters.tables import ITEM_ID, is_item_id
from headrace.identifier_place import Place, alone, in_force, record
from headrace.identifier_work import embed, encoder_of, open_life
from headrace.relevance_work import Tell
from schemas.codec import UNREADABLE
from schemas.descriptions import Description, rounded
from schemas.errors import InvalidRequest, InvalidValue
from schemas.events import ItemAdded
from serving.requests import ID_LIMIT, TIME_LIMIT
from trainers.identifiers.life import Life

#: Longest title of a change, characters: a record has to fit into the topic.
TITLE_LIMIT: Final = 10_000
#: Longest category or brand, and highest price, of `schemas.events.ItemAdded`; the lowest is far above the least float32.
FACT_LIMIT: Final = 1_000
LEAST_PRICE, PRICE_LIMIT = 1e-6, 1e9
#: What a change may say.
BOUND: Final = "an item with a title, category, brand or price, or removed"
DAY_MS: Final = 86_400_000


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a file of changes: an item that is new or described otherwise, or one that is gone. What is left out stays as it is."""

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


def read_changes(path: Path) -> list[Change]:
    """The changes in a file of JSON lines; empty lines say nothing.

    Raises:
        InvalidRequest: names the first line that is no change.
    """
    decoder, found = msgspec.json.Decoder(Change), []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            try:
                found.append(decoder.decode(line))
            except UNREADABLE as error:
                raise InvalidRequest(f"line {number} of {path}", str(error), f"JSON, {BOUND}", "correct it") from error
    return found


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
        InvalidRequest: a change says nothing of its item, or describes and removes it, or could not be published; the run uses another version.
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
        titles = list(dict.fromkeys(change.title for change in changes if change.title))
        emb = dict(zip(titles, embed(encoder_of(place.settings), titles, tell), strict=True))
        found = [_made(life, change, emb, ts) for change in changes]
        records = [one for one in found if one is not None]
        return Given(version, records, len(changes) - len(records), record(place, version, records))


def _made(life: Life, change: Change, emb: Mapping[str, NDArray[np.float32]], ts: int) -> ItemAdded | None:
    """The record of a change; ``emb``: of titles. None: nothing changes.

    Raises:
        InvalidRequest: an item that is not there has no title, or no identifier is free for it.
    """
    if change.removed:
        return life.remove(change.item, ts)
    if not change.title and not life.sid_of(change.item):
        raise InvalidRequest("item", change.item, "one that has an identifier, or a title for it", "say its title")
    title = change.title or life.title_of(change.item)
    try:
        return life.put(change.item, change.described._replace(title=title), emb.get(title), ts)
    except InvalidValue as error:
        raise InvalidRequest(
            f"item {change.item}", title, f"one with a free identifier: {error}", "rebuild, or give it another title"
        ) from error


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
    says = bool(title or change.category or change.brand or change.price)
    if not item:
        raise InvalidRequest(f"item of {what}", item, ITEM_ID, "name the item")
    if says and change.removed:
        raise InvalidRequest(what, f"item {item} removed and described", BOUND, "say one of the two")
    if not says and not change.removed:
        raise InvalidRequest(what, f"item {item} alone", BOUND, "say what has changed of it")
    if len(item) > ID_LIMIT or not (change.removed or is_item_id(item)):
        raise InvalidRequest(f"item of {what}", item, ITEM_ID, "give it another id")
    if title and not title.strip():
        raise InvalidRequest(f"title of {what}", title, "a text that is not only space", "give it a title")
    if len(title) > TITLE_LIMIT:
        value, bound = f"{len(title)} characters", f"at most {TITLE_LIMIT} characters"
        raise InvalidRequest(f"title of {what}", value, bound, "give it a shorter one")
    for name, fact in (("category", change.category), ("brand", change.brand)):
        if len(fact) > FACT_LIMIT:
            bound = f"at most {FACT_LIMIT} characters"
            raise InvalidRequest(f"{name} of {what}", f"{len(fact)} characters", bound, "give it a shorter one")
        if fact != fact.strip() or not fact.isprintable():
            bound = "a name without space around it and without control characters"
            raise InvalidRequest(f"{name} of {what}", fact, bound, "correct it: filters and campaigns go by the whole name")
    if not (change.price == 0 or LEAST_PRICE <= change.price <= PRICE_LIMIT):
        bound = f"{LEAST_PRICE:g} to {PRICE_LIMIT:g}"
        raise InvalidRequest(f"price of {what}", change.price, bound, "leave it out if it is not known")
