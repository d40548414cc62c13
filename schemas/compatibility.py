"""Whether today's schema of a topic may follow the released one: producers and readers of both run at the same time.

docs/schemas.md has the rules as a table. Under the same version either side must go on as it is; under a version raised
by one, today's reader still takes the released records. Readers are deployed before writers, so that what widens is safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from schemas.comparison import Change, Node, Rule, Schema, changes, tag


class Standing(NamedTuple):
    """How a kind of change is met: ``same``, ``raised``: whether it breaks under the same version, under the next one."""

    same: bool
    raised: bool
    remedy: str


_NEVER: Final = "put it back; what differs this much is a new field beside the old one"
_RAISE: Final = "put it back, or raise the default of the record's `v` by one"

STANDINGS: Final[dict[Rule, Standing]] = {
    Rule.FIELD_REQUIRED: Standing(True, True, "give the field a default: records of the released version lack it"),
    Rule.FIELD_REMOVED: Standing(True, False, _RAISE),
    Rule.FIELD_MOVED: Standing(True, True, "put new fields at the end: this record travels as an array"),
    Rule.FIELD_ADDED: Standing(False, False, ""),
    Rule.FIELD_OPTIONAL: Standing(False, False, ""),
    Rule.DEFAULT_CHANGED: Standing(
        True, True, "put it back: released records that lack the field mean the released default"
    ),
    Rule.TYPE_CHANGED: Standing(True, True, _NEVER),
    Rule.TYPE_NARROWED: Standing(True, True, _NEVER),
    Rule.TYPE_WIDENED: Standing(True, False, _RAISE),
    Rule.BOUND_NARROWED: Standing(True, True, "widen the bound again, and check the narrower one where the field is used"),
    Rule.BOUND_WIDENED: Standing(False, False, ""),
    Rule.ENUM_REMOVED: Standing(True, True, "keep the value: released records carry it"),
    Rule.ENUM_ADDED: Standing(False, False, ""),
    Rule.TAG_CHANGED: Standing(True, True, "keep the tag; another tag is another record beside this one"),
    Rule.RECORD_REMOVED: Standing(True, True, "keep the record in the topic as long as the topic holds any"),
    Rule.RECORD_ADDED: Standing(False, False, ""),
    Rule.VERSION_SKIPPED: Standing(True, True, "set the record's `v` to the released version, or to the one after it"),
}


class Difference(msgspec.Struct, frozen=True):
    """One change of a topic's record since its release. ``raised``: the record's version was raised by one."""

    topic: str
    record: str  #: the struct
    field: str  #: ``items[].position``; empty: the record itself
    rule: Rule
    was: str
    now: str
    raised: bool = False

    @property
    def breaking(self) -> bool:
        """Whether a producer or a reader of the released version would fail."""
        standing = STANDINGS[self.rule]
        return standing.raised if self.raised else standing.same

    @property
    def said(self) -> str:
        """Record, field, what was and what is."""
        place = self.record + (f".{self.field}" if self.field else "")
        return f"{place}: {self.rule}: was {self.was}, is {self.now}"

    def __str__(self) -> str:
        told = f"{self.topic}: {self.said}"
        return f"{told}; {STANDINGS[self.rule].remedy}" if self.breaking else told


def differences(old: Schema, new: Schema) -> list[Difference]:
    """Changes from one document of a topic (`schemas.documents.topic_document`) to another, record by record."""
    before, after = _records(old), _records(new)
    found: list[Difference] = []
    for record in before:
        other = next((one for one in after if one.tag == record.tag), None)
        other = other or next((one for one in after if one.name == record.name), None)
        if other is None:
            found.append(Difference(old["title"], record.name, "", Rule.RECORD_REMOVED, "in the topic", "gone"))
            continue
        after.remove(other)
        raised = other.version == record.version + 1
        told = list(changes(record.node, other.node))
        if not raised and other.version != record.version:
            told.append(Change("v", Rule.VERSION_SKIPPED, str(record.version), str(other.version)))
        found += [Difference(old["title"], other.name, *change, raised=raised) for change in told]
    found += [Difference(old["title"], one.name, "", Rule.RECORD_ADDED, "not there", "in the topic") for one in after]
    return found


def all_differences(released: Mapping[str, Schema], today: Mapping[str, Schema]) -> list[Difference]:
    """`differences` of every released topic; one that is no longer there has lost all its records."""
    return [
        one
        for name, old in sorted(released.items())
        for one in differences(old, today.get(name, {"title": name, "oneOf": [], "$defs": {}}))
    ]


class _Record(NamedTuple):
    name: str
    tag: Any
    version: int
    node: Node


def _records(document: Schema) -> list[_Record]:
    records = []
    for entry in document["oneOf"]:
        reference, rule = entry["allOf"]
        node = Node(reference, document["$defs"])
        schema = node.resolved().schema
        records.append(_Record(schema["title"], tag(schema), rule["properties"]["v"]["maximum"], node))
    return records
