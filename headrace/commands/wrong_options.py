"""Options that break a bound are refused in the words of the settings: value, bound, remedy."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from headrace.bounds import bound_of
from schemas.errors import short


class Commands(TyperGroup):
    """All commands; Typer would hand on what pydantic says of an option."""

    def invoke(self, ctx: Any) -> Any:
        """See `typer.core.TyperGroup.invoke`."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                error.message = _in_our_words(error.param, error.__cause__)
            raise


def _in_our_words(param: Any, error: ValidationError) -> str:
    kind, help_text = param.type_descriptor.annotation, (param.help or "").rstrip(".")
    first = error.errors()[0]
    bound = bound_of(kind, ge=param.min, le=param.max) or first["msg"].removeprefix("Value error, ")
    return f"it is {short(first['input'])}, but must be {bound} ({help_text}); name another value"
