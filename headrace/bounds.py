"""What a value must be, in words: the same for a setting and for an option of a command."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

#: The kinds of values, as people call them.
_KINDS: dict[Any, str] = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}


def bound_of(kind: Any, ge: Any = None, gt: Any = None, le: Any = None, lt: Any = None, shortest: int = 0) -> str:
    """Of a type and its limits: "an integer from 0 to 10,000", "one of tpma, grpo, sft". Empty: it is none of the plain ones."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(str(choice) or 'nothing' for choice in get_args(kind))}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(choice.value) for choice in kind)}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"a section with the fields {', '.join(kind.model_fields)}"
    if kind not in _KINDS:
        return ""
    words = _KINDS[kind]
    low = f"of at least {_number(ge)}" if ge is not None else f"above {_number(gt)}" if gt is not None else ""
    high = f"at most {_number(le)}" if le is not None else f"below {_number(lt)}" if lt is not None else ""
    if ge is not None and le is not None:
        return f"{words} from {_number(ge)} to {_number(le)}"
    length = f"of at least {shortest} character{'s' * (shortest > 1)}" if shortest else ""
    return " ".join(filter(None, (words, " and ".join(filter(None, (low, high))), length)))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
