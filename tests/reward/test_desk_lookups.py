"""What is asked for by a name that no text can be (bytes that are no UTF-8, control characters) is refused before the database is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reward.desk.desk import Desk
from schemas.errors import InvalidRequest
from tests.reward.desk_toys import AtDesk

ASKED: dict[str, Callable[[Desk, str], Any]] = {
    "drafted": lambda desk, name: desk.drafted(name),
    "audit of an id": lambda desk, name: desk.audit(subjects=[name]),
    "audit of a person": lambda desk, name: desk.audit(who=name),
    "audit of an action": lambda desk, name: desk.audit(action=name),
}


@pytest.mark.parametrize("name", ["\udcff", "sale\x1b[31m"])
@pytest.mark.parametrize("asked", ASKED)
def test_a_name_that_is_no_text(at_desk: AtDesk, asked: str, name: str) -> None:
    with pytest.raises(InvalidRequest, match="text that can be read"):
        ASKED[asked](at_desk(), name)
