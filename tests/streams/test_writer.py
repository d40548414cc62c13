"""The writer tells who has taken its id, whichever call finds out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from schemas.connections import Connections
from schemas.errors import Conflict
from schemas.topics import COMMITS, VIEWS
from streams.runtime.core import Output
from streams.runtime.writer import TransactionWriter

pytestmark = pytest.mark.services

OUTPUT = Output(VIEWS.name, b"u", b"{}")


class Slow(list[Output]):
    """Between two outputs the client has time to hear from the broker."""

    def __iter__(self) -> Iterator[Output]:
        for output in super().__iter__():
            yield output
            time.sleep(3)


@pytest.mark.parametrize("outputs", [[OUTPUT], Slow([OUTPUT, OUTPUT])], ids=["at the end", "in between"])
def test_a_writer_whose_id_was_taken_says_so(
    fresh_topics: Connections, unique: Callable[[str], str], outputs: list[Output]
) -> None:
    """A second writer opens under the id. The first one hears of it when it commits, or from `produce`, which only says that
    there was a fatal error."""
    name = unique("writer")
    first, second = (TransactionWriter(fresh_topics, name, 20) for _ in range(2))
    first.open(60)
    second.open(60)
    with pytest.raises(Conflict, match=f"{name} is held by another process, which has taken this partition over"):
        first.write(outputs, [], lambda _: Output(COMMITS.name, b"k", b"{}"), 0)
    assert second.write([OUTPUT], [], lambda _: Output(COMMITS.name, b"k", b"{}"), 0) == -1
