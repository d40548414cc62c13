"""From plain data, as a file or a request has it, to a struct; what does not fit is named with its place and its own value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from schemas.errors import InvalidRequest, InvalidWeight

T = TypeVar("T")

#: What msgspec says of a field that is too many, and of one that is missing; and the steps of its paths.
_FIELD: Final = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
#: What it says of an integer that no float holds.
_TOO_LARGE: Final = "Number out of range"
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_SOMEWHERE: Final = "..."


def taken(fields: Any, kind: type[T]) -> T:
    """Plain data as a struct.

    Raises:
        InvalidRequest: an unknown or a missing field, a wrong type, a broken bound; with the place and what stands there.
    """
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        said, _, path = str(error).partition(" - at ")
        raise _refusal(fields, kind, said, path.strip("`")) from error


def _refusal(fields: Any, kind: Any, said: str, path: str) -> InvalidRequest:
    """What msgspec said, with the value of that place alone."""
    steps = _steps(fields, kind, path)
    value = _at(fields, steps)
    if said == _TOO_LARGE:
        return InvalidWeight(_name(steps), value, "a finite number", "choose one within its bounds")
    if (field := _FIELD.match(said)) is None:
        return InvalidRequest(_name(steps) or "the whole", value, f"of the documented form: {said}", "correct it")
    name, known = field[2], sorted(_fields(kind, steps))
    if field[1] == "missing required":
        return InvalidRequest(_name([*steps, name]), None, "given", "add it")
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else "leave it out"
    return InvalidRequest(_name([*steps, name]), value[name], f"one of the fields {', '.join(known)}", remedy)


def _steps(fields: Any, kind: Any, path: str) -> list[str | int]:
    """The way to the place. A path calls every entry of a mapping the same: the first that is refused by itself is meant."""
    steps: list[str | int] = []
    for name, index in _STEP.findall(path):
        if index != _SOMEWHERE:
            steps.append(int(index) if index else name)
            continue
        there = _at(fields, steps)
        steps += [key for key in there if _refused(_only(fields, steps, key), kind)][:1]
    return steps


def _refused(fields: Any, kind: Any) -> bool:
    try:
        msgspec.convert(fields, kind)
    except msgspec.ValidationError:
        return True
    return False


def _only(fields: Any, steps: list[str | int], key: str) -> Any:
    """``fields``, in which the mapping at ``steps`` has this one entry."""
    if not steps:
        return {key: fields[key]}
    step, *rest = steps
    copy: Any = dict(fields) if isinstance(fields, dict) else list(fields)
    copy[step] = _only(fields[step], rest, key)
    return copy


def _at(fields: Any, steps: list[str | int]) -> Any:
    for step in steps:
        fields = fields[step]
    return fields


def _name(steps: list[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _fields(kind: Any, steps: list[str | int]) -> set[str]:
    """Fields of the struct at a place."""
    here = [inspect.type_info(kind)]
    for step in steps:
        here = [inner for one in here for inner in _inner(one, step)]
    return {field.encode_name for one in here if isinstance(one, inspect.StructType) for field in one.fields}


def _inner(one: inspect.Type, step: str | int) -> Iterator[inspect.Type]:
    found = [field.type for field in one.fields if field.encode_name == step] if isinstance(one, inspect.StructType) else []
    for kind in found:
        yield from kind.types if isinstance(kind, inspect.UnionType) else (kind,)
