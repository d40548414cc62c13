"""What changed between two JSON Schemas of a record, as codes. Whether a change is allowed is said in `schemas.compatibility`.

Written for the schemas that msgspec makes. A keyword that it does not know counts as a changed type, so that nothing
passes unseen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

Schema = dict[str, Any]


class Rule(StrEnum):
    """A kind of change. *Narrowed*: something that was taken is refused now; *widened*: the other way round."""

    FIELD_REQUIRED = "field required"  #: a required field was added, or one lost its default
    FIELD_REMOVED = "field removed"
    FIELD_MOVED = "field moved"  #: in a record that travels as an array, where the place is the name
    FIELD_ADDED = "field added"  #: with a default
    FIELD_OPTIONAL = "field optional"  #: a required field got a default
    DEFAULT_CHANGED = "default changed"
    TYPE_CHANGED = "type changed"
    TYPE_NARROWED = "type narrowed"
    TYPE_WIDENED = "type widened"
    BOUND_NARROWED = "bound narrowed"
    BOUND_WIDENED = "bound widened"
    ENUM_REMOVED = "enum value removed"
    ENUM_ADDED = "enum value added"
    TAG_CHANGED = "tag changed"
    RECORD_REMOVED = "record removed"
    RECORD_ADDED = "record added"
    VERSION_SKIPPED = "version skipped"  #: not the released one, nor the one after it


class Change(NamedTuple):
    """One change at a field (``items[].position``; empty: the record itself)."""

    field: str
    rule: Rule
    was: str
    now: str


@dataclass(frozen=True)
class Node:
    """A schema with the definitions that its references mean."""

    schema: Schema
    definitions: dict[str, Schema] = field(repr=False)
    name: str = ""  #: of the definition that it was resolved from

    def resolved(self) -> Node:
        """The schema itself in place of a reference; what stands beside the reference stays."""
        if "$ref" not in self.schema:
            return self
        beside = {key: value for key, value in self.schema.items() if key != "$ref"}
        target = self.definitions[self.schema["$ref"].rpartition("/")[2]]
        return Node(target | beside, self.definitions, self.schema["$ref"]).resolved()

    def at(self, schema: Schema) -> Node:
        """Another schema under the same definitions."""
        return Node(schema, self.definitions)


def changes(old: Node, new: Node, path: str = "", seen: frozenset[tuple[str, str]] = frozenset()) -> Iterator[Change]:
    """Every change from ``old`` to ``new``, in the order of the fields."""
    before, after = _alternatives(old), _alternatives(new)
    if len(before) == len(after) == 1:
        yield from _plain(before[0], after[0], path, seen)
        return
    unmatched = list(after)
    for one in before:
        match = next((other for other in unmatched if _identity(one.schema) == _identity(other.schema)), None)
        match = match or next((other for other in unmatched if _within(one.schema, other.schema)), None)
        if match is None:
            yield Change(path, Rule.TYPE_NARROWED, f"takes {_said(one.schema)}", f"does not take {_said(one.schema)}")
        else:
            unmatched.remove(match)
            yield from _plain(one, match, path, seen)
    for other in unmatched:
        yield Change(path, Rule.TYPE_WIDENED, f"does not take {_said(other.schema)}", f"takes {_said(other.schema)}")


def tag(schema: Schema) -> tuple[str, object] | None:
    """(field, value) of what tells a record from others: a required field of one value."""
    for name, inner in schema.get("properties", {}).items():
        if len(inner.get("enum", ())) == 1 and name in schema.get("required", ()):
            return name, inner["enum"][0]
    return None


def _alternatives(node: Node) -> list[Node]:
    node = node.resolved()
    if "anyOf" not in node.schema:
        return [node]
    return [one for inner in node.schema["anyOf"] for one in _alternatives(node.at(inner))]


def _kind(schema: Schema) -> str:
    if "enum" in schema:
        return "enum"
    if "properties" in schema:
        return "record"
    if "prefixItems" in schema:
        return "tuple"
    kind = str(schema.get("type", "any")).replace("object", "map")
    return " ".join([kind, *(schema[key] for key in ("format", "contentEncoding") if key in schema)])


def _identity(schema: Schema) -> tuple[str, object]:
    return _kind(schema), tag(schema)


def _said(schema: Schema) -> str:
    return str(schema.get("title", _kind(schema)))


_PYTHON: Final[dict[str, tuple[type, ...]]] = {"string": (str,), "integer": (int,), "number": (int, float)}


def _within(old: Schema, new: Schema) -> bool:
    """Whether everything of the old kind is of the new kind."""
    if _kind(new) == "any" or (_kind(old), _kind(new)) == ("integer", "number"):
        return True
    return _kind(old) == "enum" and all(isinstance(value, _PYTHON.get(_kind(new), ())) for value in old["enum"])


def _plain(old: Node, new: Node, path: str, seen: frozenset[tuple[str, str]]) -> Iterator[Change]:
    """Two schemas without alternatives."""
    pair = (old.name, new.name)
    if all(pair):
        if pair in seen:  # a record that holds itself
            return
        seen |= {pair}
    kind, now = _kind(old.schema), _kind(new.schema)
    if kind != now:
        rule = (
            Rule.TYPE_WIDENED
            if _within(old.schema, new.schema)
            else Rule.TYPE_NARROWED
            if _within(new.schema, old.schema)
            else Rule.TYPE_CHANGED
        )
        yield Change(path, rule, _said(old.schema), _said(new.schema))
        if rule is Rule.TYPE_WIDENED and now != "any":  # a wider type may still have a narrower bound
            yield from _bounds({} if kind == "enum" else old.schema, new.schema, path)
        return
    yield from _bounds(old.schema, new.schema, path)
    if kind == "enum":
        yield from _enums(old.schema["enum"], new.schema["enum"], path)
    elif kind == "record":
        yield from _fields(old, new, path, seen)
    elif kind == "tuple":
        yield from _places(old, new, path, seen)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}"), ("propertyNames", "{key}")):
        inner, other = old.schema.get(key), new.schema.get(key)
        if kind != "record" and isinstance(inner or other, dict):
            yield from changes(old.at(inner or {}), new.at(other or {}), path + mark, seen)


def _enums(old: list[object], new: list[object], path: str) -> Iterator[Change]:
    for value in (value for value in old if value not in new):
        yield Change(path, Rule.ENUM_REMOVED, repr(value), "gone")
    for value in (value for value in new if value not in old):
        yield Change(path, Rule.ENUM_ADDED, "not there", repr(value))


def _fields(old: Node, new: Node, path: str, seen: frozenset[tuple[str, str]]) -> Iterator[Change]:
    before, after = old.schema["properties"], new.schema["properties"]
    tags = tag(old.schema), tag(new.schema)
    told = ""
    if tags[0] and tags[1] and tags[0][0] == tags[1][0] and tags[0] != tags[1]:
        told, was, now = *tags[0], tags[1][1]
        yield Change(_join(path, told), Rule.TAG_CHANGED, repr(was), repr(now))
    for name in (name for name in before if name != told):
        required = name in old.schema["required"], name in new.schema["required"]
        yield from _field(
            old.at(before[name]), new.at(after[name]) if name in after else None, required, _join(path, name), seen
        )
    for name in (name for name in after if name not in before):
        yield _added(after[name], name in new.schema["required"], _join(path, name))


def _places(old: Node, new: Node, path: str, seen: frozenset[tuple[str, str]]) -> Iterator[Change]:
    before, after = old.schema["prefixItems"], new.schema["prefixItems"]
    least = old.schema.get("minItems", 0), new.schema.get("minItems", 0)
    for place, inner in enumerate(before):
        name = _join(path, inner.get("title", str(place)))
        other = after[place] if place < len(after) else None
        if other is not None and other.get("title") != inner.get("title"):
            yield Change(name, Rule.FIELD_MOVED, f"place {place}", f"{other.get('title', 'another field')} is there")
            return
        required = place < least[0], place < least[1]
        yield from _field(old.at(inner), None if other is None else new.at(other), required, name, seen)
    for place, other in list(enumerate(after))[len(before) :]:
        yield _added(other, place < least[1], _join(path, other.get("title", str(place))))


def _field(
    old: Node, new: Node | None, required: tuple[bool, bool], path: str, seen: frozenset[tuple[str, str]]
) -> Iterator[Change]:
    if new is None:
        yield Change(path, Rule.FIELD_REMOVED, "required" if required[0] else _default(old.schema), "gone")
        return
    if required[0] != required[1]:
        rule = Rule.FIELD_REQUIRED if required[1] else Rule.FIELD_OPTIONAL
        said = ["required" if need else _default(node.schema) for need, node in zip(required, (old, new), strict=True)]
        yield Change(path, rule, *said)
    elif _default(old.schema) != _default(new.schema):
        yield Change(path, Rule.DEFAULT_CHANGED, _default(old.schema), _default(new.schema))
    yield from changes(old, new, path, seen)


def _added(schema: Schema, required: bool, path: str) -> Change:
    if required:
        return Change(path, Rule.FIELD_REQUIRED, "not there", "required")
    return Change(path, Rule.FIELD_ADDED, "not there", _default(schema))


def _default(schema: Schema) -> str:
    return f"default {schema['default']!r}" if "default" in schema else "a default made anew each time"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


#: Keywords that say nothing of what is taken, or that are compared above.
_ELSEWHERE: Final = {
    "title", "description", "examples", "default", "discriminator", "type", "enum", "format", "contentEncoding",
    "properties", "required", "prefixItems", "items", "additionalProperties", "propertyNames",
}  # fmt: skip
_SIZES: Final = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_EXCLUSIVE: Final = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
_LOOSE: Final = (-math.inf, 0)


def _bounds(old: Schema, new: Schema, path: str) -> Iterator[Change]:
    before, after = _strictness(old), _strictness(new)
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key, _LOOSE), after.get(key, _LOOSE)
        if was != now:
            rule = Rule.BOUND_NARROWED if now > was else Rule.BOUND_WIDENED
            yield Change(path, rule, _bound_said(old, key), _bound_said(new, key))
    for key in ("pattern", "multipleOf"):  # of two of them none says whether it is the narrower
        if old.get(key) != new.get(key):
            rule = Rule.BOUND_NARROWED if key in new else Rule.BOUND_WIDENED
            yield Change(path, rule, _bound_said(old, key), _bound_said(new, key))
    known = {*_ELSEWHERE, *_SIZES, *_EXCLUSIVE, *_EXCLUSIVE.values(), "uniqueItems", "pattern", "multipleOf"}
    for key in sorted((old.keys() | new.keys()) - known):
        if old.get(key) != new.get(key):
            yield Change(path, Rule.TYPE_CHANGED, _bound_said(old, key), _bound_said(new, key))


def _strictness(schema: Schema) -> dict[str, tuple[float, int]]:
    """Each bound as a number that grows as the bound narrows; (x, 1) is just inside (x, 0)."""
    bounds: dict[str, tuple[float, int]] = {}
    for key, sign in (("minimum", 1), ("maximum", -1)):
        if key in schema:
            bounds[key] = (sign * schema[key], 0)
        if (exclusive := _EXCLUSIVE[key]) in schema:
            whole = schema.get("type") == "integer"
            bounds[key] = (sign * schema[exclusive] + 1, 0) if whole else (sign * schema[exclusive], 1)
    for key in _SIZES:
        if key == "minItems" and "prefixItems" in schema:
            continue  # how many places are required: compared place by place
        if key in schema and (key.startswith("max") or schema[key]):
            bounds[key] = (-schema[key] if key.startswith("max") else schema[key], 0)
    if schema.get("additionalProperties") is False:
        bounds["additionalProperties"] = (1, 0)
    if schema.get("uniqueItems"):
        bounds["uniqueItems"] = (1, 0)
    return bounds


def _bound_said(schema: Schema, key: str) -> str:
    name = next((name for name in (key, _EXCLUSIVE.get(key, key)) if name in schema), None)
    return f"{name} {schema[name]}" if name else f"no {key}"
