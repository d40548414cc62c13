"""Records to compare, made from fields, and the kinds of fields that the tests of compatibility share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.compatibility import Difference, differences
from schemas.documents import Document, topic_document
from schemas.topics import Topic

Field = tuple[Any, ...]


def record(*fields: Field, v: int = 1, tag: str = "r", name: str = "R") -> Any:
    return msgspec.defstruct(name, [*fields, ("v", int, v)], tag_field="type", tag=tag, kw_only=True)


def document(kind: Any) -> Document:
    return topic_document(Topic("t", "user", kind))


def told(old: Any, new: Any) -> list[Difference]:
    return differences(document(old), document(new))


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Place(msgspec.Struct):
    x: int
    y: int = 0


class WiderPlace(msgspec.Struct):
    x: int
    y: int = 0
    z: int = 0


class Pair(msgspec.Struct, array_like=True):
    a: int
    b: int


class LongerPair(msgspec.Struct, array_like=True):
    a: int
    b: int
    c: int = 0


class LongPair(msgspec.Struct, array_like=True):
    a: int
    b: int
    c: int


class TurnedPair(msgspec.Struct, array_like=True):
    b: int
    a: int


class Tree(msgspec.Struct):
    label: Annotated[str, Meta(max_length=9)]
    branches: list[Tree] = []


class LowTree(msgspec.Struct):
    label: Annotated[str, Meta(max_length=5)]
    branches: list[LowTree] = []
