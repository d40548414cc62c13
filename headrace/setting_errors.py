"""What pydantic finds wrong with a setting, in our words: its name and variable, the value, the bound, what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from headrace.bounds import bound_of
from schemas.errors import InvalidSetting
from schemas.security import SECRETS

#: Fields of the addresses, which may hold a password.
_ADDRESSES = ("redis", "database", "store")
_SECTIONS = ("kafka_security", "redis_security", "database_security")


def invalid_setting(
    first: ErrorDetails, settings: type[BaseModel], prefix: str, file: str, changes: Mapping[str, Any]
) -> InvalidSetting:
    """The error about the first setting that is wrong. ``prefix`` begins the variables, ``file`` is the settings file or empty,
    ``changes`` come from neither: a command has them from its options."""
    if isinstance(own := first.get("ctx", {}).get("error"), InvalidSetting):
        return own
    section, field, path = _find(settings, first["loc"] or ("",))
    what, remedy = f"setting {'.'.join(path)}", _remedy(path, prefix, file, changes)
    if first["type"] == "extra_forbidden":
        near = get_close_matches(path[-1], section.model_fields, 1)
        bound = f"one of {', '.join(section.model_fields)}"
        meant = f"did you mean {near[0]}? " if near else ""
        return InvalidSetting(f"the name of {what}", path[-1], bound, f"{meant}{remedy}")
    shown = "not shown" if _may_be_secret(path) else first.get("input")
    return InvalidSetting(what, shown, _bound(field, first), remedy)


def _find(settings: type[BaseModel], places: Sequence[int | str]) -> tuple[type[BaseModel], FieldInfo | None, list[str]]:
    """The section and the field that an error is about, and the names that lead there."""
    section, field, path = settings, None, list[str]()
    for place in places:
        path.append(str(place))
        if field is not None:
            kind = field.annotation
            if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
                break  # a place inside the value
            section = kind
        field = section.model_fields.get(str(place))
        if field is None:
            break
    return section, field, path


def _bound(field: FieldInfo | None, first: ErrorDetails) -> str:
    """Of the field where it has a plain one; what pydantic says of a place inside a list, or a check of our own."""
    said = re.sub(r"^(Input should be|Value error,|Assertion failed,) ", "", first["msg"])
    if field is None or first["type"] in ("value_error", "assertion_error"):
        return said
    limits = {name: getattr(one, name) for one in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(one, name)}
    shortest = next((one.min_length for one in field.metadata if hasattr(one, "min_length")), 0)
    bound = bound_of(field.annotation, **limits, shortest=shortest) or said
    return f"{bound} ({field.description})" if field.description else bound


def _remedy(path: Sequence[str], prefix: str, file: str, changes: Mapping[str, Any]) -> str:
    """Where the value stands: an option of the command, the variable that is set, its own or one that holds a section, or else the
    file."""
    if _holds(changes, path):
        return "correct what the command was given"
    names = {name.upper(): name for name in os.environ}
    variables = [f"{prefix}{'__'.join(path[:n])}".upper() for n in range(len(path), 0, -1)]
    given = next((names[variable] for variable in variables if variable in names), "")
    if given:
        return f"correct {given}"
    return f"correct it in {file} (or set {variables[0]})" if file else f"set {variables[0]}"


def _holds(changes: Any, path: Sequence[str]) -> bool:
    return not path or (isinstance(changes, Mapping) and path[0] in changes and _holds(changes[path[0]], path[1:]))


def _may_be_secret(path: Sequence[Any]) -> bool:
    return path[0] in _ADDRESSES or (path[0] in _SECTIONS and (len(path) == 1 or path[-1] in SECRETS))
